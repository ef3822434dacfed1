package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// Bounds of what a client has asked for and not got an answer to. Attic's client has the first too.
const (
	maxInFlight      = 100
	maxInFlight2     = 4 * maxMany // of version 2, where many are in one message
	maxBytesInFlight = 32 << 20
)

// ClientOptions are how a client opens a repository.
type ClientOptions struct {
	Create    bool          // make the repository
	Exclusive bool          // see repository.Options; with version 1 the first write makes the lock exclusive
	Damaged   bool          // see repository.Options; with versions 1 and 2 it has no effect
	LockWait  time.Duration // see repository.Options; with version 1 the server waits as it likes
	Version   int           // the latest to speak; 0: all that are known
	// Silence is how long the server may say nothing while it is waited for, before the connection is taken to be broken;
	// 0: two minutes. Before its first answer, while a person may have to type a password, it may be five times as long.
	// With version 1 a server is silent for as long as its work takes: there it may be thirty times as long, an hour, and
	// with a check, which reads everything, a day.
	Silence time.Duration

	patience time.Duration // how many times as long it may be with version 1; 0: thirty times
}

// A Client is a repository at the other end of a pipe. Its methods do as those of repository.Repository, save that Put
// and Delete return before it is known whether they could be done: the next Commit fails if not. It is safe for
// concurrent use; calls that are made side by side are under way together.
//
// After an error that matches ErrConnection nothing more can be done with it. What was committed before is committed; what
// was not, the server rolls back; whether a Commit that was under way has been done is not known.
type Client struct {
	o       ClientOptions
	version int
	path    string
	id      repository.ID
	closer  io.Closer

	appendOnly, readOnly bool  // the server refuses to remove, or to change, anything
	damage               error // what needs a repair, and is read all the same

	mu       sync.Mutex
	wake     *sync.Cond       // something of what is below has changed
	out      []byte           // requests that are to be written
	batch    *sent            // one more, that may still grow
	sent     map[uint64]*sent // requests without an answer
	calls    int              // in these
	inFlight int              // bytes of these
	nextID   uint64           // of a request
	heard    time.Time        // when the server last said something
	greeted  bool             // the version is settled; before, it is 1
	broken   error            // why nothing more can be done
	failed   error            // of a put or delete of this transaction that nobody waited for
	over     chan struct{}    // closed when broken is set
	known    *known           // what is there, once Follow has found out
	working  sync.WaitGroup   // the goroutines at the two ends of the pipe
}

// A call is a question whose answer is awaited.
type call struct {
	result   *rawpack.Reader
	err      error
	done     chan struct{} // nil: nobody waits
	progress func(done, total int)
}

// sent is a request, which asks for one call, or for many of a kind.
type sent struct {
	id     uint64
	method string
	calls  []*call
	body   []byte // of a batch: its arguments
	size   int
}

// NewClient begins a conversation over a pipe and opens the repository at a path. closer ends the pipe: after it, reads
// and writes fail. It is called when the conversation is over, for whatever reason.
func NewClient(
	ctx context.Context, in io.Reader, out io.Writer, closer io.Closer, path string, o ClientOptions,
) (*Client, error) {
	if o.Version <= 0 || o.Version > version {
		o.Version = version
	}
	if o.Silence <= 0 {
		o.Silence = 2 * time.Minute
	}
	if o.patience <= 0 {
		o.patience = 30
	}
	c := &Client{
		o: o, path: path, closer: closer, version: 1, nextID: 1, heard: time.Now(),
		sent: map[uint64]*sent{}, over: make(chan struct{}),
	}
	c.wake = sync.NewCond(&c.mu)
	c.working.Go(func() { c.write(out) })
	c.working.Go(func() { c.read(in) })
	c.working.Go(c.watch)
	if err := c.begin(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) begin(ctx context.Context) error {
	r, err := c.call(ctx, methodNegotiate, 1, func(b []byte) []byte { return rawpack.AppendInt(b, int64(c.o.Version)) })
	if err != nil {
		return err
	}
	v := int(r.Int(1, math.MaxInt32))
	if err := c.answered(methodNegotiate, r); err != nil {
		return err
	}
	if v > c.o.Version {
		return fmt.Errorf("%w: the server speaks version %d, which is not known", ErrConnection, v)
	}
	c.mu.Lock()
	c.version, c.greeted = v, true
	c.mu.Unlock()
	args, parts := 2, 1
	switch v {
	case 2:
		args, parts = 4, 3
	case 3:
		args, parts = 5, 4
	}
	r, err = c.call(ctx, methodOpen, args, func(b []byte) []byte {
		b = appendBool(rawpack.AppendRaw(b, c.path), c.o.Create)
		if v > 1 {
			b = appendBool(b, c.o.Exclusive)
			b = rawpack.AppendInt(b, milliseconds(c.o.LockWait))
		}
		if v > 2 {
			b = appendBool(b, c.o.Damaged)
		}
		return b
	})
	if err != nil {
		return err
	}
	if v > 1 {
		if n := r.ArrayLen(); n != parts {
			r.Failf("what was opened has %d parts", n)
		}
	}
	c.id = readID(r)
	if v > 1 {
		c.appendOnly, c.readOnly = readBool(r), readBool(r)
	}
	if v > 2 && !r.Nil() {
		c.damage = newRemoteError(v, methodOpen, errorName(repository.ErrCheckNeeded), shortened(r.Raw()))
	}
	return c.answered(methodOpen, r)
}

// milliseconds returns a time as open has it.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return min(d.Milliseconds(), math.MaxInt32)
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

// Version returns which version of the protocol is spoken.
func (c *Client) Version() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// ID returns the repository's id.
func (c *Client) ID() repository.ID { return c.id }

// AppendOnly reports whether the server removes nothing, as far as it says so: Attic's says nothing of the kind.
func (c *Client) AppendOnly() bool { return c.appendOnly }

// ReadOnly reports whether the server changes nothing, as far as it says so.
func (c *Client) ReadOnly() bool { return c.readOnly }

// Damage returns what was found to be damaged when the repository was opened with ClientOptions.Damaged, or nil. It matches
// repository.ErrCheckNeeded.
func (c *Client) Damage() error { return c.damage }

// String returns where the repository is, as the server was told.
func (c *Client) String() string { return c.path }

// Close ends the conversation. The server rolls back what was not committed.
func (c *Client) Close() error {
	c.mu.Lock()
	closed := errors.Is(c.broken, repository.ErrClosed)
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.fail(repository.ErrClosed)
	c.mu.Lock()
	c.broken = repository.ErrClosed
	c.mu.Unlock()
	err := c.closer.Close()
	c.working.Wait()
	return err
}

// call sends a request and waits for its result.
func (c *Client) call(ctx context.Context, method string, n int, args func(b []byte) []byte) (*rawpack.Reader, error) {
	return c.await(ctx, &call{done: make(chan struct{})}, method, n, args)
}

func (c *Client) await(
	ctx context.Context, a *call, method string, n int, args func(b []byte) []byte,
) (*rawpack.Reader, error) {
	if err := c.enqueue(ctx, a, method, n, args); err != nil {
		return nil, err
	}
	select {
	case <-a.done:
		return a.result, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx) // the answer will be nobody's
	}
}

// watch ends the conversation when the server has been silent for too long, and lets it hear of us when there is
// nothing else to say.
func (c *Client) watch() {
	t := time.NewTicker(min(heartbeat, max(c.o.Silence/4, time.Millisecond)))
	defer t.Stop()
	for {
		select {
		case <-c.over:
			return
		case <-t.C:
		}
		c.mu.Lock()
		limit, silent := c.silenceLocked(), time.Duration(0)
		switch {
		case c.broken != nil:
			c.mu.Unlock()
			return
		case c.calls == 0 && c.version < 2: // which has no ping
		case c.calls == 0:
			c.enqueueLocked(&call{done: make(chan struct{})}, methodPing, 0, nil)
		default:
			silent = time.Since(c.heard)
		}
		c.mu.Unlock()
		if silent > limit {
			c.lose(fmt.Errorf("the server has said nothing for %v", silent.Round(100*time.Millisecond)))
			c.abort()
			c.closer.Close() // for whoever reads or writes
			return
		}
	}
}

// silenceLocked returns how long the server may say nothing now.
func (c *Client) silenceLocked() time.Duration {
	switch {
	case !c.greeted:
		return 5 * c.o.Silence
	case c.version > 1:
		return c.o.Silence
	}
	for _, s := range c.sent {
		if s.method == methodCheck {
			return 24 * c.o.patience * c.o.Silence
		}
	}
	return c.o.patience * c.o.Silence
}

// abort ends a server that speaks no sense, or not any more, and so would not end by itself.
func (c *Client) abort() {
	if p, ok := c.closer.(*process); ok {
		p.kill()
	}
}

// lose ends the conversation because the connection is of no use any more, or never was.
func (c *Client) lose(err error) {
	c.mu.Lock()
	kind := ErrConnection
	if !c.greeted {
		kind = ErrNoServer
	}
	c.mu.Unlock()
	c.fail(fmt.Errorf("%w: %w", kind, err))
}

// fail ends the conversation with an error, of which everybody is told.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = err
		close(c.over)
	}
	for id, s := range c.sent {
		for _, a := range s.calls {
			c.finishLocked(a, nil, c.broken)
		}
		delete(c.sent, id)
	}
	c.batch, c.calls, c.inFlight = nil, 0, 0
	c.wake.Broadcast()
}

// settle waits for the answers to all that nobody waits for.
func (c *Client) settle(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.broken != nil:
			return c.broken
		case c.failed != nil:
			return fmt.Errorf("%w: %w", repository.ErrFailed, c.failed)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !c.unansweredLocked():
			return nil
		}
		c.wake.Wait()
	}
}

// unansweredLocked reports whether there are calls for whose answers nobody waits.
func (c *Client) unansweredLocked() bool {
	for _, s := range c.sent {
		for _, a := range s.calls {
			if a.done == nil {
				return true
			}
		}
	}
	return false
}
