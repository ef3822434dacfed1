package rpc

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"garret/internal/rawpack"
)

// read reads responses until the conversation is over.
func (c *Client) read(in io.Reader) {
	frames := frameReader{r: in, limit: maxResponse}
	for n := 0; ; n++ {
		msg, err := frames.next()
		if err == nil {
			err = c.take(msg)
		}
		if err != nil {
			if err == io.EOF {
				err = errEnded
			} else {
				c.abort()
			}
			if n == 0 && errors.Is(err, errNoMessage) {
				err = fmt.Errorf("%q came instead of the server's greeting: nothing else may be printed there, such as by the "+
					"shell's start-up files (~/.bashrc, ~/.profile)", frames.line())
			}
			c.lose(err)
			return
		}
	}
}

// take hands a message to who waits for it.
func (c *Client) take(msg []byte) error {
	if c.Version() > 1 && len(msg) > 1 && msg[1] == noteType {
		return c.takeNote(msg)
	}
	p, err := parseResponse(msg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = time.Now()
	s, ok := c.sent[p.id]
	if !ok || s == c.batch {
		return fmt.Errorf("an answer to request %d, which was never made", p.id)
	}
	delete(c.sent, p.id)
	c.inFlight -= s.size
	c.calls -= len(s.calls)
	c.wake.Broadcast()
	switch {
	case p.err != "":
		for _, a := range s.calls {
			c.finishLocked(a, nil, remoteError(c.version, s.method, p))
		}
	case s.method == methodGetMany:
		return c.takeManyLocked(s, p.result)
	default:
		result := rawpack.NewReader(slices.Clone(p.result.Value()))
		for _, a := range s.calls {
			c.finishLocked(a, result, nil)
		}
	}
	return nil
}

func (c *Client) finishLocked(a *call, result *rawpack.Reader, err error) {
	a.result, a.err = result, err
	if a.done != nil {
		close(a.done)
	} else if err != nil && c.failed == nil {
		c.failed = err
	}
}

// errAgain is the answer to a call that had no room in the answer to its batch.
var errAgain = errors.New("it is to be asked for once more")

// takeManyLocked hands out the objects of a batch.
func (c *Client) takeManyLocked(s *sent, r *rawpack.Reader) error {
	if n := r.ArrayLen(); n != len(s.calls) {
		r.Failf("%d objects are the answer to %d questions", n, len(s.calls))
	}
	for i, a := range s.calls {
		var result *rawpack.Reader
		var err error
		switch {
		case r.Nil():
			if i == 0 { // or it could be asked for for ever
				r.Failf("there is not one object in it")
			}
			err = errAgain
		case r.NextIsRaw():
			result = rawpack.NewReader(slices.Clone(r.Value()))
		default:
			e := rawpack.NewReader(r.Value())
			if n := e.ArrayLen(); n != 2 && r.Err() == nil {
				r.Failf("an error has %d parts", n)
			}
			name, text := readErrorName(e), shortened(e.Raw())
			if e.Err() != nil {
				r.Failf("an error: %w", e.Err())
			}
			err = newRemoteError(c.version, s.method, name, text)
		}
		if r.Err() != nil {
			for _, a := range s.calls[i:] {
				c.finishLocked(a, nil, ErrConnection)
			}
			return fmt.Errorf("malformed response: %w", r.Err())
		}
		c.finishLocked(a, result, err)
	}
	return nil
}

// takeNote takes what the server says while it is at work.
func (c *Client) takeNote(msg []byte) error {
	r := rawpack.NewReader(msg)
	n := r.ArrayLen()
	r.Value()
	id := r.Uint(math.MaxUint64)
	kind := r.Int(0, math.MaxInt64)
	done, total := r.Int(math.MinInt64, math.MaxInt64), r.Int(math.MinInt64, math.MaxInt64)
	if n != 5 || r.Err() != nil {
		return fmt.Errorf("malformed note: %w", r.Err())
	}
	c.mu.Lock()
	c.heard = time.Now()
	var progress func(done, total int)
	if s := c.sent[id]; s != nil && kind == noteProgress {
		progress = s.calls[0].progress
	}
	c.mu.Unlock()
	if progress != nil {
		progress(int(done), int(total))
	}
	return nil
}
