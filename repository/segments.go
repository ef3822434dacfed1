package repository

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"garret/repository/storage"
)

// maxOpenSegments bounds the file descriptors in use. The reference keeps 90; these cover 2.5 GB of segments of the default
// size.
const maxOpenSegments = 512

// segments keeps the most recently used segments open. It is safe for concurrent use: one that is pushed out is closed
// when its last reader is done.
type segments struct {
	store  storage.Storage
	mu     sync.Mutex
	lru    *simplelru.LRU[uint32, *openSegment]
	closed bool
}

// openSegment is a segment in use by as many as refs counts, the cache included.
type openSegment struct {
	storage.Reader
	refs atomic.Int32
}

func newSegments(s storage.Storage) *segments {
	lru, err := simplelru.NewLRU(maxOpenSegments, func(_ uint32, s *openSegment) { s.release() })
	if err != nil {
		panic(err) // the capacity is a positive constant
	}
	return &segments{store: s, lru: lru}
}

// acquire returns a segment, which the caller must release. It fails with ErrClosed after close: a reader that was on its way
// then must open nothing, as nobody would close it.
func (c *segments) acquire(n uint32) (*openSegment, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if s, ok := c.lru.Get(n); ok {
		s.refs.Add(1)
		return s, nil
	}
	r, err := c.store.OpenSegment(n)
	if err != nil {
		return nil, fmt.Errorf("open segment %d: %w", n, err)
	}
	return c.insertLocked(n, r), nil
}

// insert adds a segment that is open already. The caller must release it too.
func (c *segments) insert(n uint32, r storage.Reader) *openSegment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.insertLocked(n, r)
}

func (c *segments) insertLocked(n uint32, r storage.Reader) *openSegment {
	s := &openSegment{Reader: r}
	s.refs.Store(2)
	c.lru.Remove(n) // Add would replace one with the same number, and not release it
	c.lru.Add(n, s)
	return s
}

// forget closes a segment that has been removed or replaced. It is called after that: before, a reader could open the old one
// once more, which would keep its room, or be read in the place of the new one.
func (c *segments) forget(n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(n)
}

func (c *segments) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.lru.Purge()
}

func (s *openSegment) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.Close() // it was read only, or synced
	}
}
