package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"garret/repository/segment"
	"garret/repository/storage"
)

// newRepository returns one in a folder, which is checked in full when the test ends.
func newRepository(t *testing.T, o *Options) *Repository {
	t.Helper()
	r, err := Create(context.Background(), filepath.Join(t.TempDir(), "repo"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkPath(t, r) })
	return r
}

// checkPath closes a repository, opens it again with its index and without, and checks it.
func checkPath(t *testing.T, r *Repository) {
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		again, err := Open(context.Background(), r.String(), &Options{ReadOnly: true})
		if err != nil {
			t.Error(err)
			return
		}
		if report, err := again.Check(context.Background(), CheckOptions{}); err != nil || !report.OK() {
			t.Errorf("check: %v %v", report, err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		removeIndex(t, r.String())
	}
}

func reopen(t *testing.T, r *Repository, o *Options) *Repository {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), r.String(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

func numbered(i int) (id ID) {
	binary.LittleEndian.PutUint32(id[:], uint32(i)*2654435761)
	binary.LittleEndian.PutUint32(id[8:], uint32(i))
	return id
}

func mustPut(t *testing.T, r *Repository, i int, value string) {
	t.Helper()
	if err := r.Put(context.Background(), numbered(i), []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func mustCommit(t *testing.T, r *Repository) {
	t.Helper()
	if err := r.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	write := func(name, config string) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if config != "" {
			if err := os.WriteFile(filepath.Join(path, "config"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	sound := config{maxSegmentSize: 5000, segmentsPerFolder: 10}.String()
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "nowhere"), ErrNotExist},
		{write("empty", ""), ErrInvalid},
		{write("garbage", "\x00\xff"), ErrInvalid},
		{write("version", strings.Replace(sound, "version = 1", "version = 2", 1)), ErrNewer},
		{write("id", strings.Replace(sound, "id = 0", "id = ", 1)), ErrInvalid},
		{write("per dir", strings.Replace(sound, "= 10\n", "= 0\n", 1)), ErrInvalid},
		{write("size", strings.Replace(sound, "5000", "99999999999999999999", 1)), ErrInvalid},
		{write("no section", strings.Replace(sound, "[repository]", "[other]", 1)), ErrInvalid},
		{filepath.Join(dir, "empty", "config", "x"), ErrNotExist},
	} {
		if _, err := Open(ctx, c.path, nil); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v, want %v", c.path, err, c.want)
		}
	}
	if _, err := Create(ctx, filepath.Join(dir, "garbage"), nil); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := Create(ctx, filepath.Join(dir, "a", "b"), nil); err == nil {
		t.Error("a repository is created in a folder that is not there")
	}
}

func TestConfigRoundTrip(t *testing.T) {
	c := config{id: ID{1, 2}, maxSegmentSize: 12345, segmentsPerFolder: 678}
	got, err := parseConfig(c.String())
	if err != nil || got != c {
		t.Errorf("%v %v", got, err)
	}
	got, err = parseConfig("; comment\n[other]\nid = 1\n[repository]\nVERSION: 1\n  id=" + c.id.String() +
		"\nsegments_per_dir : 678\nmax_segment_size=12345\nunknown = x\n")
	if err != nil || got != c {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(config{maxSegmentSize: 1, segmentsPerFolder: 1}.String())
	f.Add("[repository]\n=\n:\n[")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseConfig(text); err == nil {
			c.badReserve = ""
			if again, err := parseConfig(c.String()); err != nil || again != c {
				t.Errorf("%v, again %v %v", c, again, err)
			}
		}
	})
}

func FuzzHints(f *testing.F) {
	f.Add((&hints{live: map[uint32]int{1: 2, 3: 4}, compact: []uint32{3}}).encode())
	f.Add([]byte("\x83\xa7version\x01\xa8segments\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHints(b); err == nil {
			again, err := parseHints(h.encode())
			if err != nil || !maps.Equal(again.live, h.live) || !slices.Equal(again.compact, h.compact) {
				t.Errorf("%v, again %v %v", h, again, err)
			}
		}
	})
}

func TestValuesOfAllSizes(t *testing.T) {
	ctx := context.Background()
	r := newRepository(t, nil)
	sizes := []int{
		0, 1, firstRead - segment.KeyedSize, firstRead - segment.KeyedSize + 1, blockSize - segment.KeyedSize,
		blockSize, blockSize + 1, 5 << 20, MaxObjectSize,
	}
	value := func(n int) []byte { return bytes.Repeat([]byte{byte(n + 1)}, n) }
	for i, n := range sizes {
		if err := r.Put(ctx, numbered(i), value(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(ctx, numbered(99), make([]byte, MaxObjectSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	verify := func() {
		t.Helper()
		for i, n := range sizes {
			got, err := r.Get(ctx, numbered(i))
			if err != nil || !bytes.Equal(got, value(n)) {
				t.Errorf("%d bytes: got %d, %v", n, len(got), err)
			}
		}
	}
	verify() // out of the buffers
	mustCommit(t, r)
	verify()
	r = reopen(t, r, nil)
	verify()
}

func TestListPages(t *testing.T) {
	ctx := context.Background()
	// Enough for several tables, with something in memory.
	r := newRepository(t, &Options{tuning: tuning{tail: tail{bytes: 1 << 20, segments: 100, entries: 90}, layer: 10}})
	want := map[ID]bool{}
	for i := range 2600 {
		mustPut(t, r, i, "x")
		want[numbered(i)] = true
		if i%37 == 0 {
			mustCommit(t, r)
		}
		if i%5 == 4 {
			if err := r.Delete(ctx, numbered(i-3)); err != nil {
				t.Fatal(err)
			}
			delete(want, numbered(i-3))
		}
		if i%11 == 10 {
			mustPut(t, r, i-2, "again")
			want[numbered(i-2)] = true
		}
	}
	if len(r.index.tables) < 2 || len(r.index.txn) == 0 {
		t.Fatalf("%d tables, %d in memory", len(r.index.tables), len(r.index.txn))
	}
	all, err := r.List(ctx, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 7, 100, 2079, 2080, 5000} {
		var paged []ID
		var marker *ID
		for {
			page, err := r.List(ctx, limit, marker)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("%d ids on a page of %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			marker = &page[len(page)-1]
		}
		if !slices.Equal(paged, all) {
			t.Errorf("pages of %d give %d ids, all are %d", limit, len(paged), len(all))
		}
	}
	got := map[ID]bool{}
	for _, id := range all {
		got[id] = true
	}
	if !maps.Equal(got, want) || len(all) != len(want) {
		t.Errorf("%d ids, want %d", len(all), len(want))
	}
	if _, err := r.List(ctx, 1, &ID{1, 2, 3}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown marker: %v", err)
	}
	mustCommit(t, r)
}

func TestGetManyKeepsOrder(t *testing.T) {
	ctx := context.Background()
	r := newRepository(t, nil)
	for i := range 500 {
		mustPut(t, r, i, fmt.Sprint(i))
	}
	mustCommit(t, r)
	ids := make([]ID, 0, 501)
	for i := range 501 {
		ids = append(ids, numbered(500-i))
	}
	i := 500
	for data, err := range r.GetMany(ctx, slices.Values(ids)) {
		if i == 500 {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("missing object: %v", err)
			}
		} else if err != nil || string(data) != fmt.Sprint(i) {
			t.Fatalf("object %d is %q, %v", i, data, err)
		}
		i--
	}
	if i != -1 {
		t.Errorf("it ends before object %d", i)
	}
	for range r.GetMany(ctx, slices.Values(ids)) {
		break
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	var last error
	for _, err := range r.GetMany(cancelled, slices.Values(ids)) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("cancelled: %v", last)
	}
}

func TestSharedReadersAndLocks(t *testing.T) {
	ctx := context.Background()
	r := newRepository(t, nil)
	mustPut(t, r, 1, "one")
	mustCommit(t, r)
	if _, err := Open(ctx, r.String(), nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "this process") {
		t.Errorf("open beside a writer: %v", err)
	}
	if runtime.GOOS != "linux" {
		t.Skip("a process can have a repository open once on this system")
	}
	a := reopen(t, r, nil)
	b, err := Open(ctx, r.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Put(ctx, ID{1}, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("put beside a reader: %v", err)
	}
	if data, err := b.Get(ctx, numbered(1)); err != nil || string(data) != "one" {
		t.Errorf("%q %v", data, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, 2, "two") // the failure to lock did no harm
	mustCommit(t, a)
	ro := reopen(t, a, &Options{ReadOnly: true, Exclusive: true})
	if err := ro.Put(ctx, ID{1}, nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := ro.Delete(ctx, numbered(1)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("delete: %v", err)
	}
	if _, err := ro.Compact(ctx); !errors.Is(err, ErrReadOnly) {
		t.Errorf("compact: %v", err)
	}
	if err := ro.WriteFile("garret.x", nil); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write file: %v", err)
	}
	if _, err := ro.Check(ctx, CheckOptions{Repair: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("repair: %v", err)
	}
	if err := ro.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ro.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := ro.Get(ctx, numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	if err := ro.Commit(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
}

func TestNamedFiles(t *testing.T) {
	r := newRepository(t, nil)
	for _, name := range []string{"config", "garret.tables", "garret.delta.1", "index.1", "garret./x", "garret.x.tmp"} {
		if err := r.WriteFile(name, nil); err == nil {
			t.Errorf("%q can be written", name)
		}
	}
	if err := r.WriteFile("garret.note", []byte("text")); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, r, nil)
	if b, err := r.ReadFile("garret.note"); err != nil || string(b) != "text" {
		t.Errorf("%q %v", b, err)
	}
}

// TestReadersBesideWriter has many goroutines read and write at once. It is meant for the race detector.
func TestReadersBesideWriter(t *testing.T) {
	ctx := context.Background()
	r := newRepository(t, &Options{
		MaxSegmentSize: 20_000, CompactThreshold: 0.2,
		Warn:   func(err error) { t.Error(err) },
		tuning: tuning{tail: tail{bytes: 100_000, segments: 20, entries: 200}, layer: 100, tombstones: 50},
	})
	const stable, keys = 200, 300
	value := func(i, round int) string { return fmt.Sprint(i, " ", round, strings.Repeat("x", i)) }
	for i := range stable {
		mustPut(t, r, i, value(i, 0))
	}
	mustCommit(t, r)
	var done atomic.Bool
	var readers, writers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for !done.Load() {
				i := rand.IntN(keys)
				data, err := r.Get(ctx, numbered(i))
				if i < stable && err != nil || i >= stable && err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
				if err == nil && !strings.HasPrefix(string(data), fmt.Sprint(i, " ")) {
					t.Errorf("object %d is %.20q", i, data)
				}
				if _, err := r.Has(ctx, numbered(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Go(func() {
		for !done.Load() {
			if ids, err := r.List(ctx, 0, nil); err != nil || len(ids) < stable {
				t.Error(len(ids), err)
			}
		}
	})
	for round := range 20 {
		for w := range 3 {
			writers.Go(func() {
				for i := w; i < keys; i += 3 {
					if i < stable && i%7 != round%7 {
						continue
					}
					if err := r.Put(ctx, numbered(i), []byte(value(i, round))); err != nil {
						t.Error(err)
					}
					if i >= stable && round%2 == 1 {
						if err := r.Delete(ctx, numbered(i)); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		writers.Wait()
		mustCommit(t, r)
	}
	done.Store(true)
	readers.Wait()
	for i := range stable {
		if data, err := r.Get(ctx, numbered(i)); err != nil || !strings.HasPrefix(string(data), fmt.Sprint(i, " ")) {
			t.Errorf("%.20q %v", data, err)
		}
	}
}

// TestDamagedIndexFilesAreNotBelieved flips, zeroes, cuts and swaps what is beside the segments; the state stays the same.
func TestDamagedIndexFilesAreNotBelieved(t *testing.T) {
	seed, count := seeds(t, 1500, 50)
	rng := rand.New(rand.NewPCG(seed, 2))
	mem := new(storage.Mem)
	h := history(t, seed, mem, nil, 200, 0, 0)
	old := mem.Clone()
	again := history(t, seed+1, mem, h.committed, 100, 0, 0)
	r, err := OpenIn(context.Background(), mem, &Options{Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.flush(), r.Close()); err != nil { // else there may be no checksums
		t.Fatal(err)
	}
	oldNames, _ := old.Files()
	for i := range count {
		m := mem.Clone()
		names, _ := m.Files()
		names = slices.DeleteFunc(names, func(n string) bool { return n == configName || n == readmeName })
		name := names[rng.IntN(len(names))]
		m.Damage(-1, name, func(b []byte) []byte {
			switch {
			case len(b) == 0:
			case rng.IntN(2) == 0:
				b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
			case rng.IntN(2) == 0:
				b = b[:rng.IntN(len(b))]
			case rng.IntN(2) == 0:
				from := rng.IntN(len(b))
				clear(b[from:min(len(b), from+512)])
			default: // an old copy put back, under its own name or this one
				stale, _ := storage.ReadFile(old, oldNames[rng.IntN(len(oldNames))], 1<<30)
				return stale
			}
			return b
		})
		h.trace = append(again.trace, fmt.Sprintf("damaged %q, case %d", name, i))
		h.committed, h.inFlight = again.committed, nil
		h.keep = []string{"all", "none"} // without checksums less can be noticed
		h.verify(m, fmt.Sprintf("seed %d", seed))
	}
}

// TestDamagedSegments damages segments at random. What is read is right or an error; the check finds it; the repair loses
// only what was damaged, and finds nothing to do a second time.
func TestDamagedSegments(t *testing.T) {
	ctx := context.Background()
	seed, count := seeds(t, 1500, 50)
	rng := rand.New(rand.NewPCG(seed, 3))
	mem := new(storage.Mem)
	h := history(t, seed, mem, nil, 150, 0, 0)
	segments, _ := mem.Segments(-1)
	st, err := readState(mem)
	indexed := int64(-1)
	if err == nil {
		indexed = int64(st.transaction)
	}
	lost := 0
	for i := range count {
		m := mem.Clone()
		n := segments[rng.IntN(len(segments))]
		kind := ""
		changed := false
		m.Damage(int64(n), "", func(b []byte) []byte {
			before := bytes.Clone(b)
			switch at := rng.IntN(len(b)); rng.IntN(5) {
			case 0:
				kind = fmt.Sprintf("flip a bit of byte %d", at)
				b[at] ^= 1 << rng.IntN(8)
			case 1:
				kind = fmt.Sprintf("cut off at %d", at)
				b = b[:at]
			case 2:
				kind = fmt.Sprintf("zero from %d", at)
				clear(b[at:min(len(b), at+512)])
			case 3:
				kind = fmt.Sprintf("garbage from %d", at)
				for k := at; k < min(len(b), at+60); k++ {
					b[k] = byte(rng.Uint32())
				}
			default:
				kind = "removed"
				b = nil
			}
			changed = !bytes.Equal(before, b)
			return b
		})
		if !changed {
			continue
		}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d case %d, segment %d: %s: %s\nstate %v\n%s", seed, i, n, kind,
				fmt.Sprintf(format, args...), h.committed, strings.Join(h.trace, "\n"))
		}
		opts := *h.opts
		opts.Warn = nil
		r, err := OpenForCheckIn(ctx, m, &opts)
		if err != nil {
			fail("open: %v", err)
		}
		// What the segments say that no index has yet, is known from them alone: what is lost there is lost.
		tail := int64(n) > indexed
		for id, want := range h.committed {
			if data, err := r.Get(ctx, id); err == nil && string(data) != want && !tail {
				fail("get %x: wrong bytes", id[0])
			}
		}
		var findings []Finding
		for round := range 3 {
			report, err := r.Check(ctx, CheckOptions{Repair: round > 0})
			if err != nil {
				fail("check: %v", err)
			}
			if round == 0 {
				findings = report.Findings
			}
			if round == 2 && !report.OK() {
				fail("second repair finds %v", report.Findings)
			}
		}
		got := stateOf(t, r)
		for id, value := range got {
			if want, ok := h.committed[id]; tail {
				continue
			} else if !ok {
				fail("%x is back; found was %v", id[0], findings)
			} else if want != value {
				fail("%x has an old value; found was %v", id[0], findings)
			}
		}
		lost += len(h.committed) - len(got)
		if !tail && len(findings) == 0 && len(got) < len(h.committed) {
			fail("%d objects are lost and nothing was found", len(h.committed)-len(got))
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d objects lost in %d cases", lost, count)
}
