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

// TestInterruptedRepair fails the power at each operation of a repair, and repairs again. What was sound before must be there
// then, whether the index was written before the damaged segment was replaced or not.
func TestInterruptedRepair(t *testing.T) {
	seed, count := seeds(t, 6, 2)
	prepare := func() *storage.Mem {
		mem := new(storage.Mem)
		r := createIn(t, mem, plain())
		for i := 1; i <= 30; i++ {
			mustPut(t, r, i, strings.Repeat(valueOf(i), 10))
		}
		for i := 1; i <= 5; i++ {
			mustDelete(t, r, 6*i)
		}
		mustCommit(t, r)
		writeIndex(t, r)
		putCommit(t, r, 40, valueOf(40)) // behind the index
		mustClose(t, r)
		return mem
	}
	want := valuesOf(1, 30)
	for i := 1; i <= 30; i++ {
		want[numbered(i)] = strings.Repeat(valueOf(i), 10)
		if i%6 == 0 {
			delete(want, numbered(i))
		}
	}
	want[numbered(40)] = valueOf(40)
	mem := prepare()
	numbers, _ := mem.Segments(-1)
	for _, n := range numbers[1:] {
		if len(segmentOf(t, mem, n)) < 150 {
			continue
		}
		for at := 1; ; at++ {
			mem := prepare()
			flip(mem, int64(n), 60)
			ctx := context.Background()
			r := openForCheckIn(t, mem, plain())
			crashFrom(mem, at)
			_, err := r.Check(ctx, CheckOptions{Repair: true})
			_ = r.Close()
			mem.Hook = nil
			for k := range count {
				left := mem.Crash(rand.New(rand.NewPCG(seed+uint64(k), uint64(at))))
				what := fmt.Sprintf("seed %d, segment %d damaged, repair interrupted at operation %d", seed+uint64(k), n, at)
				if r, err := OpenIn(ctx, left.Clone(), plain()); err == nil {
					// It may be read already, and then every object that was sound.
					for id, value := range want {
						got, err := r.Get(ctx, id)
						if err == nil && string(got) != value {
							t.Fatalf("%s: %v is %q", what, id, got)
						}
					}
					mustClose(t, r)
				} else if !errors.Is(err, ErrCheckNeeded) {
					t.Fatalf("%s: open: %v", what, err)
				}
				again := openForCheckIn(t, left, plain())
				mustCheck(t, again, true)
				got := stateOf(t, again)
				lost := maps.Clone(want)
				maps.DeleteFunc(lost, func(id ID, v string) bool { return got[id] == v })
				if len(got)+len(lost) != len(want) || len(lost) > 1 {
					t.Fatalf("%s: the state is\n%v, lost is\n%v", what, got, lost)
				}
				mustClose(t, again)
				mustHold(t, left, got, what)
			}
			if err == nil {
				break
			}
		}
	}
}
