package repository

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"

	"garret/repository/storage"
)

// counted is a storage that knows which segments are open, and tells when one is about to be removed or replaced.
type counted struct {
	storage.Storage
	changing func(n uint32) // may be nil

	mu   sync.Mutex
	open map[uint32]int
}

type countedFile struct {
	storage.Writer
	s *counted
	n uint32
}

// readOnly is a Writer that is only read.
type readOnly struct {
	storage.Writer
	storage.Reader
}

func (r readOnly) ReadAt(p []byte, off int64) (int, error) { return r.Reader.ReadAt(p, off) }
func (r readOnly) Size() int64                             { return r.Reader.Size() }
func (r readOnly) Close() error                            { return r.Reader.Close() }

func (s *counted) count(n uint32, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[uint32]int{}
	}
	if s.open[n] += by; s.open[n] == 0 {
		delete(s.open, n)
	}
}

func (s *counted) are() map[uint32]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.open)
}

func (s *counted) CreateSegment(n uint32) (storage.Writer, error) {
	w, err := s.Storage.CreateSegment(n)
	if err == nil {
		s.count(n, 1)
		w = &countedFile{w, s, n}
	}
	return w, err
}

func (s *counted) OpenSegment(n uint32) (storage.Reader, error) {
	r, err := s.Storage.OpenSegment(n)
	if err == nil {
		s.count(n, 1)
		r = &countedFile{readOnly{Reader: r}, s, n}
	}
	return r, err
}

func (s *counted) RemoveSegment(n uint32) error {
	if s.changing != nil {
		s.changing(n)
	}
	return s.Storage.RemoveSegment(n)
}

func (s *counted) ReplaceSegment(n uint32, write func(io.Writer) error) error {
	if s.changing != nil {
		s.changing(n)
	}
	return s.Storage.ReplaceSegment(n, write)
}

func (f *countedFile) Close() error {
	f.s.count(f.n, -1)
	return f.Writer.Close()
}

// acquireAndRelease is a reader that has found an object in segment n before it was moved.
func acquireAndRelease(r *Repository) func(n uint32) {
	return func(n uint32) {
		if s, err := r.segments.acquire(n); err == nil {
			s.release()
		}
	}
}

// TestRemovedSegmentsAreNotKeptOpen reads a segment at the moment before it is removed, by a rollback and by a compaction. A
// descriptor of it that stays would keep the room on the disk.
func TestRemovedSegmentsAreNotKeptOpen(t *testing.T) {
	s := &counted{Storage: new(storage.Mem)}
	r := createIn(t, s, plain())
	putCommit(t, r, 1, valueOf(1))
	s.changing = acquireAndRelease(r)
	mustPut(t, r, 1, strings.Repeat("a", 3000))
	mustPut(t, r, 2, strings.Repeat("a", 3000))
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
	mustBeThere(t, s, "a rollback")
	putCommit(t, r, 1, strings.Repeat("b", 3000))
	putCommit(t, r, 1, strings.Repeat("c", 3000))
	mustCompact(t, r)
	mustBeThere(t, s, "a compaction")
	mustClose(t, r)
	if left := s.are(); len(left) > 0 {
		t.Errorf("open after the end: %v", left)
	}
}

func mustBeThere(t *testing.T, s *counted, after string) {
	t.Helper()
	numbers, err := s.Segments(-1)
	if err != nil {
		t.Fatal(err)
	}
	open := s.are()
	for _, n := range numbers {
		delete(open, n)
	}
	if len(open) > 0 {
		t.Errorf("after %s, segments are open that are not there: %v", after, open)
	}
}

// TestReplacedSegmentIsReadAnew reads a damaged segment at the moment before a repair replaces it.
func TestReplacedSegmentIsReadAnew(t *testing.T) {
	mem := new(storage.Mem)
	s := &counted{Storage: mem}
	r := createIn(t, s, plain())
	mustPut(t, r, 1, strings.Repeat("a", 500))
	putCommit(t, r, 2, valueOf(2))
	flip(mem, 1, 100)
	r.segments.forget(1) // of before the damage
	s.changing = acquireAndRelease(r)
	if report := mustCheck(t, r, true); !report.Repaired {
		t.Fatalf("nothing is repaired: %v", report.Findings)
	}
	mustNotHave(t, r, 1)
	if value, err := r.Get(context.Background(), numbered(2)); err != nil || string(value) != valueOf(2) {
		t.Errorf("%.20q %v", value, err)
	}
	mustClose(t, r)
}

// TestNothingIsOpenedAfterClose reads where a segment lies before the repository is closed, and the segment after it.
func TestNothingIsOpenedAfterClose(t *testing.T) {
	s := &counted{Storage: new(storage.Mem)}
	r := createIn(t, s, plain())
	putCommit(t, r, 1, valueOf(1))
	loc, _, err := r.index.lookup(numbered(1))
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, r)
	if _, err := r.read(loc, numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if left := s.are(); len(left) > 0 {
		t.Errorf("open after the end: %v", left)
	}
}
