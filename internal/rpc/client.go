package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync"

	"garret/internal/rawpack"
	"garret/repository"
)

// Bounds of what a client has asked for and not got an answer to. Attic's client has the first too.
const (
	maxInFlight      = 100
	maxBytesInFlight = 32 << 20
)

// A Client is a repository at the other end of a pipe. Its methods do as those of repository.Repository, save that Put
// and Delete return before it is known whether they could be done: the next Commit fails if not. It is safe for
// concurrent use; calls that are made side by side are under way together.
//
// After an error that matches ErrConnection nothing more can be done with it. What was committed before is committed; what
// was not, the server rolls back; whether a Commit that was under way has been done is not known.
type Client struct {
	version int
	path    string
	id      repository.ID
	closer  io.Closer

	mu       sync.Mutex
	wake     *sync.Cond // something of what is below has changed
	out      []byte     // requests that are to be written
	calls    map[uint64]*call
	nextID   uint64
	inFlight int   // bytes of requests without an answer
	broken   error // why nothing more can be done
	failed   error // of a put or delete of this transaction that nobody waited for
	closed   bool

	writing, reading sync.WaitGroup
}

// A call is a request whose answer is awaited.
type call struct {
	method string
	size   int
	msg    []byte // the answer
	err    error
	done   chan struct{} // nil: nobody waits
}

// NewClient begins a conversation over a pipe and opens the repository at a path, or makes it. closer ends the pipe:
// after it, reads and writes fail. It is called when the conversation is over, for whatever reason.
func NewClient(
	ctx context.Context, in io.Reader, out io.Writer, closer io.Closer, path string, create bool,
) (*Client, error) {
	c := &Client{path: path, closer: closer, calls: map[uint64]*call{}, nextID: 1}
	c.wake = sync.NewCond(&c.mu)
	c.writing.Go(func() { c.write(out) })
	c.reading.Go(func() { c.read(in) })
	err := c.begin(ctx, create)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) begin(ctx context.Context, create bool) error {
	r, err := c.call(ctx, methodNegotiate, func(b []byte) []byte { return rawpack.AppendInt(b, 1) }, 1)
	if err != nil {
		return err
	}
	if c.version = int(r.Int(0, math.MaxInt32)); r.Err() != nil || c.version != 1 {
		return fmt.Errorf("%w: the server speaks version %d, which is not known", ErrConnection, c.version)
	}
	r, err = c.call(ctx, methodOpen, func(b []byte) []byte {
		return appendBool(rawpack.AppendRaw(b, c.path), create)
	}, 2)
	if err != nil {
		return err
	}
	c.id = readID(r)
	return c.answered(methodOpen, r)
}

// answered returns an error if the result of a call was not as it should be. The conversation cannot go on then.
func (c *Client) answered(method string, r *rawpack.Reader) error {
	if err := r.Err(); err != nil {
		err = fmt.Errorf("%w: the answer to %s makes no sense: %w", ErrConnection, method, err)
		c.fail(err)
		return err
	}
	return nil
}

// ID returns the repository's id.
func (c *Client) ID() repository.ID { return c.id }

// String returns where the repository is, as the server was told.
func (c *Client) String() string { return c.path }

// Get returns the value of an object, which the caller owns.
func (c *Client) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	r, err := c.call(ctx, methodGet, func(b []byte) []byte { return rawpack.AppendRaw(b, id[:]) }, 1)
	if err != nil {
		return nil, fmt.Errorf("get %v: %w", id, err)
	}
	data := r.Raw()
	return data, c.answered(methodGet, r)
}

// Put stores or replaces an object, and does not keep data.
func (c *Client) Put(ctx context.Context, id repository.ID, data []byte) error {
	if len(data) > repository.MaxObjectSize {
		return fmt.Errorf("put %v: %w: %d bytes are more than %d", id, repository.ErrTooLarge, len(data), repository.MaxObjectSize)
	}
	return c.send(ctx, methodPut, func(b []byte) []byte {
		return rawpack.AppendRaw(rawpack.AppendRaw(b, id[:]), data)
	}, 2)
}

// Delete removes an object.
func (c *Client) Delete(ctx context.Context, id repository.ID) error {
	return c.send(ctx, methodDelete, func(b []byte) []byte { return rawpack.AppendRaw(b, id[:]) }, 1)
}

// Commit makes the transaction durable, or fails if any of its puts and deletes did.
func (c *Client) Commit(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if _, err := c.call(ctx, methodCommit, nil, 0); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// settle waits for the answers to all that nobody waits for.
func (c *Client) settle(ctx context.Context) error {
	stop := c.wakeWhenDone(ctx)
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		waiting := false
		for _, call := range c.calls {
			waiting = waiting || call.done == nil
		}
		switch {
		case c.broken != nil:
			return c.broken
		case c.failed != nil:
			return fmt.Errorf("%w: %w", repository.ErrFailed, c.failed)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !waiting:
			return nil
		}
		c.wake.Wait()
	}
}

// Rollback forgets what was put and deleted since the last Commit.
func (c *Client) Rollback() error {
	if _, err := c.call(context.Background(), methodRollback, nil, 0); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = nil
	return nil
}

// Len returns the number of objects.
func (c *Client) Len(ctx context.Context) (int, error) {
	r, err := c.call(ctx, methodLen, nil, 0)
	if err != nil {
		return 0, err
	}
	n := int(r.Int(0, math.MaxInt64))
	return n, c.answered(methodLen, r)
}

// List returns the ids of at most limit objects, or of as many as an answer can have if limit is not positive, that come
// behind marker, or from the beginning if marker is nil.
func (c *Client) List(ctx context.Context, limit int, marker *repository.ID) ([]repository.ID, error) {
	r, err := c.call(ctx, methodList, func(b []byte) []byte {
		if limit > 0 {
			b = rawpack.AppendInt(b, int64(limit))
		} else {
			b = rawpack.AppendNil(b)
		}
		if marker != nil {
			return rawpack.AppendRaw(b, marker[:])
		}
		return rawpack.AppendNil(b)
	}, 2)
	if err != nil {
		return nil, err
	}
	n := r.ArrayLen()
	ids := make([]repository.ID, 0, min(n, r.Len()/(1+len(repository.ID{}))))
	for range n {
		id := readID(r)
		if r.Err() != nil {
			break
		}
		ids = append(ids, id)
	}
	return ids, c.answered(methodList, r)
}

// listPage is how many ids All asks for at a time. Attic's does as many.
const listPage = 10000

// All returns the ids of all objects.
func (c *Client) All(ctx context.Context) iter.Seq2[repository.ID, error] {
	return func(yield func(repository.ID, error) bool) {
		var marker *repository.ID
		for {
			ids, err := c.List(ctx, listPage, marker)
			if err != nil {
				yield(repository.ID{}, err)
				return
			}
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
			if len(ids) == 0 {
				return
			}
			marker = &ids[len(ids)-1]
		}
	}
}

// Check has the server check the repository, and mend it if repair is set. It reports whether all was sound, or is now;
// what was found the server tells by itself.
func (c *Client) Check(ctx context.Context, repair bool) (bool, error) {
	r, err := c.call(ctx, methodCheck, func(b []byte) []byte { return appendBool(b, repair) }, 1)
	if err != nil {
		return false, err
	}
	ok := readBool(r)
	return ok, c.answered(methodCheck, r)
}

// Close ends the conversation. The server rolls back what was not committed.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	if c.broken == nil {
		c.broken = repository.ErrClosed
	}
	c.wake.Broadcast()
	c.mu.Unlock()
	err := c.closer.Close()
	c.writing.Wait()
	c.reading.Wait()
	return err
}

// call sends a request and waits for its result.
func (c *Client) call(ctx context.Context, method string, args func(b []byte) []byte, n int) (*rawpack.Reader, error) {
	a := &call{method: method, done: make(chan struct{})}
	if err := c.enqueue(ctx, a, args, n); err != nil {
		return nil, err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx) // the answer will be nobody's
	}
	if a.err != nil {
		return nil, a.err
	}
	p, err := parseResponse(a.msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	return p.result, nil
}

// send sends a request whose answer matters only if it is an error.
func (c *Client) send(ctx context.Context, method string, args func(b []byte) []byte, n int) error {
	return c.enqueue(ctx, &call{method: method}, args, n)
}

// enqueue puts a request behind the others, when there is room for it.
func (c *Client) enqueue(ctx context.Context, a *call, args func(b []byte) []byte, n int) error {
	stop := c.wakeWhenDone(ctx)
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.broken != nil:
			return c.broken
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case a.done == nil && c.failed != nil:
			return fmt.Errorf("%w: %w", repository.ErrFailed, c.failed)
		}
		if len(c.calls) < maxInFlight && c.inFlight < maxBytesInFlight {
			break
		}
		c.wake.Wait()
	}
	before := len(c.out)
	c.out = beginRequest(c.out, c.nextID, a.method, n)
	if args != nil {
		c.out = args(c.out)
	}
	a.size = len(c.out) - before
	c.calls[c.nextID] = a
	c.inFlight += a.size
	c.nextID++
	c.wake.Broadcast()
	return nil
}

// wakeWhenDone wakes all who wait when the context ends, until stop is called.
func (c *Client) wakeWhenDone(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake.Broadcast()
	})
}

// write writes requests until the conversation is over.
func (c *Client) write(w io.Writer) {
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && c.broken == nil {
			c.wake.Wait()
		}
		if c.broken != nil {
			c.mu.Unlock()
			return
		}
		batch := c.out
		c.out = spare[:0]
		c.mu.Unlock()
		if _, err := w.Write(batch); err != nil {
			c.fail(fmt.Errorf("%w: %w", ErrConnection, err))
			return
		}
		if spare = batch; cap(spare) > 4<<20 {
			spare = nil
		}
	}
}

// read reads responses until the conversation is over.
func (c *Client) read(in io.Reader) {
	frames := frameReader{r: in, limit: math.MaxInt32}
	for {
		msg, err := frames.next()
		if err == nil {
			err = c.take(msg)
		}
		if err != nil {
			if err == io.EOF {
				err = errors.New("the server has ended")
			}
			c.fail(fmt.Errorf("%w: %w", ErrConnection, err))
			return
		}
	}
}

// take hands a response to who waits for it.
func (c *Client) take(msg []byte) error {
	p, err := parseResponse(msg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.calls[p.id]
	if !ok {
		return fmt.Errorf("an answer to request %d, which was never made", p.id)
	}
	delete(c.calls, p.id)
	c.inFlight -= a.size
	c.wake.Broadcast()
	if p.err != "" {
		a.err = remoteError(a.method, p)
	}
	if a.done == nil {
		if a.err != nil && c.failed == nil {
			c.failed = a.err
		}
		return nil
	}
	if a.err == nil {
		a.msg = append([]byte(nil), msg...)
	}
	close(a.done)
	return nil
}

// fail ends the conversation with an error, of which everybody is told.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
	}
	for id, a := range c.calls {
		if a.err = c.broken; a.done != nil {
			close(a.done)
		}
		delete(c.calls, id)
	}
	c.wake.Broadcast()
}
