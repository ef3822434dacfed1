// Package archive encodes and decodes the records of which archives are made.
//
// All records are msgpack maps of the old specification (see rawpack), their keys in sorted order, except that the
// archives of the manifest are in the order in which they were added; text is the bytes that
// the system has, UTF-8 or not. The manifest is the object with the id [ManifestID]:
//
//	{archives: {name: {id [32], time}, ...}, config: {}, timestamp, version: 1}
//
// Each archive has one record:
//
//	{cmdline: [argument, ...], hostname, items: [id [32], ...], name, time, username, version: 1}
//
// with comment, a text, and tags, [text, ...], where there are any: Attic passes over keys that it does not know.
//
// Times are ISO 8601 in UTC, with six decimals or, when they are zero, none: 2014-05-13T16:53:20.123456. The chunks that
// items names, one after another, are the stream of items. [ItemWriter] says how it is cut. An item is
//
//	acl_access, acl_default   text, only where there is an extended ACL
//	bsdflags                  where the system has them
//	chunks                    [[id [32], size, csize], ...], regular files only
//	chunks_healthy            the same, as chunks was before a repair put zeros in the place of lost ones; only then
//	gid, uid                  numbers
//	group, user               text or nil
//	mode                      st_mode
//	mtime                     nanoseconds since 1970; beyond 63 bits they are raw, little-endian two's complement, in
//	                          (bit length + 9) / 8 bytes
//	path                      text, relative
//	rdev                      character and block devices
//	source                    of a symbolic link its target; of a hard link (of regular mode, without chunks) the path
//	                          of the first of its names
//	xattrs                    {name: value}; an empty value is nil
//
// Decoding takes whatever it is given: it fails with an error that matches [repository.ErrIntegrity] and
// allocates in proportion to the length of its input. Keys that it does not know are kept: see [Unknown]. What is whole and of
// a version or a form that is to come is no damage: the error matches [repository.ErrNewer] then.
package archive

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// ManifestID is the id of the manifest: 32 zero bytes.
var ManifestID repository.ID

// recordVersion is the version of the manifest and of archives' records. It is wire format.
const recordVersion = 1

// A Manifest is the root of a repository: it names the archives.
type Manifest struct {
	Archives  map[string]ArchiveRef
	Timestamp time.Time // when it was written, UTC; whole microseconds are kept. Zero: not known, not written
	Config    []byte    // a msgpack map, kept as it was read; nil is an empty one

	Unknown Unknown

	order []string // the archives' names in the order in which they were read
}

// An ArchiveRef says where an archive's record is.
type ArchiveRef struct {
	ID      repository.ID
	Time    time.Time // UTC; whole microseconds are kept
	Unknown Unknown
}

// DecodeManifest reads a manifest. Errors match repository.ErrIntegrity, or repository.ErrNewer for a version to come.
func DecodeManifest(data []byte) (*Manifest, error) {
	m := &Manifest{Archives: make(map[string]ArchiveRef)}
	var version int64
	var unknown []byte
	r := rawpack.NewReader(data)
	r.Map(func(key string) {
		switch key {
		case "version":
			version = r.Int(0, math.MaxInt64)
		case "archives":
			r.Map(func(name string) {
				if _, twice := m.Archives[name]; !twice {
					m.order = append(m.order, name)
				}
				m.Archives[name] = readArchiveRef(r)
			})
		case "timestamp":
			m.Timestamp = readTime(r)
		case "config":
			start := rawpack.NewReader(data[len(data)-r.Len():])
			if start.MapLen(); start.Err() != nil {
				r.Failf("config: it is not a map")
			}
			m.Config = bytes.Clone(r.Value())
		default:
			unknown = appendPair(unknown, key, r)
		}
	})
	r.End()
	if err := recordError("manifest", data, r, version); err != nil {
		return nil, err
	}
	m.Unknown = Unknown(unknown)
	return m, nil
}

// recordError returns what was wrong with a record.
func recordError(what string, data []byte, r *rawpack.Reader, version int64) error {
	if r.Err() == nil && version == recordVersion {
		return nil
	}
	if err := newer(what, data); err != nil {
		return err
	}
	err := r.Err()
	if err == nil {
		err = fmt.Errorf("its version is %d", version)
	}
	return fmt.Errorf("decode %s: %w: %w", what, err, repository.ErrIntegrity)
}

func readArchiveRef(r *rawpack.Reader) (ref ArchiveRef) {
	hasID := false
	var unknown []byte
	r.Map(func(key string) {
		switch key {
		case "id":
			ref.ID, hasID = readID(r), true
		case "time":
			ref.Time = readTime(r)
		default:
			unknown = appendPair(unknown, key, r)
		}
	})
	if !hasID {
		r.Failf("an archive has no id")
	}
	ref.Unknown = Unknown(unknown)
	return ref
}

// names returns the names of the archives: first those that were read, in their order, then the others, sorted.
func (m *Manifest) names() []string {
	names := make([]string, 0, len(m.Archives))
	fresh := maps.Clone(m.Archives)
	for _, name := range m.order {
		if _, ok := m.Archives[name]; ok {
			names = append(names, name)
			delete(fresh, name)
		}
	}
	return append(names, slices.Sorted(maps.Keys(fresh))...)
}

// Encode returns the manifest's record. It does not change the manifest.
func (m *Manifest) Encode() []byte {
	n := 4 + m.Unknown.len()
	if m.Timestamp.IsZero() {
		n--
	}
	b := rawpack.AppendMapHeader(nil, n)
	b = rawpack.AppendRaw(b, "archives")
	b = rawpack.AppendMapHeader(b, len(m.Archives))
	for _, name := range m.names() {
		ref := m.Archives[name]
		b = rawpack.AppendRaw(b, name)
		b = rawpack.AppendMapHeader(b, 2+ref.Unknown.len())
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, "id"), ref.ID[:])
		b = append(appendTime(rawpack.AppendRaw(b, "time"), ref.Time), ref.Unknown...)
	}
	b = rawpack.AppendRaw(b, "config")
	if m.Config != nil {
		b = append(b, m.Config...)
	} else {
		b = rawpack.AppendMapHeader(b, 0)
	}
	if !m.Timestamp.IsZero() {
		b = appendTime(rawpack.AppendRaw(b, "timestamp"), m.Timestamp)
	}
	return append(rawpack.AppendInt(rawpack.AppendRaw(b, "version"), recordVersion), m.Unknown...)
}

// An Archive is the record of an archive.
type Archive struct {
	Name     string
	Items    []repository.ID // the chunks of the item stream, in order
	Cmdline  []string
	Hostname string
	Username string
	Time     time.Time // UTC; whole microseconds are kept
	Comment  string    // what a person says of it
	Tags     []string  // see CheckTag

	Unknown Unknown
}

// DecodeArchive reads an archive's record. Errors match repository.ErrIntegrity, or repository.ErrNewer for a version to come.
func DecodeArchive(data []byte) (*Archive, error) {
	a := new(Archive)
	var version int64
	var unknown []byte
	r := rawpack.NewReader(data)
	r.Map(func(key string) {
		switch key {
		case "version":
			version = r.Int(0, math.MaxInt64)
		case "name":
			a.Name = r.Text()
		case "items":
			n := r.ArrayLen()
			if n > r.Len()/minIDSize {
				r.Failf("items: %d cannot be there", n)
				return
			}
			a.Items = make([]repository.ID, 0, n)
			for range n {
				a.Items = append(a.Items, readID(r))
			}
		case "cmdline":
			a.Cmdline = readTexts(r, "cmdline")
		case "comment":
			a.Comment = r.Text()
		case "tags":
			a.Tags = readTexts(r, "tags")
		case "hostname":
			a.Hostname = r.Text()
		case "username":
			a.Username = r.Text()
		case "time":
			a.Time = readTime(r)
		default:
			unknown = appendPair(unknown, key, r)
		}
	})
	r.End()
	if err := recordError("archive", data, r, version); err != nil {
		return nil, err
	}
	a.Unknown = Unknown(unknown)
	return a, nil
}

// Encode returns the archive's record.
func (a *Archive) Encode() []byte {
	n := 7 + a.Unknown.len()
	if a.Comment != "" {
		n++
	}
	if len(a.Tags) > 0 {
		n++
	}
	b := rawpack.AppendMapHeader(nil, n)
	b = appendTexts(rawpack.AppendRaw(b, "cmdline"), a.Cmdline)
	if a.Comment != "" {
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, "comment"), a.Comment)
	}
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "hostname"), a.Hostname)
	b = rawpack.AppendRaw(b, "items")
	b = rawpack.AppendArrayHeader(b, len(a.Items))
	for _, id := range a.Items {
		b = rawpack.AppendRaw(b, id[:])
	}
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "name"), a.Name)
	if len(a.Tags) > 0 {
		b = appendTexts(rawpack.AppendRaw(b, "tags"), a.Tags)
	}
	b = appendTime(rawpack.AppendRaw(b, "time"), a.Time)
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "username"), a.Username)
	return append(rawpack.AppendInt(rawpack.AppendRaw(b, "version"), recordVersion), a.Unknown...)
}

// readTexts reads an array of texts.
func readTexts(r *rawpack.Reader, what string) (texts []string) {
	n := r.ArrayLen()
	if n > maxArguments {
		r.Failf("%s: %d are too many", what, n)
	}
	for i := 0; i < n && r.Err() == nil; i++ {
		texts = append(texts, r.Text())
	}
	return texts
}

func appendTexts(b []byte, texts []string) []byte {
	b = rawpack.AppendArrayHeader(b, len(texts))
	for _, text := range texts {
		b = rawpack.AppendRaw(b, text)
	}
	return b
}

// maxArguments is the greatest number of arguments, or of tags, that are read: more than a system can pass to a program, and
// few enough that empty ones do not take much more memory than the record.
const maxArguments = 4 << 20

// minIDSize is the number of bytes that an id takes in a record at least.
const minIDSize = 2 + len(repository.ID{})

func readID(r *rawpack.Reader) (id repository.ID) {
	if raw := r.Raw(); len(raw) == len(id) {
		copy(id[:], raw)
	} else {
		r.Failf("an id has %d bytes instead of %d", len(raw), len(id))
	}
	return id
}

// timeFormat is wire format. Parsing takes decimals too.
const timeFormat = "2006-01-02T15:04:05"

func readTime(r *rawpack.Reader) time.Time {
	raw := r.Raw()
	t, err := time.Parse(timeFormat, string(raw[:min(len(raw), 40)]))
	if err != nil {
		r.Failf("%.40q is not a time", raw)
	}
	return t.Truncate(time.Microsecond)
}

func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Nanosecond() == 0 {
		return rawpack.AppendRaw(b, t.Format(timeFormat))
	}
	return rawpack.AppendRaw(b, t.Format(timeFormat+".000000"))
}

// LooksLikeArchive reports whether data is a map with all the keys that an archive's record has. It is for those who look
// for records among other objects; DecodeArchive takes less.
func LooksLikeArchive(data []byte) bool {
	if len(data) == 0 || !isMap(data[0]) {
		return false
	}
	var seen int
	r := rawpack.NewReader(data)
	for range min(r.MapLen(), 100) {
		switch string(r.Raw()) {
		case "version", "name", "items", "cmdline", "hostname", "username", "time":
			seen++
		}
		r.Value()
	}
	r.End()
	return r.Err() == nil && seen == 7
}
