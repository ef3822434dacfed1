package tarball

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/internal/progress"
	"garret/internal/restore"
	"garret/repository"
)

// A Store knows which objects there are.
type Store interface {
	Has(ctx context.Context, id repository.ID) (bool, error)
}

// ExportOptions say what to export, and who is told what.
type ExportOptions struct {
	Match           func(path string) bool // which items; nil: all
	StripComponents int                    // how many names are cut off the front of each path; what has no more is left out
	// Warn is told of each item that is not in the tar as it was, and with an empty path of items that are lost.
	Warn func(path string, err error)
	// Begin, if not nil, is told of the item of each file of which the tar is going to have the content.
	Begin func(it *archive.Item)
	// Stored, if not nil, is told the path in the tar of each entry.
	Stored func(path string)
	// Progress, if not nil, counts along.
	Progress *progress.Files
}

// Export writes an archive as a tar, in the order of its items. A file with several names is in it once, under the first
// of them that is wanted, and the others are links to it.
//
// A file of which chunks are missing or damaged has zeros in their place and is named NAME.damaged, as when it is
// restored; it is reported. Of a file that is larger than 16 MiB, only missing chunks are known before its name is
// written: where others turn out to be damaged it keeps its name. If s is nil, because asking would take too long, that
// goes for missing ones too.
//
// An error ends the export; the tar is then not complete.
func Export(ctx context.Context, s Store, cat *catalog.Catalog, a *archive.Archive, w io.Writer, o ExportOptions) (*Stats, error) {
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	if o.Begin == nil {
		o.Begin = func(*archive.Item) {}
	}
	if o.Stored == nil {
		o.Stored = func(string) {}
	}
	if o.Progress == nil {
		o.Progress = new(progress.Files)
	}
	e := &exporter{
		ExportOptions: o,
		store:         s,
		catalog:       cat,
		archive:       a,
		tar:           tar.NewWriter(w),
		sources:       map[string]*missingSource{},
		whole:         map[pathSum]struct{}{},
	}
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	return &e.stats, nil
}

type exporter struct {
	ExportOptions
	store   Store
	catalog *catalog.Catalog
	archive *archive.Archive
	tar     *tar.Writer
	stats   Stats
	sources map[string]*missingSource
	whole   map[pathSum]struct{} // paths in the archive of the regular files that are in the tar, with all of their content
}

// A missingSource is a file that is not wanted itself, but under other names that come later.
type missingSource struct {
	chunks []archive.Chunk
	met    bool
	path   string // the first of its names that is wanted, which gets the content
}

func (e *exporter) run(ctx context.Context) error {
	if err := e.findSources(ctx); err != nil {
		return err
	}
	q := startQueue(ctx, e.catalog, e.archive, e.plan)
	defer q.stop()
	for j := range q.jobs {
		if err := e.job(ctx, q, j); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return e.tar.Close()
}

// wanted returns the path that an item has in the tar, and whether it is in it.
func (e *exporter) wanted(path string) (string, bool) {
	if e.Match != nil && !e.Match(path) {
		return "", false
	}
	if e.StripComponents == 0 {
		return path, true
	}
	names := strings.Split(path, "/")
	if len(names) <= e.StripComponents || path == "." {
		return "", false
	}
	return strings.Join(names[e.StripComponents:], "/"), true
}

func isHardLink(it *archive.Item) bool {
	return it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.Source != ""
}

// findSources finds the files whose content is needed for other names of them alone, which takes a look at all items.
func (e *exporter) findSources(ctx context.Context) error {
	if e.Match == nil && e.StripComponents == 0 {
		return nil
	}
	for it, err := range e.catalog.Items(ctx, e.archive) {
		if catalog.Lost(err) {
			continue // which is told when the items are exported
		}
		if err != nil {
			return err
		}
		if !isHardLink(it) {
			continue
		}
		if _, ok := e.wanted(it.Path); !ok {
			continue
		}
		if _, ok := e.wanted(it.Source); !ok {
			e.sources[it.Source] = &missingSource{}
		}
	}
	return nil
}

// plan says what is to be done about an item, nil for nothing. It is called in the order of the items, by one goroutine
// that is ahead of the one that writes.
func (e *exporter) plan(it *archive.Item) *job {
	name, ok := e.wanted(it.Path)
	if !ok {
		if s, ok := e.sources[it.Path]; ok && !isHardLink(it) {
			s.chunks, s.met = it.Chunks, it.HasChunks
		}
		return nil
	}
	j := &job{item: it, name: name}
	if isHardLink(it) {
		j.link = it.Source
		if s, ok := e.sources[it.Source]; ok {
			switch {
			case !s.met:
				j.err = fmt.Errorf("is another name of %q, which is not in the archive", it.Source)
			case s.path == "":
				s.path, j.link = it.Path, ""
				it.HasChunks, it.Chunks, it.Source = true, s.chunks, ""
			default:
				j.link = s.path
			}
		}
		j.linkName, _ = e.wanted(j.link)
	}
	return j
}

// job writes an entry, or reports why not. An error is one that ends the export.
func (e *exporter) job(ctx context.Context, q *queue, j *job) error {
	if j.item == nil {
		if !catalog.Lost(j.err) {
			return j.err
		}
		e.warn("", fmt.Errorf("some files are lost: %w", j.err))
		return nil
	}
	h, err := e.header(j)
	if err != nil {
		e.warn(j.item.Path, err)
		return q.skip(j)
	}
	if h.Typeflag == tar.TypeReg {
		return e.file(ctx, q, j, h)
	}
	if ok, err := e.writeHeader(j, h); err != nil || !ok {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		e.whole[sumPath(j.item.Path)] = struct{}{} // which another one may be another name of
	}
	e.count(j, h)
	return nil
}

func (e *exporter) warn(path string, err error) {
	e.stats.Warnings++
	e.Warn(path, err)
}

func (e *exporter) count(j *job, h *tar.Header) {
	e.stats.count(j.item.Mode & fsmeta.TypeMask)
	e.stats.Bytes += h.Size
	if h.Typeflag == tar.TypeReg {
		e.Progress.Files.Add(1)
		e.Progress.At(&j.name)
	}
	e.Stored(h.Name)
}

// writeHeader reports whether an entry was begun. A header that a tar cannot have is reported; an error is one of
// writing.
func (e *exporter) writeHeader(j *job, h *tar.Header) (bool, error) {
	err := e.tar.WriteHeader(h)
	if err == nil {
		return true, nil
	}
	if headErr := tar.NewWriter(io.Discard).WriteHeader(h); headErr != nil { // the writer can go on after such an error
		e.warn(j.item.Path, fmt.Errorf("cannot be in a tar: %w", headErr))
		return false, nil
	}
	return false, err
}

// maxBuffered is how many bytes a file may have to be read as a whole before its name is written.
const maxBuffered = 16 << 20

// file writes the entry of a regular file with its content.
func (e *exporter) file(ctx context.Context, q *queue, j *job, h *tar.Header) error {
	known, err := e.damage(ctx, q, j)
	if err != nil {
		return err
	}
	if known != nil {
		h.Name += restore.DamagedSuffix
	}
	e.Begin(j.item)
	ok, err := e.writeHeader(j, h)
	if err != nil {
		return err
	}
	if !ok {
		return q.skip(j)
	}
	var damage error
	for i, c := range j.item.Chunks {
		data, err := q.chunk(j, i)
		switch {
		case err == nil:
			if j.item.Patched() && j.item.ChunksHealthy[i] != c {
				lack := &catalog.DamageError{Offset: j.offset(i), Size: int64(c.Size), Err: catalog.ErrPatched}
				damage = catalog.AddDamage(damage, lack)
			}
			_, err = e.tar.Write(data)
		case catalog.Lost(err):
			damage = catalog.AddDamage(damage, &catalog.DamageError{Offset: j.offset(i), Size: int64(c.Size), Err: err})
			err = writeZeros(e.tar, int64(c.Size))
		}
		if err != nil {
			return err
		}
		q.release(j)
		e.Progress.Bytes.Add(int64(c.Size))
	}
	e.count(j, h)
	switch {
	case damage == nil:
		e.whole[sumPath(j.item.Path)] = struct{}{}
	case known != nil:
		e.warn(j.item.Path, fmt.Errorf("is damaged, and exported as %q: %w", h.Name, damage))
	default:
		e.warn(j.item.Path, fmt.Errorf("is damaged, which was not known before its name was written: the tar has it with "+
			"zeros in place of what is lost: %w", damage))
	}
	return nil
}

// damage returns what is known to be lost of a file before it is written, in damage.
func (e *exporter) damage(ctx context.Context, q *queue, j *job) (damage, err error) {
	if j.item.Patched() {
		return catalog.ErrPatched, nil
	}
	whole := j.size() <= maxBuffered
	if !whole && e.store == nil {
		return nil, nil
	}
	for i, c := range j.item.Chunks {
		if whole {
			_, err = q.chunk(j, i)
		} else if has, hasErr := e.store.Has(ctx, c.ID); hasErr != nil {
			return nil, hasErr
		} else if !has {
			err = repository.ErrNotFound
		}
		if catalog.Lost(err) {
			return err, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

var zeros [1 << 16]byte

func writeZeros(w io.Writer, n int64) error {
	for n > 0 {
		m, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// header returns the header of an item.
func (e *exporter) header(j *job) (*tar.Header, error) {
	it := j.item
	if j.err != nil {
		return nil, j.err
	}
	if it.Path != backup.SafePath(it.Path) || strings.ContainsRune(it.Path, 0) {
		return nil, errors.New("is not a path that stays in the folder where a tar is extracted")
	}
	typ := it.Mode & fsmeta.TypeMask
	flag, ok := types[typ]
	if !ok {
		return nil, fmt.Errorf("is of a type that a tar does not know (mode %o)", it.Mode)
	}
	h := &tar.Header{
		Format:     tar.FormatPAX,
		Typeflag:   flag,
		Name:       j.name,
		Mode:       int64(it.Mode & fsmeta.PermMask),
		Uid:        int(it.UID),
		Gid:        int(it.GID),
		ModTime:    it.MTime.Time(),
		PAXRecords: map[string]string{},
	}
	if it.User != nil {
		h.Uname = *it.User
	}
	if it.Group != nil {
		h.Gname = *it.Group
	}
	switch flag {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeSymlink:
		h.Linkname = it.Source
	case tar.TypeChar, tar.TypeBlock:
		if it.Rdev == nil {
			return nil, errors.New("is a device without a number in the archive")
		}
		h.Devmajor, h.Devminor = int64(unix.Major(*it.Rdev)), int64(unix.Minor(*it.Rdev))
	case tar.TypeReg:
		if err := e.regular(j, h); err != nil {
			return nil, err
		}
	}
	if flag != tar.TypeDir && (it.Path == "." || j.name == "") {
		return nil, errors.New("is not a directory, and has no name")
	}
	if len(h.Name)+len(h.Linkname)+len(h.Uname)+len(h.Gname) > maxRecords/2 {
		return nil, errors.New("has names that are too long for a tar")
	}
	for _, text := range []string{h.Name, h.Linkname, h.Uname, h.Gname} {
		if !utf8.ValidString(text) {
			h.PAXRecords["hdrcharset"] = "BINARY"
		}
	}
	e.attributes(j, h)
	return h, nil
}

// regular completes the header of a regular file, or makes it one of a hard link.
func (e *exporter) regular(j *job, h *tar.Header) error {
	if j.link == "" {
		if !j.item.HasChunks {
			return errors.New("has neither content nor the name of another file in the archive")
		}
		h.Size = j.size()
		if h.Size > maxExported {
			return fmt.Errorf("claims to have %d bytes, which no file has", h.Size)
		}
		return nil
	}
	if j.link == j.item.Path {
		return errors.New("is another name of itself")
	}
	if _, ok := e.whole[sumPath(j.link)]; !ok {
		return fmt.Errorf("is another name of %q, which is not in the tar as a whole", j.link)
	}
	h.Typeflag, h.Linkname = tar.TypeLink, j.linkName
	return nil
}

// maxExported is the size in bytes of the largest file that is believed: more than any file system holds, and less than
// what overflows a sum.
const maxExported = 1 << 60

// maxRecords is how many bytes of records archive/tar writes for one entry, and reads, less some for the path and the like.
const maxRecords = 1<<20 - 1<<14

// attributes adds the extended attributes and the ACLs.
func (e *exporter) attributes(j *job, h *tar.Header) {
	size := len(h.Name) + len(h.Linkname) + len(h.Uname) + len(h.Gname)
	add := func(key, value string) bool {
		size += len(key) + len(value) + 16
		if size > maxRecords {
			return false
		}
		h.PAXRecords[key] = value
		return true
	}
	complete := true
	if j.item.ACLAccess != nil {
		complete = add(aclAccessKey, tarACL(*j.item.ACLAccess)) && complete
	}
	if j.item.ACLDefault != nil {
		complete = add(aclDefaultKey, tarACL(*j.item.ACLDefault)) && complete
	}
	for name, value := range j.item.Xattrs {
		if name == "" || strings.ContainsRune(name, 0) {
			complete = false
			continue
		}
		complete = add(xattrPrefix+encodeXattrName(name), string(value)) && complete
	}
	if !complete {
		e.warn(j.item.Path, errors.New("has extended attributes that a tar cannot have, or too many of them: some are missing in it"))
	}
}
