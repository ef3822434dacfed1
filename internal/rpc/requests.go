package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// batches are the methods of which many calls are put into one request, with the method of that.
var batches = map[string]string{methodGet: methodGetMany, methodPut: methodPutMany}

// enqueue puts a request behind the others, when there is room for it.
func (c *Client) enqueue(ctx context.Context, a *call, method string, n int, args func(b []byte) []byte) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	most := maxInFlight
	if c.version > 1 {
		most = maxInFlight2
	}
	for {
		switch {
		case c.broken != nil:
			return c.broken
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case a.done == nil && c.failed != nil:
			return fmt.Errorf("%w: %w", repository.ErrFailed, c.failed)
		}
		if c.calls < most && c.inFlight < maxBytesInFlight {
			break
		}
		c.wake.Wait()
	}
	c.enqueueLocked(a, method, n, args)
	return nil
}

func (c *Client) enqueueLocked(a *call, method string, n int, args func(b []byte) []byte) {
	if c.calls == 0 {
		c.heard = time.Now() // from now on it is waited for
	}
	c.calls++
	if many := batches[method]; many != "" && c.version > 1 {
		c.growLocked(a, many, args)
	} else {
		c.endBatchLocked()
		s := &sent{id: c.nextID, method: method, calls: []*call{a}}
		c.nextID++
		before := len(c.out)
		c.out = beginRequest(c.out, s.id, method, n)
		if args != nil {
			c.out = args(c.out)
		}
		s.size = len(c.out) - before
		c.inFlight += s.size
		c.sent[s.id] = s
	}
	c.wake.Broadcast()
}

// maxBatch is how many bytes of arguments a batch has before it is ended: a server may have a limit not far above that
// of one object.
const maxBatch = 1 << 20

// growLocked adds a call to the batch of a method. It is written when the pipe is free, so that there are the more calls
// in one the busier it is.
func (c *Client) growLocked(a *call, method string, args func(b []byte) []byte) {
	if b := c.batch; b != nil && (b.method != method || len(b.calls) >= maxMany || len(b.body) >= maxBatch) {
		c.endBatchLocked()
	}
	if c.batch == nil {
		c.batch = &sent{id: c.nextID, method: method}
		c.nextID++
		c.sent[c.batch.id] = c.batch
	}
	b := c.batch
	before := len(b.body)
	b.body = args(b.body)
	b.calls = append(b.calls, a)
	b.size += len(b.body) - before
	c.inFlight += len(b.body) - before
}

// endBatchLocked puts the batch behind the other requests.
func (c *Client) endBatchLocked() {
	b := c.batch
	if b == nil {
		return
	}
	c.batch = nil
	c.out = beginRequest(c.out, b.id, b.method, 1)
	switch b.method {
	case methodGetMany: // the ids as one raw, without the header of each
		raw := make([]byte, 0, len(b.calls)*idSize)
		for at := len(b.body); at > 0; at -= 3 + idSize {
			raw = append(raw, b.body[len(b.body)-at+3:][:idSize]...)
		}
		c.out = rawpack.AppendRaw(c.out, raw)
	default:
		c.out = rawpack.AppendArrayHeader(c.out, 2*len(b.calls))
		c.out = append(c.out, b.body...)
	}
	b.body = nil
}

// errEnded is a connection that the other side has ended in order.
var errEnded = errors.New("the server has ended it")

// write writes requests until the conversation is over.
func (c *Client) write(w io.Writer) {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && c.batch == nil && c.broken == nil {
			c.wake.Wait()
		}
		if c.broken != nil {
			c.mu.Unlock()
			return
		}
		c.endBatchLocked()
		ready := c.out
		c.out = spare[:0]
		c.mu.Unlock()
		if _, err := w.Write(ready); err != nil {
			c.lose(err)
			return
		}
		if spare = ready; cap(spare) > 4<<20 {
			spare = nil
		}
	}
}
