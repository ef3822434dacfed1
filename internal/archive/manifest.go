package archive

import (
	"time"

	"garret/repository"
)

// ManifestID is the id of the manifest: 32 zero bytes.
var ManifestID repository.ID

// A Manifest is the root of a repository: it names the archives.
type Manifest struct {
	Archives  map[string]ArchiveRef
	Timestamp time.Time // when it was written, UTC; whole microseconds are kept
	Config    []byte    // a msgpack map, kept as it was read; nil is an empty one
}

// An ArchiveRef says where an archive's record is.
type ArchiveRef struct {
	ID   repository.ID
	Time time.Time // UTC; whole microseconds are kept
}

// DecodeManifest reads a manifest. Errors match repository.ErrIntegrity, or repository.ErrInvalid for an unknown version.
func DecodeManifest(data []byte) (*Manifest, error) { panic("not yet") }

// Encode returns the manifest's record.
func (m *Manifest) Encode() []byte { panic("not yet") }

// An Archive is the record of an archive.
type Archive struct {
	Version  int // 1; 0 is written as 1
	Name     string
	Items    []repository.ID // the chunks of the item stream, in order
	Cmdline  []string
	Hostname string
	Username string
	Time     time.Time // UTC; whole microseconds are kept
}

// DecodeArchive reads an archive's record. Errors match repository.ErrIntegrity, or repository.ErrInvalid for an unknown
// version.
func DecodeArchive(data []byte) (*Archive, error) { panic("not yet") }

// Encode returns the archive's record.
func (a *Archive) Encode() []byte { panic("not yet") }
