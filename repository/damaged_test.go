package repository

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"garret/repository/storage"
)

// readDamaged opens a copy of a repository as it is for reading, and returns what can be read of it, and what is wrong. It
// fails the test if anything is written once something is wrong.
func readDamaged(t testing.TB, m *storage.Mem, what string) (model, error) {
	t.Helper()
	ctx := context.Background()
	m = m.Clone()
	writes := 0
	m.Hook = func(string) error { writes++; return nil }
	o := rotOptions()
	o.Exclusive, o.Damaged = false, true
	r, err := OpenIn(ctx, m, o)
	if err != nil {
		t.Fatalf("%s: it cannot be opened for reading: %v", what, err)
	}
	defer mustClose(t, r)
	state := model{}
	for range 2 { // for an index without checksums shows that it is wrong when it is used
		ids, err := r.List(ctx, 0, nil)
		if err != nil {
			t.Fatalf("%s: the objects cannot be listed: %v", what, err)
		}
		clear(state)
		for _, id := range ids {
			data, err := r.Get(ctx, id)
			switch {
			case err == nil:
				state[id] = string(data)
			case !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrNotFound):
				t.Fatalf("%s: %v: %v", what, id, err)
			}
		}
		if len(state) == len(ids) {
			break
		}
	}
	if err := r.Put(ctx, ID{1}, nil); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("%s: it can be written to: %v", what, err)
	}
	damage := r.Damage()
	if damage != nil && writes > 0 {
		t.Fatalf("%s: %v; and yet there were %d writes", what, damage, writes)
	}
	return state, damage
}

// readBefore reads a damaged repository before its repair, now and then, and returns a check of what the repair has made of
// it: what it has kept as it was must have been read. Whatever is read must be as it was, or, where damage is told of, or
// nothing can be known of it, as it was before.
func (h *rotting) readBefore(i int, m *storage.Mem, known bool, what string) (after func(repaired model)) {
	h.Helper()
	if i%12 != 0 {
		return func(model) {}
	}
	seen, damage := readDamaged(h.T, m, what)
	for id, v := range seen {
		if v != h.want[id] && (known && damage == nil || !slices.Contains(h.ever[id], v)) {
			h.Fatalf("%s: read without a repair, %v is %.30q, want %.30q (%v)", what, id, v, h.want[id], damage)
		}
	}
	return func(repaired model) {
		h.Helper()
		maps.DeleteFunc(repaired, func(id ID, v string) bool { return v != h.want[id] || seen[id] == v })
		for id, v := range repaired {
			h.Fatalf("%s: after the repair %v is %.30q, and was not read before it: %.30q (%v)", what, id, v, seen[id], damage)
		}
	}
}

// TestADamagedCommitLosesNothing has an index that lags behind the transaction whose COMMIT has a wrong bit. What it stored,
// replaced and deleted is read so, and stays so by a repair.
func TestADamagedCommitLosesNothing(t *testing.T) {
	m := new(storage.Mem)
	r := createIn(t, m, rotOptions())
	for i := range 9 {
		mustPut(t, r, i, "before")
	}
	mustCommit(t, r)
	writeIndex(t, r)
	mustPut(t, r, 9, "between")
	mustCommit(t, r)
	mustDelete(t, r, 0)
	mustPut(t, r, 1, "replaced")
	mustPut(t, r, 10, "new")
	mustCommit(t, r)
	want := stateOf(t, r)
	last := r.committed
	mustClose(t, r)
	m.Damage(last, "", func(b []byte) []byte { b[len(b)-3] ^= 0x10; return b })

	seen, damage := readDamaged(t, m, "a damaged commit")
	if damage == nil || !maps.Equal(seen, want) {
		t.Errorf("read is %v, want %v (%v)", seen, want, damage)
	}
	r = openForCheckIn(t, m, rotOptions())
	report := mustCheck(t, r, true)
	mustFind(t, report, MissingCommit, uint32(last))
	if got := stateOf(t, r); !maps.Equal(got, want) {
		t.Errorf("after the repair it is %v, want %v: %v", got, want, report.Findings)
	}
	if again := mustCheck(t, r, true); !again.OK() {
		t.Errorf("a second repair finds %v", again.Findings)
	}
	mustClose(t, r)
}

// badSector is a storage of which some bytes of a segment cannot be read.
type badSector struct {
	storage.Storage
	segment  uint32
	from, to int64
}

type badSectorReader struct {
	storage.Reader
	*badSector
}

func (s *badSector) OpenSegment(n uint32) (storage.Reader, error) {
	r, err := s.Storage.OpenSegment(n)
	if err == nil && n == s.segment {
		r = badSectorReader{r, s}
	}
	return r, err
}

func (r badSectorReader) ReadAt(p []byte, off int64) (int, error) {
	if off < r.to && off+int64(len(p)) > r.from {
		return 0, &os.PathError{Op: "read", Path: "file", Err: syscall.EIO}
	}
	return r.Reader.ReadAt(p, off)
}

// TestABadSectorCostsWhatIsInIt has one within a segment, with an index and without. All objects but those that it is in are
// read, and it is told of.
func TestABadSectorCostsWhatIsInIt(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		m := new(storage.Mem)
		o := rotOptions()
		o.MaxSegmentSize = 1 << 20
		r := createIn(t, m, o)
		for i := range 40 {
			mustPut(t, r, i, valueOf(i)+strings.Repeat("x", 1500))
		}
		mustCommit(t, r)
		want := stateOf(t, r)
		loc, _, err := r.index.lookup(numbered(20))
		if err != nil {
			t.Fatal(err)
		}
		writeIndex(t, r)
		mustClose(t, r)
		if !indexed {
			dropIndex(m, nil, ownPrefix, indexPrefix, hintsPrefix)
		}
		from := int64(loc.offset) / 4096 * 4096
		bad := &badSector{m, loc.segment, from, from + 4096}
		var told []error
		o.Exclusive, o.Damaged, o.Warn = false, true, func(err error) { told = append(told, err) }
		if r, err = OpenIn(context.Background(), bad, o); err != nil {
			t.Fatal(err)
		}
		lost := 0
		for id, v := range want {
			got, err := r.Get(context.Background(), id)
			switch {
			case err == nil && string(got) != v:
				t.Errorf("index %v: %v is %.30q, want %.30q", indexed, id, got, v)
			case err != nil && !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrNotFound):
				t.Error(err)
			case err != nil:
				lost++
			}
		}
		if lost == 0 || lost > 5 {
			t.Errorf("index %v: %d objects of %d are lost", indexed, lost, len(want))
		}
		if len(told) != 1 || !errors.Is(told[0], syscall.EIO) {
			t.Errorf("index %v: told is %v", indexed, told)
		}
		if !errors.Is(r.Damage(), ErrCheckNeeded) {
			t.Errorf("index %v: the damage is %v", indexed, r.Damage())
		}
		mustClose(t, r)
	}
}
