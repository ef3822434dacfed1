package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"garret/repository"
)

// A server that is told to end does so, though its client says nothing.
func TestAServerEndsWhenItIsCanceled(t *testing.T) {
	within(t, 5*time.Minute, "it", func() {
		path := filepath.Join(t.TempDir(), "repo")
		near, far := pipe(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		done := make(chan error, 1)
		go func() { done <- Serve(ctx, far, far, ServerOptions{}) }()
		c, err := NewClient(t.Context(), near, near, near, path, ClientOptions{Create: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if err := c.Put(t.Context(), repository.ID{1}, []byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := c.Len(t.Context()); err != nil {
			t.Error(err)
		}
		over := errors.New("over")
		cancel(over)
		if err := <-done; !errors.Is(err, over) {
			t.Errorf("it ended with %v", err)
		}
		r, err := repository.Open(t.Context(), path, &repository.Options{Exclusive: true})
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if n, err := r.Len(t.Context()); n != 0 || err != nil {
			t.Errorf("%d objects, %v", n, err)
		}
	})
}

// A client that is not greeted yet knows of no notes: whatever takes long, the greeting comes first.
func TestNothingIsSaidBeforeTheGreeting(t *testing.T) {
	var out bytes.Buffer
	s := &server{out: bufio.NewWriter(&out), version: 1}
	s.note(0, noteAlive, 0, 0)
	greeting := []byte("the greeting")
	s.version = 2 // as it is when its answer is still to be sent
	s.note(0, noteAlive, 0, 0)
	if err := s.send(greeting); err != nil {
		t.Fatal(err)
	}
	s.note(0, noteAlive, 0, 0)
	if got := out.Bytes(); !bytes.HasPrefix(got, greeting) || len(got) == len(greeting) {
		t.Errorf("it says %q", got)
	}
}

// A client that goes while its server waits for the lock, or works, leaves no server behind.
func TestAServerEndsWithItsClient(t *testing.T) {
	t.Parallel()
	within(t, 5*time.Minute, "it", func() {
		path := filepath.Join(t.TempDir(), "repo")
		r, err := repository.Create(t.Context(), path, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		near, far := pipe(t)
		done := make(chan error, 1)
		go func() { done <- Serve(t.Context(), far, far, ServerOptions{heartbeat: 10 * time.Millisecond}) }()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := NewClient(ctx, near, near, near, path, ClientOptions{LockWait: -1, Exclusive: true}); err == nil {
			t.Error("it was opened")
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), "the connection to the client broke") {
			t.Errorf("it ended with %v", err)
		}
	})
}

// slowPipe lets little through at a time.
type slowPipe struct{ net.Conn }

func (p slowPipe) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		time.Sleep(70 * time.Millisecond)
		k, err := p.Conn.Write(b[n:min(len(b), n+20_000)])
		if n += k; err != nil {
			return n, err
		}
	}
	return len(b), nil
}

// An object that takes longer to send than a server may be silent is no reason to give up.
func TestASlowLineIsNotTakenForASilentServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "repo")
	near, far := pipe(t)
	done := make(chan error, 1)
	go func() { done <- Serve(context.Background(), far, far, ServerOptions{heartbeat: 20 * time.Millisecond}) }()
	slow := slowPipe{near}
	c, err := NewClient(t.Context(), slow, slow, slow, path, ClientOptions{Create: true, Silence: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), repository.ID{1}, make([]byte, 1_000_000)); err != nil {
		t.Error(err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	c.Close()
	<-done
}

// An object whose place is known and whose beginning is damaged does not keep a client from following the others.
func TestADamagedObjectCanBeFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repo")
	ctx := t.Context()
	r, err := repository.Create(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	numbered := func(i int) repository.ID { return repository.ID{byte(i >> 8), byte(i), 1} }
	for i := range 5000 { // so many that there is an index, and the log is not read
		if err := r.Put(ctx, numbered(i), []byte(strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.Commit(ctx), r.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(path, "data/0/1"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(all), "\x00\x01\x01"+strings.Repeat("\x00", 29)+"xxxx") // the id of the second
	if _, err := f.WriteAt([]byte{0xff}, int64(at)); err != nil {
		t.Fatal(err)
	}
	near, far := pipe(t)
	done := make(chan error, 1)
	go func() { done <- Serve(context.Background(), far, far, ServerOptions{}) }()
	c, err := NewClient(ctx, near, near, near, path, ClientOptions{Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Follow(ctx, filepath.Join(t.TempDir(), "objects"), func(error) {}); err != nil {
		t.Error(err)
	}
	for i := range 3 {
		has, err := c.Has(ctx, numbered(i))
		size, sizeErr := c.Size(ctx, numbered(i))
		if err != nil || !has || i != 1 && (size != 100 || sizeErr != nil) || i == 1 && sizeErr == nil {
			t.Errorf("%d: has %v, %v; size %d, %v", i+1, has, err, size, sizeErr)
		}
	}
	c.Close()
	<-done
}
