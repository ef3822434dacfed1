package cache

import (
	"context"
	"fmt"
	"sync"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/repository"
)

// Progress is how far Sync is.
type Progress struct {
	Archive     string // that is being read
	Done, Total int    // archives
	Items       int64  // that have been read, of all archives
	Bytes       int64  // of their records
}

// Sync makes the table one of the archives in the catalog's manifest. Archives that are gone are forgotten without anything
// being read; the items of those not yet seen are read, and progress, if not nil, is called meanwhile by the same goroutine.
// An archive that is damaged is no error, see Damage; it is read again by the next Sync.
//
// After an error, what has been read is known all the same.
func (c *Chunks) Sync(ctx context.Context, store catalog.Store, cat *catalog.Catalog, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	c.Retain(cat.Manifest)
	for id, e := range c.archives {
		if e.damage != nil {
			c.drop(id)
		}
	}
	var unseen []catalog.Entry
	for _, e := range cat.Archives() {
		if c.archives[e.ID] == nil {
			unseen = append(unseen, e)
		}
	}
	r := reader{chunks: c, sizes: sizedStore{Store: store, sizes: map[repository.ID]uint32{}}, progress: progress}
	var err error
	if r.cat, err = catalog.New(&r.sizes, cat.Key, nil); err != nil {
		return err
	}
	r.at.Total = len(unseen)
	for _, e := range unseen {
		if c.archives[e.ID] != nil {
			continue // seen under another name
		}
		r.at.Archive = e.Name
		clear(r.sizes.sizes)
		if err := r.read(ctx, e); err != nil {
			return fmt.Errorf("find out what archive %q uses: %w", e.Name, err)
		}
		r.at.Done++
	}
	return nil
}

// A reader reads what archives use.
type reader struct {
	chunks   *Chunks
	cat      *catalog.Catalog // of sizes
	sizes    sizedStore
	progress func(Progress)
	at       Progress
}

func (r *reader) read(ctx context.Context, e catalog.Entry) error {
	r.progress(r.at)
	data, err := r.cat.Get(ctx, e.ID)
	record := archive.Chunk{ID: e.ID, Size: uint32(len(data)), CSize: r.sizes.of(e.ID)}
	var a *archive.Archive
	if err == nil {
		a, err = archive.DecodeArchive(data)
	}
	u := r.chunks.NewUses()
	switch {
	case err == nil:
	case !catalog.Lost(err):
		return err
	default:
		record.CSize = 0
		r.chunks.add(record, u, err, []repository.ID{e.ID})
		return nil
	}
	s := itemStream{uses: u}
	i := 0
	for data, err := range r.cat.Read(ctx, len(a.Items), func(i int) repository.ID { return a.Items[i] }, readAhead) {
		id := a.Items[i]
		i++
		switch csize := r.sizes.of(id); {
		case err == nil:
			u.Add(archive.Chunk{ID: id, Size: uint32(len(data)), CSize: csize})
			r.at.Items += s.feed(data)
			r.at.Bytes += int64(len(data))
			r.progress(r.at)
		case catalog.Lost(err):
			s.gap(id, fmt.Errorf("item chunk %d of %d: %w", i, len(a.Items), err))
		default:
			return err
		}
	}
	s.end()
	r.chunks.add(record, u, s.damage, s.lost)
	return nil
}

// readAhead is how many chunks of items are fetched at a time.
const readAhead = 8

// An itemStream takes note of what the items of an archive use.
type itemStream struct {
	uses   *Uses
	dec    archive.ItemDecoder
	failed bool
	damage error // the first
	lost   []repository.ID
}

func (s *itemStream) feed(data []byte) (items int64) {
	if s.failed {
		return 0
	}
	s.dec.Feed(data)
	for {
		it, ok, err := s.dec.Next()
		if err != nil {
			s.fail(err)
			return items
		}
		if !ok {
			return items
		}
		items++
		if it.HasChunks {
			s.uses.Files++
		}
		for _, chunk := range it.Chunks {
			s.uses.Add(chunk)
		}
		for _, chunk := range it.ChunksHealthy { // with which a patched file may yet be healed
			s.uses.use(chunk)
		}
	}
}

func (s *itemStream) gap(id repository.ID, err error) {
	s.lost = append(s.lost, id)
	if s.damage == nil {
		s.damage = err
	}
	s.dec.Skip()
}

func (s *itemStream) end() {
	if err := s.dec.Close(); err != nil && !s.failed {
		s.fail(err)
	}
}

// fail ends the decoding. What follows in the stream is unknown.
func (s *itemStream) fail(err error) {
	s.failed = true
	if s.damage == nil {
		s.damage = err
	}
}

// A sizedStore takes note of the lengths of what is got from it.
type sizedStore struct {
	catalog.Store
	mu    sync.Mutex
	sizes map[repository.ID]uint32
}

func (s *sizedStore) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	env, err := s.Store.Get(ctx, id)
	if err == nil {
		s.mu.Lock()
		s.sizes[id] = uint32(len(env))
		s.mu.Unlock()
	}
	return env, err
}

// of returns the length of an object that was got.
func (s *sizedStore) of(id repository.ID) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sizes[id]
}
