package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"garret/internal/location"
)

// Remote is how the server of a repository on another machine is started.
type Remote struct {
	Location location.Location
	// RSH is the program that runs a command on another machine, and its first arguments; empty: ssh.
	RSH []string
	// Path is what the server is called there; empty: garret.
	Path string
	// Message is told of each line that the server or the program says beside the protocol.
	Message func(line string)
}

// Command returns the command that starts the server.
func (r Remote) Command() []string {
	args := append([]string{}, r.RSH...)
	if len(args) == 0 {
		args = []string{"ssh"}
	}
	if r.Location.Port != 0 {
		args = append(args, "-p", strconv.Itoa(r.Location.Port))
	}
	host := r.Location.Host
	if r.Location.User != "" {
		host = r.Location.User + "@" + host
	}
	path := r.Path
	if path == "" {
		path = "garret"
	}
	return append(args, host, path+" serve")
}

// Dial starts the server of a repository on another machine and opens the repository. The server ends when the client
// is closed.
func Dial(ctx context.Context, r Remote, o ClientOptions) (*Client, error) {
	p, err := startProcess(r.Command(), r.Message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	// A server that does not answer at all must not keep the person waiting once they want to go.
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()
	return NewClient(ctx, p, p, p, r.Location.Path, o)
}

// A process is a command whose standard streams are a pipe. Reading at its end says how it ended.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser

	grace time.Duration // how long it may take to end

	stderr lines
	once   sync.Once
	ended  chan struct{} // closed when it has ended
	err    error         // why, then
}

func startProcess(args []string, message func(line string)) (*process, error) {
	// A person's Ctrl-C is for us, who still need the connection to end in order, and so is a terminal that is closed. The
	// command must stay in the terminal's foreground all the same, where it can ask for a password.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap "" INT HUP; exec "$@"`, "sh"}, args...)...)
	p := &process{name: args[0], cmd: cmd, grace: 10 * time.Second, ended: make(chan struct{})}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	p.stderr.tell = message
	cmd.Stderr = &p.stderr
	// Something that it leaves behind may have the stream open for ever, such as the master of a shared connection.
	cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return p, nil
}

// lines tells of what is written to it line by line, and of a long line in parts.
type lines struct {
	tell func(line string) // nil: nobody

	mu   sync.Mutex
	rest []byte
}

const maxLine = 4096

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		switch {
		case i >= 0 && i <= maxLine:
			l.sayLocked(l.rest[:i])
			l.rest = l.rest[i+1:]
		case len(l.rest) > maxLine:
			l.sayLocked(l.rest[:maxLine])
			l.rest = l.rest[maxLine:]
		default:
			return len(b), nil
		}
	}
}

// end tells of the rest, which has no end of line.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.sayLocked(l.rest)
		l.rest = nil
	}
}

func (l *lines) sayLocked(line []byte) {
	if l.tell != nil {
		l.tell(strings.TrimRight(string(line), "\r"))
	}
}

// Read implements io.Reader.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.stdout.Read(b)
	if errors.Is(err, os.ErrClosed) { // by who waited for its end, after a write that failed
		err = io.EOF
	}
	if n == 0 && err != nil {
		if wait := p.wait(); wait != nil {
			return 0, wait
		}
	}
	return n, err
}

// Write implements io.Writer.
func (p *process) Write(b []byte) (int, error) {
	n, err := p.stdin.Write(b)
	if err != nil {
		if err = p.wait(); err == nil {
			err = errEnded
		}
	}
	return n, err
}

// wait returns how the process ended, which it is about to.
func (p *process) wait() error {
	p.once.Do(func() {
		timer := time.AfterFunc(p.grace, p.kill)
		defer timer.Stop()
		err := p.cmd.Wait()
		p.stderr.end()
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			p.err = fmt.Errorf("%s has ended with %w", p.name, err)
		}
		close(p.ended)
	})
	<-p.ended
	return p.err
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// Close ends the process: it has nothing more to read, and is killed if it does not end then.
func (p *process) Close() error {
	p.stdin.Close()
	var exit *exec.ExitError
	if err := p.wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}
