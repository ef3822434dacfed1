package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"garret/repository/segment"
	"garret/repository/storage"
)

// transactionsOf returns what the log says, and fails for an error.
func transactionsOf(t testing.TB, r *Repository, o TransactionsOptions) []Transaction {
	t.Helper()
	var all []Transaction
	for tx, err := range r.Transactions(context.Background(), o) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tx)
	}
	return all
}

// moment is the state after a transaction.
type moment struct {
	number        uint32
	state         model
	puts, deletes int
}

// TestAppendOnlyHistoriesCanBeRevertedToEachTransaction has random histories in which an attacker takes part: objects are
// stored, the manifest is replaced and deleted, all else is tried and refused. Then each state is brought back in turn, from
// wherever the one before has led.
func TestAppendOnlyHistoriesCanBeRevertedToEachTransaction(t *testing.T) {
	ctx := context.Background()
	first, count := seeds(t, 300, 15)
	for seed := first; seed < first+uint64(count); seed++ {
		rng := rand.New(rand.NewPCG(seed, 21))
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		mem, o := new(storage.Mem), randomOptions(rng)
		o.AppendOnly = true
		r, err := CreateIn(ctx, mem, o)
		must(err)
		o.AppendOnly = rng.IntN(2) == 0 // the config has it
		reopen := func() {
			must(r.Close())
			if rng.IntN(3) == 0 {
				dropIndex(mem, rng)
			}
			r, err = OpenIn(ctx, mem, o)
			must(err)
			if !r.AppendOnly() {
				t.Fatalf("seed %d: it is no longer append-only", seed)
			}
		}
		moments := []moment{{state: model{}}}
		current := model{}
		commit := func(puts, deletes int) {
			must(r.Commit(ctx))
			n := uint32(r.committed)
			if n != moments[len(moments)-1].number {
				moments = append(moments, moment{n, maps.Clone(current), puts, deletes})
			}
		}
		unique := 0
		value := func() []byte {
			unique++
			return fmt.Appendf(make([]byte, rng.IntN(1200)), "%d", unique)
		}
		for range 5 + rng.IntN(25) {
			before := maps.Clone(current)
			puts, deletes := 0, 0
			for range rng.IntN(6) {
				id := numbered(1 + rng.IntN(60))
				v := value()
				_, committed := before[id]
				_, exists := current[id]
				err := r.Put(ctx, id, v)
				if committed {
					if !errors.Is(err, ErrAppendOnly) {
						t.Fatalf("seed %d: replaced: %v", seed, err)
					}
					if err := r.Delete(ctx, id); !errors.Is(err, ErrAppendOnly) {
						t.Fatalf("seed %d: deleted: %v", seed, err)
					}
					continue
				}
				must(err)
				current[id] = string(v)
				puts++
				if exists {
					deletes++
				}
				if rng.IntN(6) == 0 { // what is not committed may be taken back
					must(r.Delete(ctx, id))
					delete(current, id)
					deletes++
				}
			}
			if _, exists := current[ID{}]; exists && rng.IntN(5) == 0 {
				must(r.Delete(ctx, ID{}))
				delete(current, ID{})
				deletes++
			} else {
				v := value()
				must(r.Put(ctx, ID{}, v))
				current[ID{}] = string(v)
				puts++
				if exists {
					deletes++
				}
			}
			if rng.IntN(8) == 0 {
				must(r.Rollback())
				current = before
				continue
			}
			commit(puts, deletes)
			if _, err := r.Compact(ctx); !errors.Is(err, ErrAppendOnly) {
				t.Fatalf("seed %d: compacted: %v", seed, err)
			}
			if rng.IntN(5) == 0 {
				reopen()
			}
		}
		checkMoments(t, r, moments, seed)
		for _, i := range rng.Perm(len(moments)) {
			was := moments[i]
			v, err := r.PlanRevert(ctx, was.number, RevertOptions{Quick: rng.IntN(2) == 0})
			must(err)
			_, has := was.state[ID{}]
			if !v.IsComplete() || v.Objects != len(was.state) || v.HasWatched != has {
				t.Fatalf("seed %d: plan for %d: %+v", seed, was.number, v)
			}
			if len(v.Restore) > 1 { // nothing but the manifest can be another
				t.Fatalf("seed %d: %d objects are to be restored", seed, len(v.Restore))
			}
			last, err := v.Apply(ctx)
			must(err)
			if last != uint32(r.committed) {
				t.Fatalf("seed %d: it is transaction %d, not %d", seed, r.committed, last)
			}
			maps.Copy(current, was.state)
			commit(len(v.Restore), 0)
			compare(t, r, current, nil)
			if rng.IntN(4) == 0 {
				reopen()
			}
		}
		must(r.Close())
		for range 2 {
			r, err = OpenIn(ctx, mem, &Options{ReadOnly: true})
			must(err)
			report, err := r.Check(ctx, CheckOptions{})
			must(err)
			if !report.OK() {
				t.Fatalf("seed %d: %v", seed, report.Findings)
			}
			must(r.Close())
			dropIndex(mem, nil)
		}
	}
}

// checkMoments holds what the log says against what has happened.
func checkMoments(t *testing.T, r *Repository, moments []moment, seed uint64) {
	t.Helper()
	ctx := context.Background()
	all := transactionsOf(t, r, TransactionsOptions{})
	if len(all) != len(moments) {
		t.Fatalf("seed %d: %d transactions, want %d", seed, len(all), len(moments))
	}
	size := int64(0)
	for i, tx := range all {
		was := moments[i]
		if tx.Number != was.number || tx.Puts != was.puts || tx.Deletes != was.deletes || tx.Missing != 0 ||
			len(tx.Damage) > 0 || tx.Time.IsZero() || i > 0 && tx.First != all[i-1].Number+1 {
			t.Fatalf("seed %d: %+v, want %+v", seed, tx, was)
		}
		want, exists := was.state[ID{}]
		if tx.Deleted && exists || tx.Stored && !exists {
			t.Fatalf("seed %d: %+v", seed, tx)
		}
		if tx.Stored {
			if got, err := r.ValueAt(ctx, ID{}, tx.Watched); err != nil || string(got) != want {
				t.Fatalf("seed %d: manifest of %d: %v", seed, tx.Number, err)
			}
		}
		got, err := r.GetAt(ctx, tx.Number, ID{})
		if exists && (err != nil || string(got) != want) || !exists && !errors.Is(err, ErrNotFound) {
			t.Fatalf("seed %d: manifest as of %d: %v", seed, tx.Number, err)
		}
		size += tx.Bytes
	}
	if want := logSize(t, r.store); size != want {
		t.Fatalf("seed %d: %d bytes, want %d", seed, size, want)
	}
	last := len(all) / 2
	if tail := transactionsOf(t, r, TransactionsOptions{Last: last}); len(tail) != last ||
		!slices.EqualFunc(tail, all[len(all)-last:], func(a, b Transaction) bool { return a.Number == b.Number && a.First == b.First }) {
		t.Fatalf("seed %d: the last %d are %v", seed, last, tail)
	}
}

// TestRevertBringsDeletedObjectsBack reverts a repository that is not append-only but was not compacted, after any change.
func TestRevertBringsDeletedObjectsBack(t *testing.T) {
	ctx := context.Background()
	first, count := seeds(t, 200, 10)
	for seed := first; seed < first+uint64(count); seed++ {
		rng := rand.New(rand.NewPCG(seed, 22))
		mem, o := new(storage.Mem), randomOptions(rng)
		o.CompactThreshold = 2
		o.tuning.tombstones = 1 << 30
		r := createIn(t, mem, o)
		state := model{}
		var moments []moment
		for range 20 {
			for range rng.IntN(10) {
				id := numbered(rng.IntN(30))
				if _, ok := state[id]; ok && rng.IntN(2) == 0 {
					if err := r.Delete(ctx, id); err != nil {
						t.Fatal(err)
					}
					delete(state, id)
					continue
				}
				v := fmt.Sprint(rng.Uint64(), string(make([]byte, rng.IntN(500))))
				if err := r.Put(ctx, id, []byte(v)); err != nil {
					t.Fatal(err)
				}
				state[id] = v
			}
			mustCommit(t, r)
			moments = append(moments, moment{number: uint32(r.committed), state: maps.Clone(state)})
		}
		for _, i := range rng.Perm(len(moments)) {
			v, err := r.PlanRevert(ctx, moments[i].number, RevertOptions{Watch: numbered(0)})
			if err != nil || !v.IsComplete() || v.Objects != len(moments[i].state) {
				t.Fatalf("seed %d: %+v %v", seed, v, err)
			}
			if _, err := v.Apply(ctx); err != nil {
				t.Fatal(err)
			}
			maps.Copy(state, moments[i].state)
			compare(t, r, state, []string{fmt.Sprint("seed ", seed)})
		}
		report, err := r.Check(ctx, CheckOptions{})
		if err != nil || !report.OK() {
			t.Fatalf("seed %d: %v %v", seed, report, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// manifests returns a repository with three transactions, each of an object and a manifest.
func manifests(t *testing.T, o *Options) (*storage.Mem, *Repository) {
	t.Helper()
	mem := new(storage.Mem)
	r := createIn(t, mem, o)
	t.Cleanup(func() { r.Close() })
	for i := range 3 {
		mustPut(t, r, i+1, fmt.Sprint("object ", i+1))
		if err := r.Put(context.Background(), ID{}, fmt.Append(nil, "manifest ", i+1)); err != nil {
			t.Fatal(err)
		}
		mustCommit(t, r)
	}
	return mem, r
}

func TestTransactionsTellOfDamage(t *testing.T) {
	ctx := context.Background()
	mem, r := manifests(t, &Options{AppendOnly: true})
	all := transactionsOf(t, r, TransactionsOptions{})
	// A header of the second, and a value of the first.
	mem.Damage(int64(all[2].Number), "", func(b []byte) []byte {
		b[segment.MagicSize+8] ^= 0x40
		return b
	})
	mem.Damage(int64(all[1].Number), "", func(b []byte) []byte {
		b[segment.MagicSize+segment.KeyedSize] ^= 0x40
		return b
	})
	r = openForCheckIn(t, mem.Clone(), nil)
	defer r.Close()
	again := transactionsOf(t, r, TransactionsOptions{})
	if len(again) != len(all) || len(again[1].Damage) != 0 || len(again[2].Damage) != 1 || again[2].Puts != 1 || !again[2].Stored {
		t.Errorf("%+v", again)
	}
	if _, err := r.GetAt(ctx, all[2].Number, ID{}); !errors.Is(err, ErrIntegrity) {
		t.Errorf("%v", err)
	}
	if got, err := r.GetAt(ctx, all[1].Number, ID{}); err != nil || string(got) != "manifest 1" {
		t.Errorf("%q %v", got, err)
	}
}

func TestRevertTellsWhatIsMissing(t *testing.T) {
	ctx := context.Background()
	plan := func(r *Repository, n uint32, quick bool) *Revert {
		t.Helper()
		v, err := r.PlanRevert(ctx, n, RevertOptions{Quick: quick})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	mem, r := manifests(t, &Options{CompactThreshold: 2, tuning: tuning{layer: 12, tombstones: 1 << 30, base: 1 << 20}}) // tables at once
	if err := r.Delete(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, r)
	v := plan(r, 2, false)
	if !v.IsComplete() || len(v.Restore) != 2 || v.Restore[0].ID != numbered(1) || !v.Restore[0].IsNew || v.Restore[1].IsNew {
		t.Errorf("%+v", v)
	}
	mustPut(t, r, 7, "more")
	mustCommit(t, r)
	if _, err := v.Apply(ctx); err == nil {
		t.Error("a plan is carried out after another commit")
	}
	mustPut(t, r, 8, "more")
	if _, err := r.PlanRevert(ctx, 2, RevertOptions{}); err == nil {
		t.Error("there is a plan beside a transaction")
	}
	if _, err := plan(openIn(t, mem.Clone(), nil), 2, false).Apply(ctx); err != nil {
		t.Error(err)
	}
	if _, err := v.Apply(ctx); err == nil || !has(t, r, numbered(8)) {
		t.Errorf("a transaction is rolled back by a plan that cannot be carried out: %v", err)
	}
	mustCommit(t, r)
	for _, n := range []uint32{6, 7, 1 << 30} {
		if _, err := r.PlanRevert(ctx, n, RevertOptions{}); n > 6 && !errors.Is(err, ErrNoTransaction) {
			t.Errorf("transaction %d: %v", n, err)
		}
		if _, err := r.GetAt(ctx, n, ID{}); n > 6 && !errors.Is(err, ErrNoTransaction) {
			t.Errorf("transaction %d: %v", n, err)
		}
	}

	// The value of what was deleted is damaged.
	damaged := mem.Clone()
	damaged.Damage(1, "", func(b []byte) []byte {
		b[segment.MagicSize+segment.KeyedSize] ^= 1
		return b
	})
	other := openIn(t, damaged, nil)
	defer other.Close()
	if v := plan(other, 2, false); v.IsComplete() || len(v.Damage) != 1 {
		t.Errorf("%+v", v)
	}
	if v := plan(other, 2, true); len(v.Lost) != 1 || v.Lost[0] != numbered(1) {
		t.Errorf("%+v", v)
	}

	// The manifest is: an earlier one must not pass for it.
	damaged = mem.Clone()
	damaged.Damage(2, "", func(b []byte) []byte {
		b[len(b)-segment.HeaderSize-1] ^= 1
		return b
	})
	other = openIn(t, damaged, nil)
	defer other.Close()
	for _, quick := range []bool{false, true} {
		if v := plan(other, 2, quick); !v.HasWatched || len(v.Lost) != 1 || v.Lost[0] != (ID{}) {
			t.Errorf("%+v", v)
		}
	}

	// A compaction leaves gaps, which are told.
	if _, err := r.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	all := transactionsOf(t, r, TransactionsOptions{})
	if all[1].Missing != 4 {
		t.Errorf("%+v", all)
	}
	last := all[len(all)-1].Number
	if v := plan(r, last, false); v.Missing == 0 || len(v.Restore) > 0 {
		t.Errorf("%+v", v)
	}
	if got, err := r.GetAt(ctx, last, ID{}); err != nil || string(got) != "manifest 3" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := r.GetAt(ctx, last, numbered(55)); !errors.Is(err, ErrCompacted) {
		t.Error(err)
	}
}

func has(t *testing.T, r *Repository, id ID) bool {
	t.Helper()
	ok, err := r.Has(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestAppendOnlyIsKeptInTheConfig(t *testing.T) {
	mem, r := manifests(t, &Options{AppendOnly: true})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{"1": true, "yes": true, "what": true, "0": false, "no": false, "False": false} {
		mem.Damage(-1, configName, func(b []byte) []byte {
			c, err := parseConfig(string(b))
			if err != nil {
				t.Fatal(err)
			}
			c.appendOnly = false
			return []byte(c.String() + appendOnlyKey + " = " + value + "\n")
		})
		r := openIn(t, mem, nil)
		if r.AppendOnly() != want {
			t.Errorf("%q is %v", value, r.AppendOnly())
		}
		if err := r.Delete(context.Background(), numbered(1)); errors.Is(err, ErrAppendOnly) != want {
			t.Errorf("%q: delete gives %v", value, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r = openIn(t, mem, &Options{AppendOnly: true})
	defer r.Close()
	if _, err := r.Check(context.Background(), CheckOptions{Repair: true}); !errors.Is(err, ErrAppendOnly) {
		t.Errorf("repair: %v", err)
	}
}

// TestGapsOfBeforeAreToldApart has a repository that was compacted and is append-only from then on, for a while.
func TestGapsOfBeforeAreToldApart(t *testing.T) {
	ctx := context.Background()
	mem, r := manifests(t, nil)
	if err := r.Delete(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, r)
	if _, err := r.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteFile(wholeName, formatWhole(0, 1)); err == nil {
		t.Error("anybody can say that nothing was removed")
	}
	missing := func(r *Repository, n uint32) int {
		t.Helper()
		v, err := r.PlanRevert(ctx, n, RevertOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return v.Missing
	}
	put := func(o *Options, i int) uint32 {
		t.Helper()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = openIn(t, mem, o)
		mustPut(t, r, i, fmt.Sprint("object ", i))
		if err := r.Put(ctx, ID{}, fmt.Append(nil, "manifest ", i)); err != nil {
			t.Fatal(err)
		}
		mustCommit(t, r)
		return uint32(r.committed)
	}
	before := put(&Options{CompactThreshold: 2}, 10)
	first := put(&Options{AppendOnly: true}, 11)
	last := put(&Options{AppendOnly: true}, 12)
	for n, want := range map[uint32]bool{before - 1: true, before: false, first: false, last: false} {
		if got := missing(r, n); (got > 0) != want {
			t.Errorf("transaction %d: %d segments are missing", n, got)
		}
	}
	// A damaged note, one of another history, and one whose segment is gone, say nothing.
	for _, b := range [][]byte{nil, []byte("junk"), formatWhole(1<<30, 1), formatWhole(1, 2), make([]byte, 1000)} {
		m := mem.Clone()
		m.Damage(-1, wholeName, func([]byte) []byte { return b })
		other := openIn(t, m, nil)
		if missing(other, last) == 0 {
			t.Errorf("%q is believed", b)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	put(&Options{CompactThreshold: 2}, 13)
	if missing(r, last) != 0 {
		t.Error("a transaction of somebody else makes it unknown")
	}
	now := put(&Options{CompactThreshold: CompactAlways}, 14)
	if missing(r, now) == 0 {
		t.Error("after a compaction it is still known")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
