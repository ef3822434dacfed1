package repository

import (
	"context"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"testing"

	"garret/repository/storage"
)

// A follower knows the objects of a repository by its changes alone.
type follower struct {
	mark  Mark
	sizes map[ID]int
	all   int // how often it was told everything
	wrong int // how often it had to ask for that
}

func (f *follower) follow(t *testing.T, r *Repository) {
	t.Helper()
	f.apply(t, r)
	var got Digest
	for id := range f.sizes {
		got.Add(id)
	}
	if want, err := r.Digest(context.Background()); err != nil || got != want {
		f.wrong++
		f.mark = Mark{}
		f.apply(t, r)
	}
}

func (f *follower) apply(t *testing.T, r *Repository) {
	t.Helper()
	now, all, changes, err := r.Changes(context.Background(), f.mark)
	if err != nil {
		t.Fatal(err)
	}
	if all {
		f.sizes = map[ID]int{}
		f.all++
	}
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		if c.Size < 0 {
			delete(f.sizes, c.ID)
		} else {
			f.sizes[c.ID] = c.Size
		}
	}
	f.mark = now
}

// Whoever asks for the changes now and then knows what is there, whatever happens in between: other sessions, compactions,
// lost indexes, and an old copy of the repository that is put back and gone on with.
func TestChangesLeadFromOneStateToTheNext(t *testing.T) {
	ctx := context.Background()
	first, count := seeds(t, 40, 5)
	told, wrong, asked := 0, 0, 0
	for seed := first; seed < first+uint64(count); seed++ {
		rng := rand.New(rand.NewPCG(seed, 11))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		mem, o, f := &storage.Mem{}, randomOptions(rng), &follower{}
		r, err := CreateIn(ctx, mem, o)
		must(err)
		state := map[ID]int{}
		reopen := func(m *storage.Mem) {
			must(r.Close())
			mem = m
			r, err = OpenIn(ctx, mem, o)
			must(err)
		}
		var old *storage.Mem
		var oldState map[ID]int
		objects := make([]ID, 400)
		for i := range objects {
			objects[i] = ID{byte(i), byte(i >> 8), 8: byte(i)}
			must(r.Put(ctx, objects[i], nil))
			state[objects[i]] = 0
		}
		for unique := range 150 {
			put := func(id ID, size int) {
				must(r.Put(ctx, id, append(binary.LittleEndian.AppendUint64(nil, uint64(unique)), make([]byte, size)...)))
				state[id] = 8 + size
			}
			for range rng.IntN(8) {
				id := objects[rng.IntN(len(objects))]
				if _, ok := state[id]; ok && rng.IntN(2) == 0 {
					must(r.Delete(ctx, id))
					delete(state, id)
				} else {
					put(id, rng.IntN(300))
				}
			}
			put(ID{2: 255}, 0) // as a backup's manifest makes nearly every commit another
			must(r.Commit(ctx))
			switch rng.IntN(20) {
			case 0:
				reopen(mem)
			case 1:
				must(r.Close())
				dropIndex(mem, rng)
				reopen(mem)
			case 2:
				old, oldState = mem.Clone(), maps.Clone(state)
			case 3:
				if old != nil {
					reopen(old.Clone())
					state = maps.Clone(oldState)
				}
			case 4:
				_, err := r.Compact(ctx)
				must(err)
			}
			if rng.IntN(3) > 0 {
				continue
			}
			f.follow(t, r)
			asked++
			if !maps.Equal(f.sizes, state) {
				for id := range f.sizes {
					if _, ok := state[id]; !ok {
						t.Errorf("%v is gone", id)
					}
				}
				for id := range state {
					if f.sizes[id] != state[id] {
						t.Errorf("%v has %d bytes, not %d", id, state[id], f.sizes[id])
					}
				}
				t.Fatalf("seed %d, commit %d: mark %+v", seed, unique, f.mark)
			}
		}
		told, wrong = told+f.all, wrong+f.wrong
		must(r.Close())
	}
	t.Logf("asked %d times, told everything %d times, and %d times because the changes were of another history",
		asked, told, wrong)
	if told == asked || wrong > asked/100 {
		t.Error("that is too often")
	}
}
