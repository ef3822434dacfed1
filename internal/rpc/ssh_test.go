package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"garret/internal/location"
	"garret/internal/rawpack"
	"garret/repository"
)

// dialScript has a shell script for the program that runs the server.
func dialScript(ctx context.Context, script string, o ClientOptions, message func(string)) (*Client, error) {
	r := Remote{
		Location: location.Location{Host: "host", Path: "/repo"},
		RSH:      []string{"sh", "-c", script, "sh"}, Message: message,
	}
	return Dial(ctx, r, o)
}

// within fails the test if something takes too long.
func within(t *testing.T, d time.Duration, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(d):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s takes longer than %v\n%s", what, d, buf[:runtime.Stack(buf, true)])
	}
}

func TestWhatCannotBeAServerIsSaidToBeNone(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"banner", `echo "Welcome to host"; exec cat >/dev/null`, `"Welcome to host" came instead of the server's greeting: nothing else may be printed`},
		{"Greek", `echo "Καλημέρα"; exec cat >/dev/null`, `"Καλημέρα" came instead`},
		{"Russian", `echo "Добро"; exec cat >/dev/null`, `"Добро" came instead`},
		{"Arabic", `echo "مرحبا"; exec cat >/dev/null`, `"مرحبا" came instead`},
		{"French", `echo "été"; exec cat >/dev/null`, `"été" came instead`},
		{"empty line", `echo; exec cat >/dev/null`, `"\n" came instead`},
		{"exit", `exit 3`, `sh has ended with exit status 3`},
		{"exit 0", `exit 0`, `the server has ended it`},
		{"killed", `kill -9 $$`, `sh has ended with signal: killed`},
		{"an endless message", `printf '\224'; exec cat /dev/zero`, `malformed`},
		{"an endless raw", `printf '\224\001\001\300\333\377\377\377\377'; exec cat /dev/zero`, `a message is too long`},
		{"binary rubbish", `printf '\301\301\301'; exec cat >/dev/null`, `came instead`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			within(t, 5*time.Minute, "it", func() {
				_, err := dialScript(t.Context(), tt.script, ClientOptions{}, nil)
				if !errors.Is(err, ErrConnection) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestAServerThatNeverGreetsIsGivenUp(t *testing.T) {
	within(t, 5*time.Minute, "it", func() {
		start := time.Now()
		_, err := dialScript(t.Context(), `exec sleep 1000`, ClientOptions{Silence: 100 * time.Millisecond}, nil)
		if !errors.Is(err, ErrConnection) || !strings.Contains(err.Error(), "has said nothing for") {
			t.Errorf("error %v", err)
		}
		if d := time.Since(start); d < 500*time.Millisecond {
			t.Errorf("it took %v", d)
		}
	})
}

// What does not end at the end of its input is killed, and what it leaves behind is not waited for.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	for _, script := range []string{
		`exec sleep 1000`,                     // heeds no end of input
		`sleep 4 & wait`,                      // what it started has all streams open still
		`sleep 4 >/dev/null & exit 0`,         // and after it has ended: its standard error
		`trap "" TERM HUP; exec sleep 1000`,   // nor signals
		`exec >/dev/null; exec sleep 1000`,    // has said goodbye
		`exec </dev/null; exec sleep 1000`,    // and does not listen
		`yes >&2 & sleep 0.1; exit 1`,         // talks on
		`printf 'no end of line' >&2; exit 1`, // or not to the end
	} {
		p, err := startProcess([]string{"sh", "-c", script}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.grace = 200 * time.Millisecond
		within(t, 5*time.Minute, script, func() {
			var reading sync.WaitGroup
			reading.Go(func() { p.Read(make([]byte, 1)) })
			p.Close()
			reading.Wait()
			p.Close() // once more does nothing
		})
		if p.cmd.ProcessState == nil {
			t.Errorf("%s: nobody has waited for the process", script)
		}
	}
}

func TestAllThatTheServerSaysIsTold(t *testing.T) {
	var said []string
	long := strings.Repeat("x", 100_000)
	within(t, 5*time.Minute, "it", func() {
		dialScript(t.Context(), `echo one >&2; echo `+long+` >&2; printf 'two\r\nthree' >&2; exit 1`, ClientOptions{},
			func(line string) { said = append(said, line) })
	})
	if n := len(said); n < 4 || said[0] != "one" || strings.Join(said[1:n-2], "") != long || said[n-2] != "two" || said[n-1] != "three" {
		t.Errorf("%d lines", n)
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		within(t, 5*time.Minute, "it", func() {
			path := t.TempDir() + "/repo"
			c, err := connect(t, path, ClientOptions{Create: true}, ServerOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			c.Put(t.Context(), repository.ID{1}, []byte("x"))
			c.Get(t.Context(), repository.ID{1})
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			dialScript(t.Context(), `exit 1`, ClientOptions{}, nil)
			dialScript(t.Context(), `echo welcome`, ClientOptions{}, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, err := dialScript(ctx, `exec sleep 1000`, ClientOptions{}, nil); err == nil {
				t.Error("there was a connection")
			}
		})
	}
	for end := time.Now().Add(5 * time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
	if out, err := exec.Command("ps", "-o", "stat=,args=", "--ppid", fmt.Sprint(os.Getpid())).Output(); err == nil {
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "Z") {
				t.Errorf("a process nobody waited for: %s", line)
			}
		}
	}
}

// hostile is a server that greets well and then answers each request as is said.
func hostile(t *testing.T, answer func(q request) []byte) *Client {
	t.Helper()
	near, far := pipe(t)
	go func() {
		in := frameReader{r: far, limit: maxRequest}
		for {
			msg, err := in.next()
			if err != nil {
				return
			}
			q, err := parseRequest(msg)
			if err != nil {
				return
			}
			var out []byte
			switch q.method {
			case methodNegotiate:
				out = append(beginResponse(nil, q.id), 2)
			case methodOpen:
				out = append(append(append(beginResponse(nil, q.id), 0x93, 0xda, 0, 32), make([]byte, 32)...), 0xc2, 0xc2)
			default:
				out = answer(q)
			}
			if _, err := far.Write(out); err != nil {
				return
			}
		}
	}()
	c, err := NewClient(t.Context(), near, near, near, "/repo", ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAServerCannotKeepAClientForEver(t *testing.T) {
	within(t, 5*time.Minute, "it", func() {
		c := hostile(t, func(q request) []byte { // never has room for an object
			return rawpack.AppendNil(rawpack.AppendArrayHeader(beginResponse(nil, q.id), 1))
		})
		if _, err := c.Get(t.Context(), repository.ID{}); !errors.Is(err, ErrConnection) {
			t.Errorf("get: %v", err)
		}
		next := byte(0)
		c = hostile(t, func(q request) []byte { // has ever more objects than it says
			b := beginResponse(nil, q.id)
			switch q.method {
			case methodDigest:
				return append(b, 0x93, 5, 0, 0)
			case methodChanges:
				return append(b, 0x94, 1, 1, 1, 0xc3)
			}
			next++
			page := make([]byte, changeSize)
			page[0] = next
			return rawpack.AppendRaw(b, compress(t, page))
		})
		if err := c.Follow(t.Context(), t.TempDir()+"/file", nil); !errors.Is(err, ErrConnection) {
			t.Errorf("follow: %v", err)
		}
		c = hostile(t, func(q request) []byte { // finds more than one can hold
			b := rawpack.AppendMapHeader(beginResponse(nil, q.id), 1)
			b = rawpack.AppendArrayHeader(rawpack.AppendRaw(b, "findings"), maxFindings+1)
			return append(b, make([]byte, maxFindings+1)...)
		})
		if _, err := c.Check(t.Context(), repository.CheckOptions{}); !errors.Is(err, ErrConnection) {
			t.Errorf("check: %v", err)
		}
		c = hostile(t, func(q request) []byte { // lists more than was asked for
			b := rawpack.AppendArrayHeader(beginResponse(nil, q.id), 4)
			for range 4 {
				b = rawpack.AppendRaw(b, make([]byte, idSize))
			}
			return b
		})
		if _, err := c.List(t.Context(), 3, nil); !errors.Is(err, ErrConnection) {
			t.Errorf("list: %v", err)
		}
	})
}

// Batches and objects of any size that is allowed arrive; those that are not are refused in words.
func TestObjectsOfEverySizeArrive(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		for _, limit := range []int{0, 1000} {
			path := t.TempDir() + "/repo"
			ctx := t.Context()
			c, err := connect(t, path, ClientOptions{Create: true, Version: v}, ServerOptions{MaxObjectSize: limit})
			if err != nil {
				t.Fatal(err)
			}
			put := func(n byte, size int) {
				t.Helper()
				if err := c.Put(ctx, repository.ID{n}, bytes.Repeat([]byte{n}, size)); err != nil {
					t.Fatal(err)
				}
			}
			if limit > 0 {
				for i := range byte(250) { // far more than one object, in one batch
					put(i, limit)
				}
				if err := c.Commit(ctx); err != nil {
					t.Fatal(err)
				}
				put(1, repository.MaxObjectSize)
				if err := c.Commit(ctx); !errors.Is(err, repository.ErrTooLarge) {
					t.Errorf("commit: %v", err)
				}
				if err := c.Rollback(); err != nil {
					t.Error(err)
				}
				continue
			}
			put(1, maxBatch-100) // and in the same batch
			put(2, repository.MaxObjectSize)
			put(3, 0)
			if err := c.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if data, err := c.Get(ctx, repository.ID{2}); err != nil || len(data) != repository.MaxObjectSize {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if err := c.Put(ctx, repository.ID{4}, make([]byte, repository.MaxObjectSize+1)); !errors.Is(err, repository.ErrTooLarge) {
				t.Errorf("put: %v", err)
			}
		}
	})
}
