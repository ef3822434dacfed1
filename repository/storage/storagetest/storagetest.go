// Package storagetest is what every storage.Storage must pass.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"testing"
	"time"

	"garret/repository/storage"
)

// Run tests a kind of storage. open returns an empty one; what is done to one it returned must be seen by what again
// returns of it.
func Run(t *testing.T, open func(t *testing.T) storage.Storage, again func(storage.Storage) storage.Storage) {
	t.Run("segments", func(t *testing.T) { segments(t, open(t), again) })
	t.Run("numbers", func(t *testing.T) { numbers(t, open(t)) })
	t.Run("replace", func(t *testing.T) { replace(t, open(t)) })
	t.Run("files", func(t *testing.T) { files(t, open(t), again) })
	t.Run("reserve", func(t *testing.T) { reserve(t, open(t), again) })
	t.Run("lock", func(t *testing.T) { lock(t, open(t), again) })
}

func content(t *testing.T, r storage.Reader) string {
	t.Helper()
	b := make([]byte, r.Size())
	if n, err := r.ReadAt(b, 0); n < len(b) {
		t.Fatal(n, err)
	}
	return string(b)
}

func create(t *testing.T, s storage.Storage, n uint32, data string) {
	t.Helper()
	w, err := s.CreateSegment(n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Seal(), w.Close(), s.SyncSegments()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s storage.Storage, n uint32) string {
	t.Helper()
	r, err := s.OpenSegment(n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return content(t, r)
}

func segments(t *testing.T, s storage.Storage, again func(storage.Storage) storage.Storage) {
	begin := time.Now()
	w, err := s.CreateSegment(5)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(w, "part %d ", i); err != nil {
			t.Fatal(err)
		}
		if err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		// What was written can be read while more is.
		got := make([]byte, 7)
		if _, err := w.ReadAt(got, int64(7*i)); err != nil || string(got) != fmt.Sprintf("part %d ", i) {
			t.Fatalf("%q %v", got, err)
		}
	}
	if err := errors.Join(w.Seal(), s.SyncSegments()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateSegment(5); err == nil {
		t.Error("a segment that exists can be created")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s = again(s)
	if got := read(t, s, 5); got != "part 0 part 1 part 2 " {
		t.Errorf("%q", got)
	}
	// File systems know the time to two seconds at worst.
	at, err := s.SegmentTime(5)
	if err != nil || !at.IsZero() && (at.Before(begin.Add(-3*time.Second)) || at.After(time.Now().Add(3*time.Second))) {
		t.Errorf("it was written at %v, and not after %v: %v", at, begin, err)
	}
	if _, err := s.SegmentTime(6); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the time of what is not there: %v", err)
	}
	r, err := s.OpenSegment(5)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(s.RemoveSegment(5), s.SyncSegments()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, r); got != "part 0 part 1 part 2 " {
		t.Errorf("what is open is gone: %q", got)
	}
	if _, err := s.OpenSegment(5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of what was removed: %v", err)
	}
	if err := s.RemoveSegment(5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of what was removed: %v", err)
	}
}

func numbers(t *testing.T, s storage.Storage) {
	s.SetSegmentsPerFolder(3)
	if ns, err := s.Segments(-1); err != nil || len(ns) != 0 {
		t.Fatal(ns, err)
	}
	for _, n := range []uint32{0, 2, 3, 10, 9, 100, storage.MaxSegment} {
		create(t, s, n, "x")
	}
	for after, want := range map[int64][]uint32{
		-1: {0, 2, 3, 9, 10, 100, storage.MaxSegment}, 0: {2, 3, 9, 10, 100, storage.MaxSegment},
		3: {9, 10, 100, storage.MaxSegment}, 9: {10, 100, storage.MaxSegment}, 100: {storage.MaxSegment},
		storage.MaxSegment: nil,
	} {
		if ns, err := s.Segments(after); err != nil || !slices.Equal(ns, want) {
			t.Errorf("segments after %d: %v %v", after, ns, err)
		}
	}
}

func replace(t *testing.T, s storage.Storage) {
	create(t, s, 1, "old")
	for i := range 3 {
		fail := errors.New("no")
		err := s.ReplaceSegment(1, func(w io.Writer) error {
			_, _ = w.Write([]byte("half"))
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatal(err)
		}
		want := "old"
		if i > 0 {
			want = fmt.Sprint("new ", i-1)
		}
		if got := read(t, s, 1); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := s.ReplaceSegment(1, func(w io.Writer) error {
			_, err := fmt.Fprint(w, "new ", i)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if ns, err := s.Segments(-1); err != nil || !slices.Equal(ns, []uint32{1}) {
		t.Errorf("what was set aside counts as a segment: %v %v", ns, err)
	}
}

func files(t *testing.T, s storage.Storage, again func(storage.Storage) storage.Storage) {
	if _, err := s.OpenFile("index.1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open of what is not there: %v", err)
	}
	for _, data := range [][]byte{[]byte("small"), bytes.Repeat([]byte("large"), 5000), {}} {
		if err := storage.WriteFile(s, "index.1", data); err != nil {
			t.Fatal(err)
		}
		got, err := storage.ReadFile(again(s), "index.1", 1<<20)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, want %d: %v", len(got), len(data), err)
		}
	}
	if err := storage.WriteFile(s, "index.1", make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	r, err := s.OpenFile("index.1")
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("no")
	if err := s.WriteFile("index.1", func(io.Writer) error { return fail }); !errors.Is(err, fail) {
		t.Fatal(err)
	}
	if err := storage.WriteFile(s, "index.1", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, r); got != string(make([]byte, 5000)) {
		t.Error("what is open has changed")
	}
	if n, err := r.ReadAt(make([]byte, 10), 4995); n != 5 || err != io.EOF {
		t.Errorf("read over the end: %d %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := storage.ReadFile(s, "index.1", 2); err == nil {
		t.Error("the limit of a read is not kept")
	}
	names, err := s.Files()
	if err != nil || !slices.Contains(names, "index.1") {
		t.Errorf("%v %v", names, err)
	}
	if err := s.RemoveFile("index.1"); err != nil {
		t.Fatal(err)
	}
	if names, err = s.Files(); err != nil || slices.Contains(names, "index.1") {
		t.Errorf("%v %v", names, err)
	}
}

// reserve is for a storage with room for some megabytes. One that keeps nothing passes too.
func reserve(t *testing.T, s storage.Storage, again func(storage.Storage) storage.Storage) {
	released := func(s storage.Storage, enough int64) bool {
		t.Helper()
		ok, err := s.Release(enough)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	kept := func(s storage.Storage, least, most int64) int64 {
		t.Helper()
		n, err := s.Reserve(least, most)
		if err != nil || n < least || n > most {
			t.Fatalf("%d bytes are kept (%v), want %d to %d", n, err, least, most)
		}
		return n
	}
	if released(s, math.MaxInt64) {
		t.Error("what was never kept is released")
	}
	before, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	first := kept(s, 100_000, 200_000)
	if after, err := s.Files(); err != nil || len(after) != len(before) {
		t.Errorf("the reserve counts among the files: %q %v", after, err)
	}
	s = again(s)
	if n := kept(s, 50_000, 200_000); n != first {
		t.Errorf("a reserve that is large enough was changed: %d bytes, then %d", first, n)
	}
	kept(s, 300_000, 300_000)
	kept(s, 10_000, 20_000)
	released(s, 1)
	once := released(s, math.MaxInt64)
	if again := released(s, math.MaxInt64); once && again {
		t.Error("the reserve is released twice")
	}
	kept(s, 5_000, 5_000)
	released(s, math.MaxInt64)
}

func lock(t *testing.T, s storage.Storage, again func(storage.Storage) storage.Storage) {
	ctx := context.Background()
	if err := storage.WriteFile(s, "config", []byte("x")); err != nil {
		t.Fatal(err)
	}
	other := again(s)
	a, err := s.Lock(ctx, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, exclusive := range []bool{true, false} {
		if _, err := other.Lock(ctx, exclusive, 0); !errors.Is(err, storage.ErrLocked) {
			t.Errorf("lock beside an exclusive one: %v", err)
		}
	}
	const wait = 50 * time.Millisecond
	begin := time.Now()
	if _, err := other.Lock(ctx, true, wait); !errors.Is(err, storage.ErrLocked) || time.Since(begin) < wait {
		t.Errorf("waiting ends after %v with %v", time.Since(begin), err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := other.Lock(cancelled, true, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting until cancelled: %v", err)
	}
	if err := a.Downgrade(); err != nil {
		t.Fatal(err)
	}
	b, err := other.Lock(ctx, false, 0)
	if err != nil {
		t.Skip("one process cannot hold two locks here") // see lock_other.go
	}
	if err := a.Upgrade(ctx, 0); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("upgrade beside a shared lock: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = b.Unlock() })
	if err := a.Upgrade(ctx, time.Minute); err != nil {
		t.Error(err)
	}
	if err := a.Unlock(); err != nil {
		t.Fatal(err)
	}
	c, err := other.Lock(ctx, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unlock(); err != nil {
		t.Fatal(err)
	}
}
