package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/repository"
)

// A task is to store a piece of content.
type task struct {
	data  *[]byte
	chunk *archive.Chunk // where to say what became of it
	entry *entry
}

// seal does tasks until there are no more.
func (p *pipeline) seal(ctx context.Context) {
	for t := range p.tasks {
		p.still.RLock()
		if ctx.Err() == nil {
			if c, err := p.chunks.add(ctx, *t.data); err == nil {
				*t.chunk = c
			} else {
				p.fail(fmt.Errorf("store a piece of %q: %w", t.entry.path, err))
			}
		}
		p.still.RUnlock()
		p.room.giveBack(t.data)
		t.entry.finish()
	}
}

// A room bounds the memory of the tasks there are at a time.
type room struct {
	size    int64
	free    *semaphore.Weighted
	buffers sync.Pool
}

func newRoom(size int64) *room { return &room{size: size, free: semaphore.NewWeighted(size)} }

// copyOf returns a copy of data, as soon as there is room for it.
func (r *room) copyOf(ctx context.Context, data []byte) (*[]byte, error) {
	if err := r.free.Acquire(ctx, min(int64(len(data)), r.size)); err != nil {
		return nil, err
	}
	buf, ok := r.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	*buf = append((*buf)[:0], data...)
	return buf, nil
}

func (r *room) giveBack(buf *[]byte) {
	r.free.Release(min(int64(len(*buf)), r.size))
	r.buffers.Put(buf)
}

// A chunkStore stores each chunk once. It is safe for concurrent use.
type chunkStore struct {
	store Store
	key   *envelope.Key
	bufs  sync.Pool

	newChunks atomic.Int64
	newBytes  atomic.Int64

	mu      sync.Mutex
	known   map[repository.ID]uint32        // chunks in the repository: the lengths of their envelopes, and unused
	pending map[repository.ID]chan struct{} // chunks that somebody looks after; closed when that is over
	temporary
}

// unused is set in the length of a chunk that this backup has stored and that no item has yet.
const unused = 1 << 31

func newChunkStore(store Store, key *envelope.Key) *chunkStore {
	return &chunkStore{
		store:     store,
		key:       key,
		known:     map[repository.ID]uint32{},
		pending:   map[repository.ID]chan struct{}{},
		temporary: temporary{ids: map[repository.ID]int{}},
	}
}

// add makes sure that data is in the repository. Whoever puts the chunk into an item calls use.
func (s *chunkStore) add(ctx context.Context, data []byte) (archive.Chunk, error) {
	c := archive.Chunk{ID: s.key.ID(data), Size: uint32(len(data))}
	for {
		s.mu.Lock()
		delete(s.temporary.ids, c.ID)
		csize, known := s.known[c.ID]
		wait, pending := s.pending[c.ID]
		done := make(chan struct{})
		if !known && !pending {
			s.pending[c.ID] = done
		}
		s.mu.Unlock()
		switch {
		case known:
			c.CSize = csize &^ unused
			return c, nil
		case pending:
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return c, context.Cause(ctx)
			}
		}
		csize, isNew, err := s.ensure(ctx, c.ID, data)
		s.mu.Lock()
		delete(s.pending, c.ID)
		if err == nil {
			s.known[c.ID] = csize
			if isNew {
				s.known[c.ID] |= unused
			}
		}
		s.mu.Unlock()
		close(done)
		if isNew {
			s.newChunks.Add(1)
			s.newBytes.Add(int64(csize))
		}
		c.CSize = csize
		return c, err
	}
}

// use notes that an item has chunks.
func (s *chunkStore) use(chunks ...archive.Chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range chunks {
		if csize := s.known[chunks[i].ID]; csize&unused != 0 {
			s.known[chunks[i].ID] = csize &^ unused
		}
	}
}

// dropUnused deletes what this backup has stored and no item has: of files that could not be read to their end.
func (s *chunkStore) dropUnused(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, csize := range s.known {
		if csize&unused == 0 {
			continue
		}
		if err := s.store.Delete(ctx, id); err != nil {
			if errors.Is(err, repository.ErrAppendOnly) {
				s.known[id] = csize &^ unused // it is there for good
				continue
			}
			return err
		}
		delete(s.known, id)
	}
	return nil
}

// reuse reports whether chunks that were stored once are in the repository still.
func (s *chunkStore) reuse(ctx context.Context, chunks []archive.Chunk) (bool, error) {
	for i := range chunks {
		c := &chunks[i]
		s.mu.Lock()
		delete(s.temporary.ids, c.ID)
		_, known := s.known[c.ID]
		s.mu.Unlock()
		if known {
			continue
		}
		has, err := s.store.Has(ctx, c.ID)
		if err != nil || !has {
			return false, err
		}
		s.mu.Lock()
		if _, known := s.known[c.ID]; !known {
			s.known[c.ID] = c.CSize
		}
		s.mu.Unlock()
	}
	return true, nil
}

// ensure stores an object unless it is there, and returns the length of its envelope, and whether it was not there.
func (s *chunkStore) ensure(ctx context.Context, id repository.ID, data []byte) (uint32, bool, error) {
	size, err := s.store.Size(ctx, id)
	switch {
	case err == nil:
		return uint32(size), false, nil
	case !errors.Is(err, repository.ErrNotFound) && !errors.Is(err, repository.ErrIntegrity):
		return 0, false, err
	}
	buf, ok := s.bufs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer s.bufs.Put(buf)
	env, err := s.key.Seal((*buf)[:0], data)
	if err != nil {
		return 0, false, err
	}
	*buf = env
	if err := s.store.Put(ctx, id, env); err != nil {
		return 0, false, err
	}
	return uint32(len(env)), true, nil
}
