package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"garret/repository/storage"
)

// What a process that was killed, a power failure, or an operation that failed leaves to the next one.

// crashFrom makes the n-th operation from now on, and all after it, fail.
func crashFrom(mem *storage.Mem, n int) {
	ops := 0
	mem.Hook = func(string) error {
		if ops++; ops >= n {
			return errCrash
		}
		return nil
	}
}

// commitAndKill commits object 1, and object 2 in a process that is killed at an operation of that: its lock is free then,
// and what it has written and not synced is there until the power fails. It reports false if the process had ended before.
func commitAndKill(t *testing.T, mem *storage.Mem, at int) bool {
	t.Helper()
	ctx := context.Background()
	r := createIn(t, mem, plain())
	putCommit(t, r, 1, valueOf(1))
	crashFrom(mem, at)
	err := errors.Join(r.Put(ctx, numbered(2), []byte(valueOf(2))), r.Commit(ctx))
	_ = r.Close() // which can change nothing either
	mem.Hook = nil
	return err != nil
}

// TestKillThenPowerFailure kills a process within a commit, lets another commit, and fails the power. What the other one
// found, and went on from, must be there with what it committed.
func TestKillThenPowerFailure(t *testing.T) {
	seed, count := seeds(t, 200, 20)
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			if !commitAndKill(t, mem, at) {
				break
			}
			r := openIn(t, mem, plain())
			putCommit(t, r, 3, valueOf(3))
			want := stateOf(t, r)
			left := mem.Crash(rand.New(rand.NewPCG(seed, uint64(at))))
			mustClose(t, r)
			mustHold(t, left, want, fmt.Sprintf("seed %d, killed at operation %d", seed, at))
		}
	}
}

// TestKillThenReaderThenPowerFailure is the same with another process that reads only, and writes an index.
func TestKillThenReaderThenPowerFailure(t *testing.T) {
	seed, count := seeds(t, 200, 20)
	o := plain()
	o.Exclusive, o.tuning = false, tuning{tail: tail{entries: 1}, layer: 4, tombstones: 100}
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			if !commitAndKill(t, mem, at) {
				break
			}
			r := openIn(t, mem, o)
			left := mem.Crash(rand.New(rand.NewPCG(seed, uint64(at))))
			mustClose(t, r)
			h := &run{
				t: t, opts: plain(), committed: valuesOf(1, 1), inFlight: []model{valuesOf(1, 2)},
				keep: []string{"all", "index and hints", "none"},
			}
			h.verify(left, fmt.Sprintf("seed %d, killed at operation %d", seed, at))
		}
	}
}

// TestKillHistories kills a history at each of its operations in turn, goes on with another one, and fails the power.
func TestKillHistories(t *testing.T) {
	seed, count := seeds(t, 6, 1)
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			h := history(t, seed, mem, nil, 40, at, 0)
			if !h.crashed() {
				break
			}
			if h.r == nil {
				continue // killed while it was created
			}
			mem.Hook = nil
			state := h.verify(mem.Clone(), fmt.Sprintf("seed %d, killed at operation %d", seed, at))
			rng := rand.New(rand.NewPCG(seed, uint64(at)))
			again := history(t, seed+7, mem, state, 30, 1+rng.IntN(60), 0)
			again.trace = append(append(h.trace, "killed"), again.trace...)
			if maps.Equal(again.committed, state) {
				// The second process has acknowledged nothing, so what it found need not be durable.
				again.inFlight = append(append(again.inFlight, h.inFlight...), h.committed)
			}
			for k := range 3 {
				again.verify(mem.Crash(rng), fmt.Sprintf("seed %d, killed at operation %d, power failure %d", seed, at, k))
			}
		}
	}
}

// TestFailedSyncThenCompact fails one operation of a compaction, does it again, and fails the power at each operation of
// that. What was deleted must not come back, be the index lost too.
func TestFailedSyncThenCompact(t *testing.T) {
	ctx := context.Background()
	seed, count := seeds(t, 8, 4)
	prepare := func() (*storage.Mem, *Repository) {
		mem := new(storage.Mem)
		r := createIn(t, mem, plain())
		putCommit(t, r, 1, valueOf(1))
		mustDelete(t, r, 1)
		mustCommit(t, r)
		putCommit(t, r, 5, valueOf(5))
		return mem, r
	}
	for failAt, failed := 1, true; failed; failAt++ {
		for crashAt, crashed := 1, true; crashed && failed; crashAt++ {
			mem, r := prepare()
			ops := 0
			mem.Hook = func(string) error {
				if ops++; ops == failAt {
					return errFault
				}
				return nil
			}
			_, err := r.Compact(ctx)
			failed = ops >= failAt
			crashFrom(mem, crashAt)
			_, err2 := r.Compact(ctx)
			crashed = err2 != nil
			for k := range count {
				left := mem.Crash(rand.New(rand.NewPCG(seed+uint64(k), 3)))
				mustHold(t, left, valuesOf(5, 5), fmt.Sprintf("seed %d, fault at operation %d (%v), crash at operation %d (%v)",
					seed+uint64(k), failAt, err, crashAt, err2))
			}
			_ = r.Close()
		}
	}
}

// TestRollbackTwice fails a commit at its very last sync, then the rollback, and rolls back again: that must remove the
// transaction, not only say so.
func TestRollbackTwice(t *testing.T) {
	mem := new(storage.Mem)
	r := createIn(t, mem, plain())
	putCommit(t, r, 1, valueOf(1))
	fail := ""
	mem.Hook = func(op string) error {
		if fail != "" && strings.HasPrefix(op, fail) {
			return errFault
		}
		return nil
	}
	mustPut(t, r, 2, valueOf(2))
	fail = "sync segments"
	if err := r.Commit(context.Background()); !errors.Is(err, errFault) {
		t.Fatalf("commit: %v", err)
	}
	fail = "remove segment"
	if err := r.Rollback(); !errors.Is(err, errFault) {
		t.Fatalf("rollback: %v", err)
	}
	fail = ""
	if err := r.Rollback(); err != nil {
		t.Fatalf("second rollback: %v", err)
	}
	mustNotHave(t, r, 2)
	mustClose(t, r)
	mustHold(t, mem, valuesOf(1, 1), "rolled back")
}

// TestVictimsAfterCrash crashes before compacted segments are removed. The next process must remove them without being told.
func TestVictimsAfterCrash(t *testing.T) {
	mem := new(storage.Mem)
	o := plain()
	o.CompactThreshold = 0.25
	r := createIn(t, mem, o)
	large := strings.Repeat("x", 1500)
	for i := range 20 {
		mustPut(t, r, i, large)
	}
	mustCommit(t, r)
	mem.Hook = func(op string) error {
		if strings.HasPrefix(op, "remove segment") {
			return errCrash
		}
		return nil
	}
	for i := range 19 {
		mustDelete(t, r, i)
	}
	mustCommit(t, r)
	left := mem.Crash(nil)
	mustClose(t, r)
	r = openIn(t, left, o)
	want := valuesOf(100, 129)
	want[numbered(19)] = large
	for i := 100; i <= 129; i++ {
		putCommit(t, r, i, valueOf(i))
	}
	mustClose(t, r)
	dead := 0
	numbers, _ := left.Segments(-1)
	for _, n := range numbers {
		if b := segmentOf(t, left, n); n <= 20 {
			dead += len(b)
		}
	}
	if dead > 4000 {
		t.Errorf("%d bytes of dead segments are left", dead)
	}
	mustHold(t, left, want, "after the crash")
}
