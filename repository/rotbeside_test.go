package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"garret/internal/rottest"
	"garret/repository/storage"
)

// What becomes of a repository when a file rots that is beside the log and the index. See rot_test.go.

// TestRottenFilesThatNobodyReads damages files that are for people. That changes nothing, and nobody minds.
func TestRottenFilesThatNobodyReads(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	for _, name := range []string{readmeName, ownPrefix + "damaged." + numbered(3).String(), "2.beforerecover"} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 10))
			var h *rotting
			var tally rottest.Tally
			for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
				if i%50 == 0 {
					h = newRotting(t, rng)
					if name != readmeName {
						if err := storage.WriteFile(h.now, name, segmentOf(t, h.now, 2)); err != nil {
							t.Fatal(err)
						}
					}
				}
				m := h.now.Clone()
				b := fileOf(t, m, name)
				how, rotten := rottest.Rot(rng, b, segmentOf(t, m, 1))
				if rotten != nil && bytes.Equal(b, rotten) {
					continue
				}
				m.Damage(-1, name, func([]byte) []byte { return rotten })
				what := fmt.Sprintf("seed %d, case %d: %s", seed, i, how)
				r := openIn(t, m, rotOptions())
				if report := mustCheck(t, r, true); !report.OK() {
					t.Fatalf("%s: check finds %v", what, report.Findings)
				}
				want := maps.Clone(h.want)
				putCommit(t, r, rotObjects, "more")
				want[numbered(rotObjects)] = "more"
				if !maps.Equal(stateOf(t, r), want) {
					t.Fatalf("%s: something else has changed", what)
				}
				mustClose(t, r)
				if after := fileOf(t, m, name); !bytes.Equal(after, rotten) {
					t.Fatalf("%s: the file was written to", what)
				}
				tally.Add(found(false))
			}
			tally.Log(t)
		})
	}
}

// A past is a repository that was append-only, then compacted, then append-only again, with all states it had.
type past struct {
	*testing.T
	now     *storage.Mem
	old     []byte // garret.history as it was when it was append-only first
	moments []moment
}

func newPast(t *testing.T, rng *rand.Rand) *past {
	t.Helper()
	ctx := context.Background()
	p := &past{T: t, now: new(storage.Mem)}
	mustClose(t, createIn(t, p.now, rotOptions()))
	state := model{}
	phase := func(appendOnly bool, transactions int) {
		o := rotOptions()
		o.AppendOnly = appendOnly
		r := openIn(t, p.now, o)
		for k := range transactions {
			for range 4 + rng.IntN(8) {
				i := rng.IntN(rotObjects)
				id := numbered(i)
				switch _, there := state[id]; {
				case there && appendOnly:
					continue
				case there && rng.IntN(2) == 0:
					mustDelete(t, r, i)
					delete(state, id)
					continue
				}
				state[id] = strings.Repeat(fmt.Sprintf("%d %d ", i, len(p.moments)), 1+rng.IntN(40))
				mustPut(t, r, i, state[id])
			}
			manifest := fmt.Sprintf("manifest %d", len(p.moments))
			if err := r.Put(ctx, ID{}, []byte(manifest)); err != nil {
				t.Fatal(err)
			}
			state[ID{}] = manifest
			mustCommit(t, r)
			p.moments = append(p.moments, moment{number: uint32(r.committed), state: maps.Clone(state)})
			if !appendOnly && k == transactions/2 {
				if _, err := r.Compact(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustClose(t, r)
	}
	phase(false, 5)
	phase(true, 4)
	p.old = fileOf(t, p.now, wholeName)
	phase(false, 4)
	phase(true, 4)
	if p.old == nil || bytes.Equal(p.old, fileOf(t, p.now, wholeName)) {
		t.Fatal("the file is no other one")
	}
	return p
}

// mustGoBack plans a revert to a random transaction. If the plan says that it is complete, it has to be. It reports whether
// it says so.
func (p *past) mustGoBack(rng *rand.Rand, m *storage.Mem, what string) bool {
	p.Helper()
	ctx := context.Background()
	o := rotOptions()
	r := openIn(p.T, m, o)
	defer mustClose(p.T, r)
	to := p.moments[rng.IntN(len(p.moments))]
	v, err := r.PlanRevert(ctx, to.number, RevertOptions{Quick: rng.IntN(2) == 0})
	if errors.Is(err, ErrNoTransaction) {
		return false
	}
	if err != nil {
		p.Fatalf("%s: %v", what, err)
	}
	complete := v.IsComplete()
	if _, err := v.Apply(ctx); err != nil {
		p.Fatalf("%s: %v", what, err)
	}
	for id, want := range to.state {
		got, err := r.Get(ctx, id)
		switch {
		case err == nil && string(got) == want:
		case complete:
			p.Fatalf("%s: transaction %d of %d is said to be brought back in full; %v is %.30q (%v), was %.30q",
				what, to.number, r.committed, id, got, err, want)
		case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrIntegrity):
			p.Fatalf("%s: %v", what, err)
		}
	}
	return complete
}

// TestRottenHistory damages garret.history. What a rollback says that it brings back it must bring back, whatever the file
// says; and the next transaction of an append-only repository mends the file.
func TestRottenHistory(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	rng := rand.New(rand.NewPCG(seed, 11))
	var p *past
	var tally rottest.Tally
	for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
		if i%100 == 0 {
			p = newPast(t, rng)
		}
		m := p.now.Clone()
		b := fileOf(t, m, wholeName)
		how, rotten := rottest.Rot(rng, b, p.old)
		if rotten != nil && bytes.Equal(b, rotten) {
			continue
		}
		m.Damage(-1, wholeName, func([]byte) []byte { return rotten })
		what := fmt.Sprintf("seed %d, case %d: %s", seed, i, how)
		p.mustGoBack(rng, m.Clone(), what)

		o := rotOptions()
		o.AppendOnly = true
		r := openIn(t, m, o)
		if since, err := r.wholeSince(); err != nil || since >= 0 {
			t.Fatalf("%s: %q is believed, %v", what, rotten, err)
		}
		putCommit(t, r, rotObjects, "more")
		if since, err := r.wholeSince(); err != nil || since != int64(p.moments[len(p.moments)-1].number) {
			t.Fatalf("%s: it was not mended: %d, %v", what, since, err)
		}
		if report := mustCheck(t, r, false); !report.OK() {
			t.Fatalf("%s: check finds %v", what, report.Findings)
		}
		mustClose(t, r)
		tally.Add(found(true))
	}
	tally.Log(t)
}

// TestASegmentThatIsLostIsNoGapOfBefore loses a segment that garret.history vouches for. No rollback may say then that it is
// complete.
func TestASegmentThatIsLostIsNoGapOfBefore(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	rng := rand.New(rand.NewPCG(seed, 12))
	for i := range 300 {
		p := newPast(t, rng)
		numbers, _ := p.now.Segments(-1)
		r := openIn(t, p.now, rotOptions())
		since, err := r.wholeSince()
		if mustClose(t, r); err != nil || since < 0 {
			t.Fatal(since, err)
		}
		numbers = numbers[1:countUpTo(numbers, since)] // the first has nothing but a COMMIT
		n := numbers[rng.IntN(len(numbers)-1)]
		p.now.Damage(int64(n), "", func([]byte) []byte { return nil })
		for range 3 {
			if p.mustGoBack(rng, p.now.Clone(), fmt.Sprintf("seed %d, case %d: segment %d is lost", seed, i, n)) {
				continue // to a state of before
			}
		}
	}
}

// TestRottenRepair damages garret.repair, which an interrupted repair has left. Nothing may be read that is wrong, and the
// repair that follows has to bring back all that is sound, unless the file is gone.
func TestRottenRepair(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	rng := rand.New(rand.NewPCG(seed, 13))
	var h *rotting
	var interrupted, other *storage.Mem
	var want model
	var tally rottest.Tally
	for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
		if i%50 == 0 {
			h = newRotting(t, rng)
			other, _ = h.interruptRepair(rng, nil)
			interrupted, want = h.interruptRepair(rng, other)
		}
		m := interrupted.Clone()
		b := fileOf(t, m, repairName)
		how, rotten := rottest.Rot(rng, b, fileOf(t, other, repairName))
		if rotten != nil && bytes.Equal(b, rotten) {
			continue
		}
		m.Damage(-1, repairName, func([]byte) []byte { return rotten })
		what := fmt.Sprintf("seed %d, case %d: %s", seed, i, how)
		after := h.readBefore(i, m, true, what)
		r := openForCheckIn(t, m, rotOptions())
		if r.usable() == nil {
			if how != rottest.Missing {
				t.Fatalf("%s: it opens", what)
			}
			h.mustReadNothingWrong(r, h.want, what)
		}
		report := mustCheck(t, r, true)
		got := stateOf(t, r)
		for id, v := range got {
			if v != h.want[id] {
				t.Fatalf("%s: %v is %.30q, want %.30q", what, id, v, h.want[id])
			}
		}
		outcome := found(true)
		switch {
		case how == rottest.Missing || how == rottest.OldCopy:
			if report.OK() && !maps.Equal(got, want) {
				t.Fatalf("%s: not noticed", what)
			}
			if len(got) < len(want) {
				outcome = "found, objects reported that are set aside"
			}
		case !maps.Equal(got, want):
			t.Fatalf("%s: %d objects, want %d: %v", what, len(got), len(want), report.Findings)
		default:
			after(maps.Clone(got))
		}
		if again := mustCheck(t, r, true); !again.OK() || !maps.Equal(stateOf(t, r), got) {
			t.Fatalf("%s: a second repair finds %v", what, again.Findings)
		}
		mustClose(t, r)
		if i%20 == 0 {
			mustHold(t, m, got, what)
		}
		tally.Add(outcome)
	}
	tally.Log(t)
}

// interruptRepair damages a segment and fails the power in the repair, once the segment is replaced and the index is the old
// one. It returns what is left, which has another garret.repair than unlike, and what a repair makes of it.
func (h *rotting) interruptRepair(rng *rand.Rand, unlike *storage.Mem) (*storage.Mem, model) {
	h.Helper()
	numbers, _ := h.now.Segments(-1)
	for {
		m := h.now.Clone()
		n := numbers[1+rng.IntN(countUpTo(numbers, int64(h.indexed))-2)]
		size := len(segmentOf(h.T, m, n))
		if size < 600 {
			continue
		}
		m.Damage(int64(n), "", func(b []byte) []byte {
			b[8+rng.IntN(size/3)] ^= 0x10
			return b
		})
		r := openForCheckIn(h.T, m, rotOptions())
		replaced := false
		m.Hook = func(op string) error {
			if replaced {
				return errPower
			}
			replaced = strings.HasPrefix(op, "replace segment")
			return nil
		}
		_, err := r.Check(context.Background(), CheckOptions{Repair: true})
		_ = r.Close()
		m.Hook = nil
		m = m.Clone()
		if err == nil || fileOf(h.T, m, repairName) == nil {
			continue
		}
		if unlike != nil && slices.Equal(fileOf(h.T, m, repairName), fileOf(h.T, unlike, repairName)) {
			continue
		}
		done := m.Clone()
		r = openForCheckIn(h.T, done, rotOptions())
		mustCheck(h.T, r, true)
		state := stateOf(h.T, r)
		mustClose(h.T, r)
		return m, state
	}
}

var errPower = errors.New("the power has failed")
