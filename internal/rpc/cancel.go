package rpc

import (
	"context"
	"io"
)

// A canceledReader reads from a stream whose reads cannot be ended, and stops waiting for one when a context is done. A
// buffer that it was given by then may be written to later.
type canceledReader struct {
	ctx  context.Context
	asks chan []byte
	gets chan got
}

type got struct {
	n   int
	err error
}

func newCanceledReader(ctx context.Context, r io.Reader) *canceledReader {
	c := &canceledReader{ctx: ctx, asks: make(chan []byte), gets: make(chan got, 1)}
	go func() {
		for p := range c.asks {
			n, err := r.Read(p)
			if err != io.EOF {
				err = brokenClient(err)
			}
			c.gets <- got{n, err}
		}
	}()
	return c
}

// Read implements io.Reader. It is not called again after an error.
func (c *canceledReader) Read(p []byte) (int, error) {
	select {
	case c.asks <- p:
	case <-c.ctx.Done():
		return 0, context.Cause(c.ctx)
	}
	select {
	case g := <-c.gets:
		return g.n, g.err
	case <-c.ctx.Done():
		return 0, context.Cause(c.ctx)
	}
}

// close ends the reader, once a read that is under way has ended.
func (c *canceledReader) close() { close(c.asks) }
