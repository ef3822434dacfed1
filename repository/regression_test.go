package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"garret/repository/segment"
	"garret/repository/storage"
)

// Each test in this file, in damage_test.go and in kill_test.go keeps one thing from going wrong again. They share a plain
// repository: small segments, no compaction by itself, and values that follow from the number of the object.

func plain() *Options {
	return &Options{MaxSegmentSize: 2000, CompactThreshold: 2, Exclusive: true}
}

func valueOf(i int) string { return fmt.Sprint("value ", i) }

// valuesOf returns the model of a repository with the objects from first to last.
func valuesOf(first, last int) model {
	m := model{}
	for i := first; i <= last; i++ {
		m[numbered(i)] = valueOf(i)
	}
	return m
}

func createIn(t testing.TB, s storage.Storage, o *Options) *Repository {
	t.Helper()
	r, err := CreateIn(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openIn(t testing.TB, s storage.Storage, o *Options) *Repository {
	t.Helper()
	r, err := OpenIn(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openForCheckIn(t testing.TB, s storage.Storage, o *Options) *Repository {
	t.Helper()
	r, err := OpenForCheckIn(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustClose(t testing.TB, r *Repository) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustDelete(t *testing.T, r *Repository, i int) {
	t.Helper()
	if err := r.Delete(context.Background(), numbered(i)); err != nil {
		t.Fatal(err)
	}
}

func putCommit(t *testing.T, r *Repository, i int, value string) {
	t.Helper()
	mustPut(t, r, i, value)
	mustCommit(t, r)
}

func mustCompact(t *testing.T, r *Repository) {
	t.Helper()
	if _, err := r.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// mustCheck returns what a check has found, and done if it is to repair.
func mustCheck(t testing.TB, r *Repository, repair bool) *Report {
	t.Helper()
	report, err := r.Check(context.Background(), CheckOptions{Repair: repair})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// mustFind fails the test if no finding is of a kind and about a segment.
func mustFind(t testing.TB, report *Report, kind FindingKind, segment uint32) {
	t.Helper()
	if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Kind == kind && f.Segment == segment }) {
		t.Errorf("check finds %v, want: %s: segment %d", report.Findings, kind, segment)
	}
}

func mustNotHave(t testing.TB, r *Repository, i int) {
	t.Helper()
	if value, err := r.Get(context.Background(), numbered(i)); !errors.Is(err, ErrNotFound) {
		t.Errorf("object %d is there: %.20q %v", i, value, err)
	}
}

// writeIndex writes index.N, hints.N, and the tables.
func writeIndex(t testing.TB, r *Repository) {
	t.Helper()
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := errors.Join(r.measure(), r.flushBase()); err != nil {
		t.Fatal(err)
	}
}

// transactions makes a repository whose segment i holds the object i, up to n, with an index.
func transactions(t *testing.T, n int) *storage.Mem {
	t.Helper()
	mem := new(storage.Mem)
	r := createIn(t, mem, plain())
	for i := 1; i <= n; i++ {
		putCommit(t, r, i, valueOf(i))
	}
	writeIndex(t, r)
	mustClose(t, r)
	return mem
}

// transaction makes a repository with the objects 1 to n, all of one transaction, with an index.
func transaction(t *testing.T, n int) *storage.Mem {
	t.Helper()
	mem := new(storage.Mem)
	r := createIn(t, mem, plain())
	for i := 1; i <= n; i++ {
		mustPut(t, r, i, valueOf(i))
	}
	mustCommit(t, r)
	writeIndex(t, r)
	mustClose(t, r)
	return mem
}

func lose(mem *storage.Mem, segments ...int64) {
	for _, n := range segments {
		mem.Damage(n, "", func([]byte) []byte { return nil })
	}
}

// flip flips a bit of a segment's byte, which is counted from the end if it is negative.
func flip(mem *storage.Mem, segment int64, at int) {
	mem.Damage(segment, "", func(b []byte) []byte {
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 1
		return b
	})
}

func segmentOf(t testing.TB, mem *storage.Mem, n uint32) []byte {
	t.Helper()
	s, err := mem.OpenSegment(n)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, s.Size())
	if _, err := s.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	return b
}

// mustHold opens a repository with its index and without, compares it with a model and checks it in full.
func mustHold(t testing.TB, mem *storage.Mem, want model, what string) {
	t.Helper()
	h := &run{t: t, opts: plain(), committed: want, keep: []string{"all", "index and hints", "none"}}
	h.verify(mem, what)
}

// mustReturn ends all tests if f does not return: what hangs may hold what the test needs to end.
func mustReturn(f func()) {
	late := time.AfterFunc(5*time.Minute, func() { panic("it does not return") })
	defer late.Stop()
	f()
}

// TestCreateOverReadme creates a repository where somebody keeps a README.
func TestCreateOverReadme(t *testing.T) {
	dir := t.TempDir()
	readme := filepath.Join(dir, readmeName)
	if err := os.WriteFile(readme, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Create(context.Background(), dir, nil)
	if after, _ := os.ReadFile(readme); !errors.Is(err, ErrExists) || string(after) != "notes" {
		t.Errorf("%v; README is now %q", err, after)
	}
}

// TestCreateThroughSymlinkData creates a repository where data leads to something else.
func TestCreateThroughSymlinkData(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	first := filepath.Join(mkdirIn(t, other, "0"), "0")
	err := errors.Join(os.WriteFile(first, []byte("precious"), 0o600), os.Symlink(other, filepath.Join(dir, "data")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Create(context.Background(), dir, nil)
	if after, _ := os.ReadFile(first); !errors.Is(err, ErrExists) || string(after) != "precious" {
		t.Errorf("%v; the segment there is now %q", err, after)
	}
}

func mkdirIn(t testing.TB, path, name string) string {
	t.Helper()
	dir := filepath.Join(path, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// forgeObjects makes the tables state a number of objects, with a right checksum.
func forgeObjects(mem *storage.Mem, n uint64) {
	mem.Damage(-1, tablesName, func(b []byte) []byte {
		binary.LittleEndian.PutUint64(b[28:], n)
		body := b[:len(b)-4]
		return binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
	})
}

// TestForgedObjectCount has tables with a number of objects that no memory is large enough for.
func TestForgedObjectCount(t *testing.T) {
	for _, n := range []uint64{1 << 63, 1 << 62, 1 << 50, 11} {
		mem := transaction(t, 10)
		forgeObjects(mem, n)
		r := openIn(t, mem, plain())
		compare(t, r, valuesOf(1, 10), nil)
		mustClose(t, r)
		mustHold(t, mem, valuesOf(1, 10), fmt.Sprint(n))
	}
}

// TestForgedObjectCountFlush writes an index after having read such tables.
func TestForgedObjectCountFlush(t *testing.T) {
	mem := transaction(t, 10)
	forgeObjects(mem, 1<<62)
	o := plain()
	o.tuning = tuning{layer: 10_000, tombstones: 100}
	r := openIn(t, mem, o)
	putCommit(t, r, 11, valueOf(11))
	mustClose(t, r)
	mustHold(t, mem, valuesOf(1, 11), "written to")
}

// TestFIFOTemp has a FIFO under the name of a temporary file, which must not be waited for.
func TestFIFOTemp(t *testing.T) {
	r := newRepository(t, plain())
	for i := range 5 {
		putCommit(t, r, 1, valueOf(i))
	}
	if err := syscall.Mkfifo(filepath.Join(r.String(), tablesName+".tmp"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustReturn(func() { mustCompact(t, r) })
}

// TestCacheFilesInTheWay has something else than a file, or too long or short a file, under each name that belongs to the
// index. Reading and checking must do without.
func TestCacheFilesInTheWay(t *testing.T) {
	ways := map[string]func(path string) error{
		"directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"fifo":      func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"symlink": func(path string) error {
			return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
		},
		"dangling": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("nowhere", path)) },
		"longer": func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, append(b, make([]byte, 64)...), 0o600))
		},
		"empty": func(path string) error { return os.Truncate(path, 0) },
	}
	for _, name := range []string{tablesName, sumsPrefix, indexPrefix, hintsPrefix} {
		for way, put := range ways {
			t.Run(name+" "+way, func(t *testing.T) {
				r := newRepository(t, plain())
				putCommit(t, r, 1, valueOf(1))
				writeIndex(t, r)
				mustClose(t, r)
				files, _ := filepath.Glob(filepath.Join(r.String(), name+"*"))
				if len(files) != 1 {
					t.Fatal(files)
				}
				if err := put(files[0]); err != nil {
					t.Fatal(err)
				}
				if name == indexPrefix || name == hintsPrefix {
					if err := os.Remove(filepath.Join(r.String(), tablesName)); err != nil {
						t.Fatal(err)
					}
				}
				mustReturn(func() { readAndCheck(t, r.String(), valuesOf(1, 1)) })
			})
		}
	}
}

// TestFolderInPlaceOfTables commits to a repository with a folder where garret.tables is to be. It is told of once.
func TestFolderInPlaceOfTables(t *testing.T) {
	r := newRepository(t, plain())
	mustClose(t, r)
	mkdirIn(t, mkdirIn(t, r.String(), tablesName), "precious")
	var told []string
	o := plain()
	o.Warn = func(err error) { told = append(told, err.Error()) }
	o.tuning = tuning{tail: tail{entries: 1}, layer: 4, tombstones: 100}
	again, err := Open(context.Background(), r.String(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		putCommit(t, again, i, valueOf(i))
	}
	mustClose(t, again)
	if len(told) > 1 {
		t.Errorf("warnings: %q", told)
	}
	aside := filepath.Join(r.String(), "garret.aside."+tablesName)
	if err := errors.Join(os.Remove(filepath.Join(aside, "precious")), os.Remove(aside)); err != nil {
		t.Error(err)
	}
	readAndCheck(t, r.String(), valuesOf(0, 9))
}

func readAndCheck(t *testing.T, path string, want model) {
	for _, readOnly := range []bool{true, false} {
		r, err := Open(context.Background(), path, &Options{ReadOnly: readOnly})
		if err != nil {
			t.Errorf("open: %v", err)
			return
		}
		compare(t, r, want, nil)
		if report := mustCheck(t, r, false); !report.OK() {
			t.Errorf("check: %v", report.Findings)
		}
		mustClose(t, r)
	}
}

// watched is a storage that tells of the opening and the reading of segments.
type watched struct {
	storage.Storage
	opening func(n uint32) // may be nil
	read    atomic.Int64   // bytes
}

type watchedReader struct {
	storage.Reader
	read *atomic.Int64
}

func (s *watched) OpenSegment(n uint32) (storage.Reader, error) {
	if s.opening != nil {
		s.opening(n)
	}
	r, err := s.Storage.OpenSegment(n)
	if err != nil {
		return nil, err
	}
	return &watchedReader{r, &s.read}, nil
}

func (r *watchedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	r.read.Add(int64(n))
	return n, err
}

// TestGetWhileRolledBack reads an object that the open transaction has replaced. Before its segment is opened, that
// transaction is rolled back, and another one gives the segment another content.
func TestGetWhileRolledBack(t *testing.T) {
	mem := new(storage.Mem)
	s := &watched{Storage: mem}
	r := createIn(t, s, plain())
	putCommit(t, r, 1, valueOf(1))
	mustPut(t, r, 1, strings.Repeat("a", 3000))
	mustPut(t, r, 2, strings.Repeat("a", 3000)) // in the next segment
	if err := r.appender.drain(); err != nil {
		t.Fatal(err)
	}
	r.segments.forget(2)
	s.opening = func(uint32) {
		s.opening = nil
		r.segments.mu.Unlock() // is held here, and is not yet at the moment that is meant
		defer r.segments.mu.Lock()
		if err := r.Rollback(); err != nil {
			t.Error(err)
		}
		putCommit(t, r, 7, valueOf(7))
	}
	if value, err := r.Get(context.Background(), numbered(1)); err != nil || string(value) != valueOf(1) {
		t.Errorf("%.20q %v", value, err)
	}
	if s.opening != nil {
		t.Error("nothing was rolled back")
	}
	mustClose(t, r)
	mustHold(t, mem, model{numbered(1): valueOf(1), numbered(7): valueOf(7)}, "rolled back")
}

// TestCheckMemory checks a segment of very many COMMITs, of which a check need remember nothing.
func TestCheckMemory(t *testing.T) {
	const size = 4 << 20
	mem := transactions(t, 3)
	mem.Damage(1, "", func(b []byte) []byte {
		return append(b, bytes.Repeat(segment.CommitEntry[:], size/segment.HeaderSize)...)
	})
	dropIndex(mem, nil, ownPrefix, indexPrefix, hintsPrefix)
	r := openIn(t, mem, plain())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	report := mustCheck(t, r, false)
	runtime.ReadMemStats(&after)
	if !report.OK() || report.Entries < size/segment.HeaderSize {
		t.Errorf("%d entries, %v", report.Entries, report.Findings)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size {
		t.Errorf("a check of %d bytes allocates %d", size, allocated)
	}
	mustClose(t, r)
	mustHold(t, mem, valuesOf(1, 3), "checked")
}

// TestLargestSegmentNumber has the last segments that the format allows. What is there is read, what fits is committed, and
// then nothing more is, in words.
func TestLargestSegmentNumber(t *testing.T) {
	for _, left := range []int{0, 1, 2} {
		r := newRepository(t, plain())
		putCommit(t, r, 1, valueOf(1))
		dir := r.String()
		mustClose(t, r)
		number := storage.MaxSegment - left
		content, err := os.ReadFile(filepath.Join(dir, "data/0/0"))
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, fmt.Sprint("data/", number/10_000)), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("data/%d/%d", number/10_000, number)), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err = Open(t.Context(), dir, plain())
		if err != nil {
			t.Fatal(err)
		}
		committed := 1
		for {
			if err = r.Put(t.Context(), numbered(committed+1), []byte(valueOf(committed+1))); err == nil {
				err = r.Commit(t.Context())
			}
			if err != nil {
				break
			}
			committed++
		}
		if !strings.Contains(err.Error(), "too large for the format") || committed != 1+left {
			t.Errorf("%d left: %d committed, then %v", left, committed-1, err)
		}
		r.Close()
		readAndCheck(t, dir, valuesOf(1, committed))
	}
}

// TestAnObjectInThePlaceOfAnotherDoesNotMakeTheIndexForget cuts an entry out of a damaged segment, so that another is where
// the index has it. Its checksums are right: who reads must not have it made anew without what is lost, or else a check has
// nothing to tell of.
func TestAnObjectInThePlaceOfAnotherDoesNotMakeTheIndexForget(t *testing.T) {
	mem := new(storage.Mem)
	r := createIn(t, mem, plain())
	for i := 1; i <= 4; i++ {
		mustPut(t, r, i, fmt.Sprint("value ", i))
	}
	mustCommit(t, r)
	writeIndex(t, r)
	loc, ok, err := r.index.lookup(numbered(2))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	mustClose(t, r)
	mem.Damage(int64(loc.segment), "", func(b []byte) []byte {
		b[segment.MagicSize+segment.KeyedSize] ^= 1 // the first object's value
		return slices.Delete(b, int(loc.offset), int(loc.offset)+segment.KeyedSize+len("value 2"))
	})
	r = openForCheckIn(t, mem, plain())
	for range 2 {
		if got, err := r.Get(context.Background(), numbered(2)); !errors.Is(err, ErrIntegrity) || errors.Is(err, ErrNotFound) {
			t.Errorf("it is %q, %v", got, err)
		}
	}
	report := mustCheck(t, r, true)
	left := stateOf(t, r)
	for i := 1; i <= 4; i++ {
		id := numbered(i)
		if _, there := left[id]; !there && !slices.ContainsFunc(report.Findings, func(f Finding) bool {
			return f.Kind == LostObject && f.Object != nil && *f.Object == id
		}) {
			t.Errorf("object %d is lost; check finds %v", i, report.Findings)
		}
	}
	if again := mustCheck(t, r, true); !again.OK() {
		t.Errorf("a second repair finds %v", again.Findings)
	}
	mustClose(t, r)
	mustHold(t, mem, left, "after the repair")
}
