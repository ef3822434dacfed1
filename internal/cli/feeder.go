package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A feeder is the program that --stdin-from-command runs, as a reader of what it writes, which ends well only if the program does.
type feeder struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	start  sync.Once
	out    *os.File      // what it writes; nil: it was not started
	done   chan struct{} // closed once it has ended
	err    error         // why it was not started or, once done, how it ended
}

// programPatience is how long a program has to end that is told to.
const programPatience = 10 * time.Second

// newFeeder returns a feeder whose program is started by the first Read, and told to end when the context is done.
func (a *app) newFeeder(ctx context.Context, args []string) (*feeder, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &feeder{cmd: exec.CommandContext(ctx, args[0], args[1:]...), cancel: cancel, done: make(chan struct{})}
	if p.cmd.Err != nil {
		cancel()
		return nil, fmt.Errorf("--stdin-from-command: %w", p.cmd.Err)
	}
	if in, ok := a.stdin.(*os.File); ok { // it may have something to ask
		p.cmd.Stdin = in
	}
	p.cmd.Stderr = os.Stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = programPatience
	return p, nil
}

func (p *feeder) run() {
	defer func() {
		if p.out == nil {
			close(p.done)
		}
	}()
	r, w, err := os.Pipe()
	if err != nil {
		p.err = err
		return
	}
	defer w.Close()
	p.cmd.Stdout = w
	if p.err = p.cmd.Start(); p.err != nil {
		r.Close()
		return
	}
	p.out = r
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
}

// Read reads what the program writes. Where that ends, it waits for the program, and the end is an error if that failed.
func (p *feeder) Read(b []byte) (int, error) {
	p.start.Do(p.run)
	if p.out != nil {
		if n, err := p.out.Read(b); err != io.EOF {
			return n, err
		}
	}
	<-p.done
	if p.err != nil {
		return 0, fmt.Errorf("program %q failed: %w", p.cmd.Args[0], p.err)
	}
	return 0, io.EOF
}

// Close tells the program to end if it has not, and waits until it has.
func (p *feeder) Close() {
	p.start.Do(func() { close(p.done) })
	p.cancel()
	<-p.done
	if p.out != nil {
		p.out.Close()
	}
}
