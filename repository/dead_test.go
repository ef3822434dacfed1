package repository

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDeadIsWhatCompactFrees asks after deletions, in the same process and after opening the repository again.
func TestDeadIsWhatCompactFrees(t *testing.T) {
	ctx := context.Background()
	o := &Options{MaxSegmentSize: 10_000, CompactThreshold: 2}
	r := newRepository(t, o)
	for i := range 100 {
		mustPut(t, r, i, strings.Repeat("x", 1000))
	}
	mustCommit(t, r)
	dead := func() int64 {
		t.Helper()
		n, err := r.Dead(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := dead(); n != 0 {
		t.Errorf("%d bytes are dead before anything was deleted", n)
	}
	for i := 0; i < 100; i += 3 {
		if err := r.Delete(ctx, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Dead(ctx); err == nil {
		t.Error("no error while a transaction is open")
	}
	mustCommit(t, r)
	before := dead()
	if before < 34*1000 || before > 34*1150 {
		t.Errorf("%d bytes are dead of 34 objects", before)
	}
	r = reopen(t, r, &Options{ReadOnly: true, CompactThreshold: 2})
	if n := dead(); n != before {
		t.Errorf("%d bytes are dead after opening it again, and were %d", n, before)
	}
	r = reopen(t, r, o)
	freed, err := r.Compact(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if freed < before*9/10 || freed > before*11/10 {
		t.Errorf("compaction has freed %d bytes of %d", freed, before)
	}
	if n := dead(); n != 0 {
		t.Errorf("%d bytes are dead after compaction", n)
	}
}

// TestCompactionLeavesALargeIndex frees less than a new index would take: none is written, what was deleted stays so, also for
// who goes by index.N alone, and there is nothing to do the next time.
func TestCompactionLeavesALargeIndex(t *testing.T) {
	ctx := context.Background()
	tuning := defaultTuning
	tuning.base = 0
	o := &Options{MaxSegmentSize: 10_000, CompactThreshold: 2, tuning: tuning}
	r := newRepository(t, o)
	const small, large = 5000, 10
	for i := range small {
		mustPut(t, r, i, "x")
	}
	mustCommit(t, r) // writes a base
	for i := range large {
		mustPut(t, r, small+i, strings.Repeat("x", 1000))
	}
	mustCommit(t, r)
	before := r.index.base()
	if before == nil {
		t.Fatal("there is no base")
	}
	gone := []int{0, 1, small, small + 5}
	for _, i := range gone {
		if err := r.Delete(ctx, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	mustCommit(t, r)
	for i := range 3 {
		dead, err := r.Dead(ctx)
		if err != nil {
			t.Fatal(err)
		}
		freed, err := r.Compact(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case i == 0 && (freed < 2000 || freed < dead*9/10 || freed > dead*11/10):
			t.Errorf("%d bytes are freed, of %d that are dead", freed, dead)
		case i > 0 && (dead != 0 || freed != 0):
			t.Errorf("compaction %d frees %d bytes, of %d that are dead", i, freed, dead)
		}
	}
	if r.index.base() != before {
		t.Error("a new base was written")
	}
	path := r.String()
	mustClose(t, r)
	for _, name := range []string{tablesName, deltaPrefix, sumsPrefix} { // what the reference does not know
		files, err := filepath.Glob(filepath.Join(path, name+"*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := Open(ctx, path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, r)
	for i := range small + large {
		if has, err := r.Has(ctx, numbered(i)); err != nil || has == slices.Contains(gone, i) {
			t.Fatalf("object %d: %v, %v", i, has, err)
		}
	}
}
