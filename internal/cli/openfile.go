package cli

import (
	"context"
	"io"
	"os"
)

// openFile is os.OpenFile that ends with the context: who opens a FIFO waits until somebody has opened its other end. The
// goroutine that waits may then stay behind.
func openFile(ctx context.Context, name string, flag int) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	c := make(chan opened, 1)
	go func() {
		f, err := os.OpenFile(name, flag, 0)
		c <- opened{f, err}
	}()
	select {
	case o := <-c:
		return o.f, o.err
	case <-ctx.Done():
		go func() { (<-c).f.Close() }()
		return nil, context.Cause(ctx)
	}
}

// interruptible returns what reads from in until the context is done: who writes into a pipe may take forever.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return in
		}
	}
	r, w := io.Pipe()
	go func() { // which ends with the process if in never does
		_, err := io.CopyBuffer(w, in, make([]byte, 1<<18))
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	return r
}
