package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"garret/repository/storage"
)

// Each operation of a storage in a real folder fails in turn, in each of the ways in which it can.

// A fault is how an operation fails.
type fault struct {
	name  string
	err   error // of every operation, or if it is short, of none
	short bool  // a read or a write does half of its work, and says so
	sync  bool  // only syncs fail
}

var faults = []fault{
	{name: "EIO", err: syscall.EIO},
	{name: "ENOSPC", err: syscall.ENOSPC},
	{name: "EDQUOT", err: syscall.EDQUOT},
	{name: "EROFS", err: syscall.EROFS},
	{name: "EINTR", err: syscall.EINTR},
	{name: "short read or write", short: true},
	{name: "sync: EIO", err: syscall.EIO, sync: true},
	{name: "sync: ENOSPC", err: syscall.ENOSPC, sync: true},
}

// faulty is a storage one operation of which fails.
type faulty struct {
	storage.Storage
	mu    sync.Mutex
	fault fault
	at    int // which one fails, from 1; 0 is none
	ops   int
	what  string // the one that failed
}

// fails counts an operation and reports whether it is the one that fails.
func (f *faulty) fails(what string, isSync, transfers bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault.sync && !isSync || f.fault.short && !transfers {
		return false
	}
	f.ops++
	if f.ops != f.at {
		return false
	}
	f.what = what
	return true
}

func (f *faulty) simple(what string, isSync bool) error {
	if f.fails(what, isSync, false) {
		return &os.PathError{Op: what, Path: "file", Err: f.fault.err}
	}
	return nil
}

func (f *faulty) Segments(after int64) ([]uint32, error) {
	if err := f.simple("list the segments", false); err != nil {
		return nil, err
	}
	return f.Storage.Segments(after)
}

func (f *faulty) CreateSegment(n uint32) (storage.Writer, error) {
	if err := f.simple("create a segment", false); err != nil {
		return nil, err
	}
	w, err := f.Storage.CreateSegment(n)
	return faultyWriter{w, f}, err
}

func (f *faulty) OpenSegment(n uint32) (storage.Reader, error) {
	if err := f.simple("open a segment", false); err != nil {
		return nil, err
	}
	r, err := f.Storage.OpenSegment(n)
	return faultyReader{r, f}, err
}

func (f *faulty) SyncSegment(n uint32) error {
	return errors.Join(f.simple("sync a segment", true), f.Storage.SyncSegment(n))
}

func (f *faulty) RemoveSegment(n uint32) error {
	if err := f.simple("remove a segment", false); err != nil {
		return err
	}
	return f.Storage.RemoveSegment(n)
}

func (f *faulty) SyncSegments() error {
	return errors.Join(f.simple("sync the folders", true), f.Storage.SyncSegments())
}

func (f *faulty) Files() ([]string, error) {
	if err := f.simple("list the files", false); err != nil {
		return nil, err
	}
	return f.Storage.Files()
}

func (f *faulty) OpenFile(name string) (storage.Reader, error) {
	if err := f.simple("open a file", false); err != nil {
		return nil, err
	}
	r, err := f.Storage.OpenFile(name)
	return faultyReader{r, f}, err
}

func (f *faulty) WriteFile(name string, write func(io.Writer) error) error {
	err := f.Storage.WriteFile(name, func(w io.Writer) error {
		if err := write(faultyPlainWriter{w, f}); err != nil {
			return err
		}
		return f.simple("sync a file", true)
	})
	if err != nil {
		return err
	}
	return f.simple("sync the folder of a file", true)
}

func (f *faulty) RemoveFile(name string) error {
	if err := f.simple("remove a file", false); err != nil {
		return err
	}
	return f.Storage.RemoveFile(name)
}

func (f *faulty) Reserve(least, most int64) (int64, error) {
	if err := f.simple("reserve room", false); err != nil {
		return 0, err
	}
	return f.Storage.Reserve(least, most)
}

type faultyPlainWriter struct {
	io.Writer
	f *faulty
}

func (w faultyPlainWriter) Write(p []byte) (int, error) {
	if !w.f.fails("write", false, true) {
		return w.Writer.Write(p)
	}
	n, err := w.Writer.Write(p[:len(p)/2])
	return n, errors.Join(err, w.f.fault.err, shortWrite(w.f.fault))
}

// shortWrite is what a file that writes less than it should fails with.
func shortWrite(f fault) error {
	if f.short {
		return io.ErrShortWrite
	}
	return nil
}

type faultyWriter struct {
	storage.Writer
	f *faulty
}

func (w faultyWriter) Write(p []byte) (int, error) { return faultyPlainWriter{w.Writer, w.f}.Write(p) }

func (w faultyWriter) Sync() error { return errors.Join(w.f.simple("sync", true), w.Writer.Sync()) }

func (w faultyWriter) Seal() error { return errors.Join(w.f.simple("seal", true), w.Writer.Seal()) }

func (w faultyWriter) ReadAt(p []byte, off int64) (int, error) {
	return faultyReader{w.Writer, w.f}.ReadAt(p, off)
}

type faultyReader struct {
	storage.Reader
	f *faulty
}

func (r faultyReader) ReadAt(p []byte, off int64) (int, error) {
	if !r.f.fails("read", false, true) {
		return r.Reader.ReadAt(p, off)
	}
	if r.f.fault.short {
		n, _ := r.Reader.ReadAt(p[:len(p)/2], off)
		return n, io.EOF // as if the file ended there
	}
	return 0, &os.PathError{Op: "read", Path: "file", Err: r.f.fault.err}
}

// TestFaultsInAFolder runs a session in a folder: objects are stored, deleted, committed, read and compacted. Where an
// operation fails, the session has to say so or to do without it. What is left is the state before the transaction or the
// one after it, and the latter if its commit succeeded.
func TestFaultsInAFolder(t *testing.T) {
	count := map[string]int{}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			for at := 1; faultInAFolder(t, fault, at); at++ {
				count[fault.name]++
			}
			t.Logf("%d operations failed", count[fault.name])
		})
	}
}

// faultInAFolder fails the operation at, and reports whether there was one.
func faultInAFolder(t *testing.T, fault fault, at int) bool {
	t.Helper()
	ctx := context.Background()
	d, err := storage.CreateDir(tempFolder(t))
	if err != nil {
		t.Fatal(err)
	}
	o := plain()
	o.SegmentsPerFolder = 3
	o.tuning = tuning{tail: tail{bytes: 4000, segments: 4, entries: 8}, layer: 2, tombstones: 8}
	o.Warn = func(error) {}
	r := createIn(t, d, o)
	before := model{}
	for i := range 12 {
		before[numbered(i)] = strings.Repeat(valueOf(i), 20)
		mustPut(t, r, i, before[numbered(i)])
	}
	mustCommit(t, r)
	mustClose(t, r)

	f := &faulty{Storage: d, fault: fault, at: at}
	what := func() string { return fmt.Sprintf("%s at operation %d: %s", fault.name, at, f.what) }
	after := maps.Clone(before)
	committed := false
	r, err = OpenIn(ctx, f, o)
	if err == nil {
		committed, err = session(ctx, t, r, before, after, what)
		if err != nil && !committed {
			// A transaction that failed stays failed.
			if again := r.Commit(ctx); again == nil && !errors.Is(r.Put(ctx, numbered(99), nil), ErrFailed) && r.appender != nil {
				t.Errorf("%s: the transaction goes on after %v", what(), err)
			}
		}
		_ = r.Close()
	} else {
		maps.Copy(after, before)
	}
	if err != nil && fault.err != nil && !errors.Is(err, fault.err) {
		t.Errorf("%s: the error says something else: %v", what(), err)
	}
	failed := f.what != ""
	if err != nil && !failed {
		t.Fatalf("%s: nothing has failed, but %v", what(), err)
	}
	r = openIn(t, d, plain())
	got := stateOf(t, r)
	if !maps.Equal(got, after) && (committed || !maps.Equal(got, before)) {
		t.Errorf("%s: error %v, committed %v, and it holds %v", what(), err, committed, got)
	}
	if report := mustCheck(t, r, false); !report.OK() {
		t.Errorf("%s: check: %v", what(), report.Findings)
	}
	mustClose(t, r)
	return failed && !t.Failed()
}

// session is what is done in a repository whose storage fails. It changes after to the state behind the commit.
func session(ctx context.Context, t *testing.T, r *Repository, before, after model, what func() string) (committed bool, err error) {
	for i := 12; i < 20; i++ {
		after[numbered(i)] = strings.Repeat(valueOf(i), 20)
	}
	after[numbered(3)] = "another value"
	for i := range 3 {
		delete(after, numbered(i))
	}
	for i := 12; i < 20; i++ {
		if err := r.Put(ctx, numbered(i), []byte(after[numbered(i)])); err != nil {
			return false, err
		}
	}
	if err := r.Put(ctx, numbered(3), []byte(after[numbered(3)])); err != nil {
		return false, err
	}
	for i := range 3 {
		if err := r.Delete(ctx, numbered(i)); err != nil {
			return false, err
		}
	}
	if err := r.Commit(ctx); err != nil {
		return false, err
	}
	for id, want := range after {
		got, err := r.Get(ctx, id)
		if err != nil {
			return true, err
		}
		if string(got) != want {
			t.Errorf("%s: %v is %.20q", what(), id, got)
		}
	}
	_, err = r.Compact(ctx)
	return true, err
}

func tempFolder(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "garret-faults-")
	if err != nil {
		return t.TempDir() + "/repo"
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir + "/repo"
}
