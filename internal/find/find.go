// Package find looks for files in many archives.
//
// Archives of the same files have most chunks of their items in common. What a chunk has in it depends on the chunk and on
// the beginning of an item that the one before it has left over; so what was found in it is remembered for both, and where
// they come again in another archive, nothing is read.
package find

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

// A Version is a file as it is in some of the archives. Two items are of the same version if path, type, size, content,
// time, target and flaw are the same; permissions and owners do not matter.
type Version struct {
	Path   string
	Mode   uint32 // of the first archive that has it
	Size   int64  // of the content, in bytes
	MTime  archive.Nanos
	Source string // a symbolic link's target, or the path that a hard link is another name of
	Flaw   archive.Flaw
	// Runs are the archives that have it, as ranges of indexes into those that were searched, ascending.
	Runs []Run

	content [sha256.Size]byte
}

// A Run is a range of archives one after another.
type Run struct{ First, Last int }

// Archives returns how many archives have the version.
func (v *Version) Archives() (n int) {
	for _, r := range v.Runs {
		n += r.Last - r.First + 1
	}
	return n
}

// Options say what to look for.
type Options struct {
	Match func(path string) bool // which paths
	// Warn is told of archives, and of parts of them, that cannot be searched.
	Warn func(err error)
}

// Versions looks for files in archives, in the order given. It returns their versions, in the order of paths, those of one path
// by the first archive that has them.
func Versions(ctx context.Context, cat *catalog.Catalog, names []string, o Options) ([]*Version, error) {
	f := &finder{
		Options:  o,
		catalog:  cat,
		versions: map[identity]*Version{},
		seen:     map[repository.ID]struct{}{},
		memory:   map[place]found{},
	}
	if f.Warn == nil {
		f.Warn = func(error) {}
	}
	for i, name := range names {
		f.index = i
		a, err := cat.Archive(ctx, name)
		if err == nil {
			err = f.archive(ctx, a)
		}
		switch {
		case catalog.Lost(err):
			f.Warn(err)
		case err != nil:
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(f.versions), func(a, b *Version) int {
		return cmp.Or(archive.ComparePaths(a.Path, b.Path), cmp.Compare(a.Runs[0].First, b.Runs[0].First),
			cmp.Compare(a.MTime.Sec, b.MTime.Sec), cmp.Compare(a.MTime.Nsec, b.MTime.Nsec), slices.Compare(a.content[:], b.content[:]))
	}), nil
}

type finder struct {
	Options
	catalog  *catalog.Catalog
	index    int // of the archive at hand
	versions map[identity]*Version

	seen   map[repository.ID]struct{} // chunks of items that have been met
	memory map[place]found
}

// identity tells versions apart.
type identity struct {
	path, source string
	typ          uint32
	size         int64
	mtime        archive.Nanos
	content      [sha256.Size]byte
	flaw         archive.Flaw
}

// place is a chunk after a rest of the one before it.
type place struct {
	chunk repository.ID
	rest  [sha256.Size]byte
}

// found is what is in a chunk.
type found struct {
	versions []*Version
	rest     []byte // left over
}

// maxRest is the longest rest that is remembered.
const maxRest = 4 << 10

// readAhead is how many chunks are fetched at a time.
const readAhead = 8

// archive searches one archive.
func (f *finder) archive(ctx context.Context, a *archive.Archive) error {
	dec := new(archive.ItemDecoder)
	for i := 0; i < len(a.Items); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.recall(dec, a.Items[i]) {
			i++
			continue
		}
		// It must be read, and those that have never been met too.
		end := i + 1
		for end < len(a.Items) && !f.hasSeen(a.Items[end]) {
			end++
		}
		ids := a.Items[i:end]
		n := 0
		for data, err := range f.catalog.Read(ctx, len(ids), func(i int) repository.ID { return ids[i] }, readAhead) {
			if err != nil {
				err = fmt.Errorf("read the items of archive %q, chunk %d of %d: %w", a.Name, i+n+1, len(a.Items), err)
				if !catalog.Lost(err) {
					return err
				}
				f.Warn(err)
				dec.Skip()
			} else {
				f.chunk(dec, a.Name, ids[n], data)
			}
			n++
		}
		i = end
	}
	if err := dec.Close(); err != nil {
		f.skip(dec, a.Name, err)
	}
	f.items(dec, a.Name)
	return nil
}

// skip goes on behind what is no item.
func (f *finder) skip(dec *archive.ItemDecoder, name string, err error) {
	f.Warn(fmt.Errorf("read the items of archive %q: %w", name, err))
	dec.Recover()
}

// items returns the versions that match among the items that have been fed, and whether there was nothing else.
func (f *finder) items(dec *archive.ItemDecoder, name string) (versions []*Version, sound bool) {
	for sound = true; ; {
		it, ok, err := dec.Next()
		switch {
		case err != nil:
			sound = false
			f.skip(dec, name, err)
		case !ok:
			return versions, sound
		case f.Match(it.Path):
			v := f.version(it)
			f.met(v)
			versions = append(versions, v)
		}
	}
}

func (f *finder) hasSeen(id repository.ID) bool {
	_, ok := f.seen[id]
	return ok
}

// recall takes what is remembered of a chunk, if there is something.
func (f *finder) recall(dec *archive.ItemDecoder, id repository.ID) bool {
	if !f.hasSeen(id) {
		return false
	}
	rest, ok := dec.Rest()
	if !ok || len(rest) > maxRest {
		return false
	}
	known, ok := f.memory[place{id, sha256.Sum256(rest)}]
	if !ok {
		return false
	}
	for _, v := range known.versions {
		f.met(v)
	}
	*dec = archive.ItemDecoder{}
	dec.Feed(known.rest)
	return true
}

// chunk searches a chunk, and remembers what was found.
func (f *finder) chunk(dec *archive.ItemDecoder, name string, id repository.ID, data []byte) {
	f.seen[id] = struct{}{}
	rest, ok := dec.Rest()
	ok = ok && len(rest) <= maxRest
	var at place
	if ok {
		at = place{id, sha256.Sum256(rest)}
	}
	dec.Feed(data)
	versions, sound := f.items(dec, name)
	if rest, whole := dec.Rest(); ok && sound && whole && len(rest) <= maxRest {
		f.memory[at] = found{versions, slices.Clone(rest)}
	}
}

// version returns the version of an item.
func (f *finder) version(it *archive.Item) *Version {
	id := identity{path: it.Path, source: it.Source, typ: it.Mode & fsmeta.TypeMask, mtime: it.MTime, flaw: it.Flaw()}
	h := sha256.New()
	for i := range it.Chunks {
		h.Write(it.Chunks[i].ID[:])
		id.size += int64(it.Chunks[i].Size)
	}
	h.Sum(id.content[:0])
	v, ok := f.versions[id]
	if !ok {
		v = &Version{
			Path: it.Path, Mode: it.Mode, Size: id.size, MTime: it.MTime, Source: it.Source, Flaw: id.flaw, content: id.content,
		}
		f.versions[id] = v
	}
	return v
}

// met notes that the archive at hand has a version.
func (f *finder) met(v *Version) {
	last := len(v.Runs) - 1
	switch {
	case last >= 0 && v.Runs[last].Last == f.index:
	case last >= 0 && v.Runs[last].Last == f.index-1:
		v.Runs[last].Last++
	default:
		v.Runs = append(v.Runs, Run{f.index, f.index})
	}
}
