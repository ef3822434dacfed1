package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"garret/repository/storage"
)

// TestHistoriesWithLimitedRoom plays histories while somebody else fills the disk and leaves it. What finds no room fails,
// and nothing else does.
func TestHistoriesWithLimitedRoom(t *testing.T) {
	seed, count := seeds(t, 2000, 100)
	for i := range count {
		mem := new(storage.Mem)
		h := newRun(t, seed+uint64(i), mem, nil)
		h.limited, h.opts.Reserve = true, h.rng.Int64N(3)*30_000
		h.play(true, 80)
		h.verify(mem, fmt.Sprintf("seed %d", seed+uint64(i)))
	}
}

// TestCrashWithLimitedRoom crashes such histories at each of their operations in turn.
func TestCrashWithLimitedRoom(t *testing.T) {
	seed, count := seeds(t, 40, 2)
	crashes := 0
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			h := newRun(t, seed, mem, nil)
			h.limited, h.opts.Reserve, h.crashAt = true, h.rng.Int64N(3)*30_000, at
			h.play(true, 40)
			if !h.crashed() {
				break
			}
			for k := range 3 {
				var rng *rand.Rand // at first all is lost that was not synced
				if k > 0 {
					rng = rand.New(rand.NewPCG(seed, uint64(1000*at+k)))
				}
				h.verify(mem.Crash(rng), fmt.Sprintf("seed %d, crash at operation %d, %d", seed, at, k))
				crashes++
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestNoRoomAtEveryOperation lets each operation of a history find no room, in turn, once. What may use the reserve goes on
// with it; where it does not, the caller rolls back and goes on. At the end the power fails.
func TestNoRoomAtEveryOperation(t *testing.T) {
	seed, count := seeds(t, 30, 2)
	faults := 0
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			h := newRun(t, seed, mem, nil)
			h.faultAt, h.fault = at, []error{syscall.ENOSPC, syscall.EDQUOT}[at%2]
			h.play(true, 40)
			if !h.faulted() {
				break
			}
			faults++
			rng := rand.New(rand.NewPCG(seed, uint64(at)))
			h.verify(mem.Crash(rng), fmt.Sprintf("seed %d, no room at operation %d", seed, at))
		}
	}
	t.Logf("%d faults", faults)
}

// TestRoomToLeave deletes all objects of a repository, one or some at a time, on a disk that somebody else fills to the
// last byte before each. Nothing can be put, and the attempt costs nothing; each deletion and each compaction succeeds. At
// the end there is room again.
func TestRoomToLeave(t *testing.T) {
	seed, count := seeds(t, 600, 40)
	for i := range count {
		h := newRun(t, seed+uint64(i), new(storage.Mem), nil)
		h.limited, h.opts.Reserve = true, 90_000+h.rng.Int64N(5000)
		if h.rng.IntN(3) == 0 {
			h.opts.Reserve = 0
		}
		emptyFullDisk(h)
		h.verify(h.mem, fmt.Sprintf("seed %d", seed+uint64(i)))
	}
}

func emptyFullDisk(h *run) {
	ctx, t := context.Background(), h.t
	h.r = createIn(t, h.mem, h.opts)
	h.note("%+v", h.opts)
	fatal := func(what string, err error) {
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, strings.Join(h.trace, "\n"))
		}
	}
	for i := range 20 + h.rng.IntN(80) {
		v := h.value()
		fatal("put", h.r.Put(ctx, numbered(i), []byte(v)))
		if h.current[numbered(i)] = v; h.rng.IntN(5) == 0 {
			h.commit()
		}
	}
	h.commit()
	full, lost := logSize(t, h.mem), 0
	for len(h.committed) > 0 {
		late := h.rng.IntN(4) == 0
		h.mem.Limit(h.mem.Used(), late)
		used := h.mem.Used()
		if h.rng.IntN(3) == 0 {
			err := errors.Join(h.r.Put(ctx, ID{7}, make([]byte, h.rng.IntN(5000))), h.r.Commit(ctx))
			if !storage.IsFull(err) {
				t.Fatalf("something is put on a full disk: %v\n%s", err, strings.Join(h.trace, "\n"))
			}
			fatal("rollback", h.r.Rollback())
			if now := h.mem.Used(); now != used {
				t.Fatalf("a put that failed changed what is used from %d to %d\n%s", used, now, strings.Join(h.trace, "\n"))
			}
		}
		ids := slices.SortedFunc(maps.Keys(h.committed), compareIDs)
		for range 1 + h.rng.IntN(min(3, len(ids))) {
			id := ids[h.rng.IntN(len(ids))]
			if _, ok := h.current[id]; ok {
				fatal("delete", h.r.Delete(ctx, id))
				delete(h.current, id)
			}
		}
		h.note("delete, %d are left; %d bytes are kept", len(h.current), h.r.reserve.kept)
		fatal("commit", h.r.Commit(ctx))
		h.committed = maps.Clone(h.current)
		switch h.rng.IntN(8) {
		case 0, 1:
			h.note("compact")
			h.mem.Limit(h.mem.Used(), late)
			_, err := h.r.Compact(ctx)
			fatal("compact", err)
		case 2:
			// The room of an index that is lost goes to somebody else, so that a new one is taken from the reserve.
			loses := lost == 0 && h.opts.Reserve == 0 && h.rng.IntN(2) == 0
			if h.reopen(loses); loses {
				lost++
			}
		}
		compare(t, h.r, h.committed, h.trace)
	}
	h.mem.Limit(h.mem.Used(), false)
	_, err := h.r.Compact(ctx)
	fatal("compact", err)
	if now := logSize(t, h.mem); now > full/4 {
		t.Fatalf("the log of an empty repository has %d bytes, the full one's %d\n%s", now, full, strings.Join(h.trace, "\n"))
	}
	fatal("put", h.r.Put(ctx, numbered(1), []byte("there is room")))
	h.current[numbered(1)] = "there is room"
	h.commit()
	mustClose(t, h.r)
}

// logSize returns the length of all segments.
func logSize(t testing.TB, s storage.Storage) (sum int64) {
	numbers, err := s.Segments(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		r, err := s.OpenSegment(n)
		if err != nil {
			t.Fatal(err)
		}
		sum += r.Size()
		r.Close()
	}
	return sum
}

// TestNamedFilesOnAFullDisk writes a small file on a full disk, as a session does before it seals anything. A deletion that
// follows uses the room that was given up for it; an addition does not.
func TestNamedFilesOnAFullDisk(t *testing.T) {
	ctx, mem := context.Background(), new(storage.Mem)
	r := createIn(t, mem, plain())
	for i := range 20 {
		putCommit(t, r, i, valueOf(i))
	}
	r = reopenIn(t, mem, r)
	mem.Limit(mem.Used(), false)
	if err := r.WriteFile("garret.large", make([]byte, 5000)); !storage.IsFull(err) {
		t.Errorf("a large file finds room: %v", err)
	}
	if err := r.WriteFile("garret.small", []byte("small")); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(r.Put(ctx, numbered(99), make([]byte, 3000)), r.Commit(ctx))
	if !storage.IsFull(err) {
		t.Errorf("an object finds room: %v", err)
	}
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteFile("garret.small", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Put(ctx, numbered(1), []byte("other")), r.Delete(ctx, numbered(2)), r.Commit(ctx)); err != nil {
		t.Fatal(err)
	}
	want := valuesOf(0, 19)
	want[numbered(1)] = "other"
	delete(want, numbered(2))
	compare(t, r, want, nil)
	mustClose(t, r)
	mustHold(t, mem, want, "after all")
}

func reopenIn(t testing.TB, mem *storage.Mem, r *Repository) *Repository {
	t.Helper()
	mustClose(t, r)
	return openIn(t, mem, plain())
}

// TestOtherTransactionsLeaveTheReserve fills the disk with everything that is no deletion: more objects, replaced ones, and
// as many added as deleted.
func TestOtherTransactionsLeaveTheReserve(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(r *Repository, i int) error{
		"add":     func(r *Repository, i int) error { return r.Put(ctx, numbered(100+i), make([]byte, 1000)) },
		"replace": func(r *Repository, i int) error { return r.Put(ctx, numbered(i), make([]byte, 1000)) },
		"exchange": func(r *Repository, i int) error {
			return errors.Join(r.Delete(ctx, numbered(i)), r.Put(ctx, numbered(100+i), make([]byte, 1000)))
		},
	} {
		mem := new(storage.Mem)
		r := createIn(t, mem, plain())
		for i := range 20 {
			putCommit(t, r, i, valueOf(i))
		}
		r = reopenIn(t, mem, r)
		mem.Limit(mem.Used()+3000, false)
		var err error
		for i := 0; i < 20 && err == nil; i++ {
			err = change(r, i)
		}
		err = errors.Join(err, r.Commit(ctx))
		if !storage.IsFull(err) || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("%s: %v", name, err)
		}
		if r.reserve.kept < reserveBase {
			t.Errorf("%s: the reserve has %d bytes", name, r.reserve.kept)
		}
		if err := r.Rollback(); err != nil {
			t.Fatal(err)
		}
		compare(t, r, valuesOf(0, 19), nil)
		mem.Limit(mem.Used(), false)
		mustDelete(t, r, 3)
		mustCommit(t, r)
		mustCompact(t, r)
		mustClose(t, r)
		want := valuesOf(0, 19)
		delete(want, numbered(3))
		mustHold(t, mem, want, name)
	}
}

// TestReserveFollowsTheRepository holds the size of the reserve against the config, and against what is in the repository.
func TestReserveFollowsTheRepository(t *testing.T) {
	for _, c := range []struct {
		reserve, least, most int64
	}{{0, reserveBase, 2*reserveBase + 10_000}, {-1, 0, 0}, {5000, 5000, 5000}} {
		mem := new(storage.Mem)
		o := plain()
		o.Reserve = c.reserve
		kept := func(r *Repository) int64 {
			mustClose(t, r)
			n, err := mem.Reserve(0, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := kept(createIn(t, mem, o)); n < c.least || n > c.most {
			t.Errorf("reserve %d: a new repository keeps %d", c.reserve, n)
		}
		if _, err := mem.Release(1 << 40); err != nil {
			t.Fatal(err)
		}
		r := openIn(t, mem, plain())
		for i := range 5000 {
			mustPut(t, r, i, valueOf(i))
		}
		mustCommit(t, r)
		n := kept(r)
		if c.reserve != 0 && n != c.least || c.reserve == 0 && n < reserveBase+5000*reserveAnObject {
			t.Errorf("reserve %d: with 5000 objects it keeps %d", c.reserve, n)
		}
	}
}

// TestReserveCostsNothing counts what a storage is asked to do for the reserve: once a session.
func TestReserveCostsNothing(t *testing.T) {
	mem := new(storage.Mem)
	mustClose(t, createIn(t, mem, plain()))
	r := openIn(t, mem, plain())
	asked := 0
	mem.Hook = func(op string) error {
		if strings.Contains(op, "reserve") {
			asked++
		}
		return nil
	}
	for i := range 200 {
		putCommit(t, r, i%10, valueOf(i))
	}
	if asked != 1 {
		t.Errorf("the reserve is looked after %d times in 200 commits", asked)
	}
	mustClose(t, r)
}

// TestBadReserveInConfig opens a repository whose config says nonsense about the reserve.
func TestBadReserveInConfig(t *testing.T) {
	for _, value := range []string{"x", "-1", "8M", "1000000000000000", ""} {
		mem := new(storage.Mem)
		mustClose(t, createIn(t, mem, plain()))
		mem.Damage(-1, configName, func(b []byte) []byte {
			return append(b[:len(b)-1], reserveKey+" = "+value+"\n"...)
		})
		var told []string
		o := plain()
		o.Warn = func(err error) { told = append(told, err.Error()) }
		r := openIn(t, mem, o)
		putCommit(t, r, 1, valueOf(1))
		putCommit(t, r, 2, valueOf(2))
		if len(told) != 1 || !strings.Contains(told[0], fmt.Sprintf("%s = %q", reserveKey, value)) {
			t.Errorf("%q: %q", value, told)
		}
		if r.reserve.kept < reserveBase {
			t.Errorf("%q: %d bytes are kept", value, r.reserve.kept)
		}
		mustClose(t, r)
	}
}

// TestFailedSyncGivesUpTheReserve lets a sync of a deletion find no room, though there seems to be some: a quota may not
// show. The transaction fails. What is done again has the reserve given up before its first write, and it is back afterwards.
func TestFailedSyncGivesUpTheReserve(t *testing.T) {
	for at := 1; at <= 2; at++ {
		mem := new(storage.Mem)
		r := createIn(t, mem, plain())
		for i := range 10 {
			putCommit(t, r, i, valueOf(i))
		}
		full := mem.Used()
		syncs := 0
		mem.Hook = func(op string) error {
			if strings.HasPrefix(op, "sync segment ") {
				if syncs++; syncs == at {
					return syscall.EDQUOT
				}
			}
			return nil
		}
		mustDelete(t, r, 1)
		if err := r.Commit(context.Background()); !storage.IsFull(err) {
			t.Fatalf("sync %d fails, and the commit gives %v", at, err)
		}
		if err := r.Rollback(); err != nil {
			t.Fatal(err)
		}
		if now := mem.Used(); now != full {
			t.Errorf("after a rollback %d bytes are used, want %d", now, full)
		}
		var ops []string
		mem.Hook = func(op string) error { ops = append(ops, op); return nil }
		mustDelete(t, r, 1)
		mustCommit(t, r)
		release := slices.Index(ops, "release the reserve")
		create := slices.IndexFunc(ops, func(op string) bool { return strings.HasPrefix(op, "create segment") })
		if release < 0 || release > create || !slices.Contains(ops[create:], "reserve room") {
			t.Errorf("done again: %q", ops)
		}
		mustClose(t, r)
		want := valuesOf(0, 9)
		delete(want, numbered(1))
		mustHold(t, mem, want, "after all")
	}
}
