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
		if ctx.Err() == nil {
			var err error
			if *t.chunk, err = p.chunks.add(ctx, *t.data); err != nil {
				p.fail(fmt.Errorf("store a piece of %q: %w", t.entry.path, err))
			}
		}
		p.room.giveBack(t.data)
		t.entry.tasks.Done()
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
	known   map[repository.ID]uint32        // chunks in the repository, and the lengths of their envelopes
	pending map[repository.ID]chan struct{} // chunks that somebody looks after; closed when that is over
}

func newChunkStore(store Store, key *envelope.Key) *chunkStore {
	return &chunkStore{
		store:   store,
		key:     key,
		known:   map[repository.ID]uint32{},
		pending: map[repository.ID]chan struct{}{},
	}
}

// add makes sure that data is in the repository.
func (s *chunkStore) add(ctx context.Context, data []byte) (archive.Chunk, error) {
	c := archive.Chunk{ID: s.key.ID(data), Size: uint32(len(data))}
	for {
		s.mu.Lock()
		csize, known := s.known[c.ID]
		wait, pending := s.pending[c.ID]
		done := make(chan struct{})
		if !known && !pending {
			s.pending[c.ID] = done
		}
		s.mu.Unlock()
		switch {
		case known:
			c.CSize = csize
			return c, nil
		case pending:
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return c, context.Cause(ctx)
			}
		}
		csize, err := s.ensure(ctx, c.ID, data)
		s.mu.Lock()
		delete(s.pending, c.ID)
		if err == nil {
			s.known[c.ID] = csize
		}
		s.mu.Unlock()
		close(done)
		c.CSize = csize
		return c, err
	}
}

// ensure stores an object unless it is there, and returns the length of its envelope. An item states that length, so
// an object that this backup meets for the first time has to be read for it; what is damaged is found out by the way,
// and replaced.
func (s *chunkStore) ensure(ctx context.Context, id repository.ID, data []byte) (uint32, error) {
	has, err := s.store.Has(ctx, id)
	if err != nil {
		return 0, err
	}
	if has {
		env, err := s.store.Get(ctx, id)
		if err == nil {
			return uint32(len(env)), nil
		}
		if !errors.Is(err, repository.ErrIntegrity) {
			return 0, err
		}
	}
	buf, ok := s.bufs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer s.bufs.Put(buf)
	env, err := s.key.Seal((*buf)[:0], data)
	if err != nil {
		return 0, err
	}
	*buf = env
	if err := s.store.Put(ctx, id, env); err != nil {
		return 0, err
	}
	s.newChunks.Add(1)
	s.newBytes.Add(int64(len(env)))
	return uint32(len(env)), nil
}
