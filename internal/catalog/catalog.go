// Package catalog finds the archives of a repository, and reads what is in them: from the manifest to the archives'
// records, from those to the items, and from any of these to the objects with their data.
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/repository"
)

var (
	// ErrNoArchive is matched by the error about an archive that is not in the manifest.
	ErrNoArchive = errors.New("archive does not exist")
	// ErrNoManifest is returned by Manifest for a repository without one, which is either empty or damaged.
	ErrNoManifest = errors.New("repository has no manifest")
)

// A Store holds sealed objects. It must be safe for concurrent use.
type Store interface {
	// Get returns the envelope of an object, which the caller owns.
	Get(ctx context.Context, id repository.ID) ([]byte, error)
}

// Manifest returns the envelope of a repository's manifest, which tells what key is needed.
func Manifest(ctx context.Context, s Store) ([]byte, error) {
	env, err := s.Get(ctx, archive.ManifestID)
	switch {
	case errors.Is(err, repository.ErrNotFound):
		return nil, ErrNoManifest
	case err != nil:
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return env, nil
}

// A Catalog reads the archives of one repository. It is safe for concurrent use as long as nobody changes the manifest.
type Catalog struct {
	Key      *envelope.Key
	Manifest *archive.Manifest
	store    Store
}

// New returns a catalog with the manifest in an envelope. A nil envelope is an empty manifest.
func New(s Store, key *envelope.Key, env []byte) (*Catalog, error) {
	c := &Catalog{Key: key, store: s, Manifest: &archive.Manifest{Archives: map[string]archive.ArchiveRef{}}}
	if env == nil {
		return c, nil
	}
	data, err := key.Open(nil, env)
	if err == nil {
		c.Manifest, err = archive.DecodeManifest(data)
	}
	if err != nil {
		return nil, fmt.Errorf("open the manifest: %w", err)
	}
	if c.Manifest.Archives == nil {
		c.Manifest.Archives = map[string]archive.ArchiveRef{}
	}
	return c, nil
}

// A Putter stores objects.
type Putter interface {
	// Put stores or replaces an object, and does not keep env.
	Put(ctx context.Context, id repository.ID, env []byte) error
}

// Save stores a manifest with other archives in it, which becomes the catalog's. It is for the caller to commit it, and
// to forget the catalog if that fails. The manifest's time tells states of a repository apart, and so it never goes
// back with the clock.
func (c *Catalog) Save(ctx context.Context, s Putter, archives map[string]archive.ArchiveRef) error {
	m := *c.Manifest
	m.Archives = archives
	m.Timestamp = time.Now().UTC().Truncate(time.Microsecond)
	if next := c.Manifest.Timestamp.Add(time.Microsecond); m.Timestamp.Before(next) {
		m.Timestamp = next
	}
	env, err := c.Key.Seal(nil, m.Encode())
	if err == nil {
		err = s.Put(ctx, archive.ManifestID, env)
	}
	if err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	c.Manifest = &m
	return nil
}

// Entry is an archive as the manifest lists it.
type Entry struct {
	Name string
	archive.ArchiveRef
}

// Archives returns the archives, the oldest first.
func (c *Catalog) Archives() []Entry {
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(c.Manifest.Archives)) {
		entries = append(entries, Entry{name, c.Manifest.Archives[name]})
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return entries
}

// Archive returns the record of an archive.
func (c *Catalog) Archive(ctx context.Context, name string) (*archive.Archive, error) {
	ref, ok := c.Manifest.Archives[name]
	if !ok {
		return nil, c.NoArchive(name)
	}
	data, err := c.Get(ctx, ref.ID)
	if err != nil {
		return nil, fmt.Errorf("read the record of archive %q: %w", name, err)
	}
	a, err := archive.DecodeArchive(data)
	if err != nil {
		return nil, fmt.Errorf("read the record of archive %q: %w", name, err)
	}
	return a, nil
}

// NoArchive returns the error about an archive that is not in the manifest.
func (c *Catalog) NoArchive(name string) *NoArchiveError {
	return &NoArchiveError{Name: name, Near: c.near(name)}
}

// NoArchiveError says that there is no archive of a name, and which may have been meant. It matches [ErrNoArchive].
type NoArchiveError struct {
	Name string
	Near []string
}

func (e *NoArchiveError) Error() string {
	msg := fmt.Sprintf("archive %q does not exist", e.Name)
	if len(e.Near) > 0 {
		quoted := make([]string, len(e.Near))
		for i, n := range e.Near {
			quoted[i] = fmt.Sprintf("%q", n)
		}
		msg += "; is it " + strings.Join(quoted, " or ") + "?"
	}
	return msg
}

// Is makes the error match ErrNoArchive.
func (e *NoArchiveError) Is(target error) bool { return target == ErrNoArchive }

// Get returns the data of an object, which the caller owns.
func (c *Catalog) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	env, err := c.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.Key.Open(&id, env)
}

// Read returns the data of n objects in order, or in its place the error about one, after which the rest follows all
// the same. Up to ahead objects are fetched and opened at a time, and no more are kept in memory.
func (c *Catalog) Read(ctx context.Context, n int, id func(i int) repository.ID, ahead int) iter.Seq2[[]byte, error] {
	type result struct {
		data []byte
		err  error
	}
	return func(yield func([]byte, error) bool) {
		if n == 1 || ahead <= 1 {
			for i := range n {
				if data, err := c.Get(ctx, id(i)); !yield(data, err) {
					return
				}
			}
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait() // the store may be closed once this returns
		defer cancel()

		results := make([]chan result, min(n, ahead)) // of object i at i modulo the length
		for i := range results {
			results[i] = make(chan result, 1)
		}
		start := func(i int) {
			running.Go(func() {
				data, err := c.Get(ctx, id(i))
				results[i%len(results)] <- result{data, err}
			})
		}
		for i := range results {
			start(i)
		}
		for i := range n {
			r := <-results[i%len(results)]
			if next := i + len(results); next < n {
				start(next)
			}
			if !yield(r.data, r.err) {
				return
			}
		}
	}
}

// readAhead is how many chunks of an item stream are fetched at a time. They have 64 KiB or so, at most 10 MiB.
const readAhead = 8

// Items returns the items of an archive in order. An error that matches repository.ErrNotFound or
// repository.ErrIntegrity says that some of them are lost; whoever goes on gets those after the gap, if there are any.
// Any other error is the last thing it yields.
func (c *Catalog) Items(ctx context.Context, a *archive.Archive) iter.Seq2[*archive.Item, error] {
	return func(yield func(*archive.Item, error) bool) {
		var dec archive.ItemDecoder
		damaged := func(err error) bool {
			dec.Recover()
			return yield(nil, fmt.Errorf("read the items of archive %q: %w", a.Name, err))
		}
		whole := func() bool { // yields the items that have been fed as a whole
			for {
				it, ok, err := dec.Next()
				switch {
				case err != nil && !damaged(err), err == nil && ok && !yield(it, nil):
					return false
				case err == nil && !ok:
					return true
				}
			}
		}
		i := 0
		for data, err := range c.Read(ctx, len(a.Items), func(i int) repository.ID { return a.Items[i] }, readAhead) {
			i++
			if err != nil {
				err = fmt.Errorf("read the items of archive %q, chunk %d of %d: %w", a.Name, i, len(a.Items), err)
				if !yield(nil, err) || !Lost(err) {
					return
				}
				dec.Skip()
				continue
			}
			if dec.Feed(data); !whole() {
				return
			}
		}
		if err := dec.Close(); err != nil && !damaged(err) {
			return
		}
		whole()
	}
}

// near returns up to three names of archives that may have been meant by one that does not exist.
func (c *Catalog) near(name string) []string {
	type candidate struct {
		name string
		far  int
	}
	var candidates []candidate
	for have := range c.Manifest.Archives {
		far := distance(name, have)
		if strings.HasPrefix(have, name) {
			far = 0
		}
		if far <= max(1, len(name)/3) {
			candidates = append(candidates, candidate{have, far})
		}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range candidates[:min(len(candidates), 3)] {
		names = append(names, c.name)
	}
	return names
}

// distance returns how many bytes must be inserted, removed or replaced to make b of a. Names are cut at 64 bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
