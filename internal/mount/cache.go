package mount

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A cache keeps what was used last, bounded in bytes. What several want at a time is got once. It is safe for concurrent
// use; nobody may change what it returns, which stays valid when the cache has dropped it.
type cache[K comparable, V any] struct {
	ctx   context.Context // ends all that is being got
	get   func(context.Context, K) (V, error)
	bytes func(V) int64
	limit int64         // in bytes
	keep  int           // how many values stay whatever their size
	slots chan struct{} // for what is got ahead
	tasks sync.WaitGroup

	mu      sync.Mutex
	lru     *simplelru.LRU[K, V]
	size    int64
	getting map[K]*task[V]
}

// A task is a value that is on its way.
type task[V any] struct {
	done  chan struct{} // closed when the others are set
	value V
	err   error
}

func newCache[K comparable, V any](ctx context.Context, get func(context.Context, K) (V, error), bytes func(V) int64,
	limit int64, keep, ahead int,
) *cache[K, V] {
	c := &cache[K, V]{
		ctx: ctx, get: get, bytes: bytes, limit: limit, keep: keep,
		slots: make(chan struct{}, ahead), getting: map[K]*task[V]{},
	}
	// An error is about a size that is not positive.
	c.lru, _ = simplelru.NewLRU(math.MaxInt, func(_ K, v V) { c.size -= c.bytes(v) })
	return c
}

// value returns what belongs to a key, and waits for it if it must.
func (c *cache[K, V]) value(key K) (V, error) {
	c.mu.Lock()
	if v, ok := c.lru.Get(key); ok {
		c.mu.Unlock()
		return v, nil
	}
	t, ok := c.getting[key]
	if !ok {
		t = c.beginLocked(key)
	}
	c.mu.Unlock()
	if !ok {
		c.run(key, t)
	}
	<-t.done
	return t.value, t.err
}

// ahead begins to get what belongs to a key, and reports whether it is there or on its way. It does not wait.
func (c *cache[K, V]) ahead(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.getting[key]; ok || c.lru.Contains(key) {
		return true
	}
	if c.ctx.Err() != nil {
		return false
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return false
	}
	t := c.beginLocked(key)
	c.tasks.Go(func() {
		c.run(key, t)
		<-c.slots
	})
	return true
}

func (c *cache[K, V]) beginLocked(key K) *task[V] {
	t := &task[V]{done: make(chan struct{})}
	c.getting[key] = t
	return t
}

// run gets a value for all who wait for it. An error is not kept: the next who asks tries again.
func (c *cache[K, V]) run(key K, t *task[V]) {
	t.err = errPanic
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.getting, key)
		if t.err == nil {
			c.lru.Add(key, t.value)
			c.size += c.bytes(t.value)
			for c.size > c.limit && c.lru.Len() > c.keep {
				c.lru.RemoveOldest()
			}
		}
		close(t.done)
	}()
	t.value, t.err = c.get(c.ctx, key)
}

// errPanic is for those who wait for what another failed to get by a panic, which ends that one's request.
var errPanic = errors.New("another request for the same has failed")
