// Package measure runs programs and tells what they cost.
package measure

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A Command is a program with its arguments. Its output is thrown away.
type Command struct {
	Args []string // the program first
	Dir  string   // where it runs; empty: here
	Env  []string // NAME=VALUE, beside the environment that there is
}

// Usage is what a program has cost, with all that it has started and waited for.
type Usage struct {
	Wall    time.Duration `json:"wall_ns"`
	CPU     time.Duration `json:"cpu_ns"`        // of all its threads, user and system
	Peak    int64         `json:"peak_bytes"`    // memory that was resident at most, of its largest process
	Written int64         `json:"written_bytes"` // handed to file systems on disks; -1 where the system does not tell
}

// Add adds what was used one after the other.
func (u Usage) Add(other Usage) Usage {
	u.Wall += other.Wall
	u.CPU += other.CPU
	u.Peak = max(u.Peak, other.Peak)
	if u.Written >= 0 && other.Written >= 0 {
		u.Written += other.Written
	} else {
		u.Written = -1
	}
	return u
}

// maxMessage is how much of a program's messages an error quotes, in bytes.
const maxMessage = 1 << 10

// Run runs a program to its end. The error says how it failed, and what it said last.
//
// A peak is never less than that of the caller, whose memory a new process has until it begins with its own program. So
// the caller should be small.
func Run(ctx context.Context, c Command) (Usage, error) {
	cmd := newCommand(ctx, c)
	var messages tail
	cmd.Stderr = &messages
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		return Usage{}, fmt.Errorf("%s: %w%s", strings.Join(c.Args, " "), err, messages.quoted())
	}
	u := usageOf(cmd.ProcessState)
	u.Wall = wall
	return u, nil
}

// Output runs a program and returns what it prints.
func Output(ctx context.Context, c Command) ([]byte, error) {
	cmd := newCommand(ctx, c)
	var messages tail
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", strings.Join(c.Args, " "), err, messages.quoted())
	}
	return out, nil
}

func newCommand(ctx context.Context, c Command) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// blockSize is the unit in bytes in which Linux counts what a process has written.
const blockSize = 512

func usageOf(s *os.ProcessState) Usage {
	u := Usage{CPU: s.UserTime() + s.SystemTime(), Written: -1}
	r, ok := s.SysUsage().(*syscall.Rusage)
	if !ok {
		return u
	}
	u.Peak = int64(r.Maxrss)
	if runtime.GOOS != "darwin" { // where it is in bytes
		u.Peak <<= 10
	}
	if runtime.GOOS == "linux" {
		u.Written = int64(r.Oublock) * blockSize
	}
	return u
}

// A tail keeps the end of what is written to it.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-maxMessage):]...)
	t.buf = t.buf[max(0, len(t.buf)-maxMessage):]
	return len(p), nil
}

func (t *tail) quoted() string {
	if text := bytes.TrimSpace(t.buf); len(text) > 0 {
		return ": " + string(text)
	}
	return ""
}
