package repository

import (
	"context"
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
