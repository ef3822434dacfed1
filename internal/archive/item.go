// Package archive encodes and decodes the records of which archives are made.
package archive

import (
	"time"

	"garret/repository"
)

// A Chunk is a piece of a file's content.
type Chunk struct {
	ID    repository.ID
	Size  uint32 // of the data, in bytes
	CSize uint32 // of the stored envelope, in bytes
}

// Nanos is a time in nanoseconds since 1970 UTC, whatever the century. Sec is rounded down, so that Nsec is within 0 and
// 999,999,999 always.
type Nanos struct {
	Sec  int64
	Nsec uint32
}

// NanosOf returns the time of t.
func NanosOf(t time.Time) Nanos { return Nanos{t.Unix(), uint32(t.Nanosecond())} }

// Time returns the time in UTC.
func (n Nanos) Time() time.Time { return time.Unix(n.Sec, int64(n.Nsec)).UTC() }

// An Item is one file, directory, link or other thing in an archive. Strings hold the bytes as the system has them,
// UTF-8 or not.
type Item struct {
	Path       string
	Mode       uint32 // st_mode: type and permissions
	UID, GID   uint32
	User       *string // the owner's name; nil where there is none
	Group      *string
	MTime      Nanos
	HasChunks  bool // whether the item has content, as regular files do, hard links apart
	Chunks     []Chunk
	Source     string // a symbolic link's target, or the path of the item that a hard link is another name of
	Rdev       *uint64
	Xattrs     map[string][]byte // nil and empty are the same: not written
	ACLAccess  *string
	ACLDefault *string
	BSDFlags   *uint64
}

// AppendItem appends the item's record to dst.
func AppendItem(dst []byte, it *Item) []byte { panic("not yet") }
