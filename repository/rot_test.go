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
	"garret/repository/segment"
	"garret/repository/storage"
)

// What becomes of files that rot: by chance, and many times. GARRET_ROT_CASES says how many cases there are of each kind of
// file.

// rotCases returns how many cases of a kind of file there are.
func rotCases(t *testing.T) int { return rottest.Cases(t, 300, 50) }

// found says whether something was found, for a tally.
func found(is bool) string {
	if is {
		return "found"
	}
	return "harmless"
}

// A rotting is a repository with an index of several layers, transactions behind it, and the copy that somebody made of it
// before the last of these.
type rotting struct {
	*testing.T
	rng      *rand.Rand
	now, old *storage.Mem
	want     model
	ever     map[ID][]string // all values that an object has had
	live     map[ID]location
	indexed  uint32 // the transaction of the index
	layered  uint32 // that of its newest layer
}

const rotObjects = 200

func rotOptions() *Options {
	return &Options{
		MaxSegmentSize: 1500, CompactThreshold: 2, Exclusive: true,
		tuning: tuning{tail: tail{bytes: 1 << 20, segments: 1000, entries: 5000}, layer: 1, tombstones: 1000},
	}
}

func newRotting(t *testing.T, rng *rand.Rand) *rotting {
	t.Helper()
	h := &rotting{T: t, rng: rng, now: new(storage.Mem), want: model{}, ever: map[ID][]string{}, live: map[ID]location{}}
	r := createIn(t, h.now, rotOptions())
	transact := func(n int) {
		for range n {
			i := rng.IntN(rotObjects)
			id := numbered(i)
			if _, there := h.want[id]; there && rng.IntN(3) == 0 {
				mustDelete(t, r, i)
				delete(h.want, id)
				continue
			}
			v := strings.Repeat(fmt.Sprintf("%d/%d ", i, len(h.ever[id])), 1+rng.IntN(60))
			mustPut(t, r, i, v)
			h.want[id], h.ever[id] = v, append(h.ever[id], v)
		}
		mustCommit(t, r)
	}
	for range 6 {
		transact(60)
	}
	writeIndex(t, r)
	h.indexed = uint32(r.committed)
	transact(8)
	h.old = h.now.Clone()
	transact(4)
	if err := errors.Join(r.measure(), r.flush()); err != nil {
		t.Fatal(err)
	}
	h.layered = uint32(r.committed)
	for range 3 {
		transact(5)
	}
	for id := range h.want {
		loc, ok, err := r.index.lookup(id)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		h.live[id] = loc
	}
	mustClose(t, r)
	return h
}

func fileOf(t testing.TB, mem *storage.Mem, name string) []byte {
	b, err := storage.ReadFile(mem, name, 1<<30)
	if err != nil {
		return nil
	}
	return b
}

// TestRottenIndex damages files of the index. It must cost nothing but time.
func TestRottenIndex(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	for _, kind := range []string{tablesName, indexPrefix, hintsPrefix, deltaPrefix, sumsPrefix, "foreign " + indexPrefix, "foreign " + hintsPrefix} {
		t.Run(kind, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			var h *rotting
			var tally rottest.Tally
			for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
				if i%50 == 0 {
					h = newRotting(t, rng)
				}
				m := h.now.Clone()
				prefix, foreign := strings.CutPrefix(kind, "foreign ")
				if foreign {
					dropIndex(m, nil, ownPrefix)
				}
				names, _ := m.Files()
				names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
				slices.Sort(names)
				name := names[rng.IntN(len(names))]
				b := fileOf(t, m, name)
				how, rotten := rottest.Rot(rng, b, fileOf(t, h.old, name))
				if rotten != nil && bytes.Equal(b, rotten) {
					continue
				}
				m.Damage(-1, name, func([]byte) []byte { return rotten })
				what := fmt.Sprintf("seed %d, case %d: %s: %s", seed, i, name, how)
				told := false
				after := h.readBefore(i, m, true, what)
				o := rotOptions()
				o.Warn = func(error) { told = true }
				r := openForCheckIn(t, m, o)
				needed := r.usable() != nil
				if rng.IntN(2) == 0 && !needed {
					h.mustReadNothingWrong(r, h.want, what)
				}
				report := mustCheck(t, r, true)
				if needed && report.OK() {
					t.Fatalf("%s: a check is needed, and finds nothing", what)
				}
				if got := stateOf(t, r); !maps.Equal(got, h.want) {
					wrong := maps.Clone(h.want)
					maps.DeleteFunc(wrong, func(id ID, v string) bool { return got[id] == v })
					t.Fatalf("%s: lost are %v; %d objects, want %d; %v", what, wrong, len(got), len(h.want), report.Findings)
				}
				after(maps.Clone(h.want))
				if again := mustCheck(t, r, rng.IntN(2) == 0); !again.OK() {
					t.Fatalf("%s: after the repair: %v", what, again.Findings)
				}
				if !maps.Equal(stateOf(t, r), h.want) {
					t.Fatalf("%s: a second repair makes it worse", what)
				}
				mustClose(t, r)
				tally.Add(found(told || !report.OK()))
			}
			tally.Log(t)
		})
	}
}

// mustReadNothingWrong gets every object there was ever, and fails the test for a value that is none of its own.
func (h *rotting) mustReadNothingWrong(r *Repository, want model, what string) {
	h.Helper()
	for i := range rotObjects {
		id := numbered(i)
		got, err := r.Get(context.Background(), id)
		v, ok := want[id]
		switch {
		case err == nil && (!ok || string(got) != v):
			h.Fatalf("%s: object %d is %.30q, want %.30q (%v)", what, i, got, v, ok)
		case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrCheckNeeded):
			h.Fatalf("%s: object %d: %v", what, i, err)
		}
	}
}

// TestRottenSegments damages segments. What is sound still must be there, at once or after a repair, and nothing else.
func TestRottenSegments(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	for _, index := range []string{"with index", "without"} {
		t.Run(index, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			var h *rotting
			var tally rottest.Tally
			objects := 0
			for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
				if i%50 == 0 {
					h = newRotting(t, rng)
				}
				m := h.now.Clone()
				if index == "without" {
					dropIndex(m, nil, ownPrefix, indexPrefix, hintsPrefix)
				}
				c := h.segmentCase(i, m, index == "with index", fmt.Sprintf("seed %d, case %d", seed, i))
				if c == nil {
					continue
				}
				objects += c.lost
				outcome := found(c.noticed)
				if !c.noticed && c.lost > 0 {
					outcome = "taken for an aborted transaction"
				}
				reported := ""
				if c.noticed && c.lost > 0 {
					reported = "with objects that are lost, which are reported"
				}
				tally.Add(outcome, reported)
			}
			tally.Log(t)
			t.Logf("%d objects were damaged themselves", objects)
		})
	}
}

// TestSwappedSegments puts two segments in each other's place, or one in the place of another or beside all others. No value
// may come up that was never one of the object's, and a second repair finds nothing to do.
func TestSwappedSegments(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	for _, kind := range []string{"swapped", "duplicated"} {
		t.Run(kind, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			var h *rotting
			var tally rottest.Tally
			for i, cases := 0, rotCases(t); tally.Cases() < cases; i++ {
				if i%50 == 0 {
					h = newRotting(t, rng)
				}
				if outcome := h.swappedCase(i, rng, kind == "swapped", fmt.Sprintf("seed %d, case %d", seed, i)); outcome != "" {
					tally.Add(outcome)
				}
			}
			tally.Log(t)
		})
	}
}

// swappedCase says whether it was noticed; nothing, if the segments are the same.
func (h *rotting) swappedCase(i int, rng *rand.Rand, swap bool, what string) string {
	t := h.T
	m := h.now.Clone()
	numbers, _ := m.Segments(-1)
	a, b := numbers[rng.IntN(len(numbers))], numbers[rng.IntN(len(numbers))]
	first, second := segmentOf(t, m, a), segmentOf(t, m, b)
	switch {
	case a == b || bytes.Equal(first, second):
		return ""
	case swap:
		m.Damage(int64(a), "", func([]byte) []byte { return second })
		m.Damage(int64(b), "", func([]byte) []byte { return first })
	default:
		if rng.IntN(3) == 0 { // a number that no segment has
			b = uint32(rng.IntN(int(numbers[len(numbers)-1]) + 3))
		}
		if !slices.Contains(numbers, b) {
			w, err := m.CreateSegment(b)
			if err == nil {
				_, err = w.Write(first)
			}
			if err = errors.Join(err, w.Seal(), w.Close()); err != nil {
				t.Fatal(err)
			}
		} else if m.Damage(int64(b), "", func([]byte) []byte { return first }); b == a {
			return ""
		}
	}
	what += fmt.Sprintf(": segments %d and %d, swapped %v", a, b, swap)
	h.readBefore(i, m, false, what) // of an index that contradicts sound segments, reading says no more than that
	r := openForCheckIn(t, m, rotOptions())
	report := mustCheck(t, r, true)
	got := stateOf(t, r)
	for id, v := range got {
		if !slices.Contains(h.ever[id], v) {
			t.Fatalf("%s: %v is %.30q", what, id, v)
		}
	}
	if len(got) < len(h.want) && report.OK() && max(a, b) < h.layered { // of those behind the index nothing is known
		t.Fatalf("%s: %d objects of %d, and nothing is noticed", what, len(got), len(h.want))
	}
	if again := mustCheck(t, r, true); !again.OK() || !maps.Equal(stateOf(t, r), got) {
		t.Fatalf("%s: a second repair finds %v", what, again.Findings)
	}
	mustClose(t, r)
	mustHold(t, m, got, what)
	switch {
	case !report.OK():
		return "found"
	case maps.Equal(got, h.want):
		return "harmless"
	}
	return "taken for what was there, or for an aborted transaction"
}

// segmentOutcome is how many objects are lost, and whether that is noticed.
type segmentOutcome struct {
	lost    int
	noticed bool
}

// segmentCase damages one segment. It returns nil if that has changed nothing.
func (h *rotting) segmentCase(i int, m *storage.Mem, indexed bool, what string) *segmentOutcome {
	numbers, _ := m.Segments(-1)
	n := numbers[h.rng.IntN(len(numbers))]
	before := segmentOf(h.T, m, n)
	var old []byte
	if ns, _ := h.old.Segments(int64(n) - 1); len(ns) > 0 && ns[0] == n {
		old = segmentOf(h.T, h.old, n)
	}
	if h.rng.IntN(8) == 0 {
		old = segmentOf(h.T, m, numbers[h.rng.IntN(len(numbers))]) // another one's
	}
	how, after := rottest.Rot(h.rng, before, old)
	if after != nil && bytes.Equal(before, after) {
		return nil
	}
	what += fmt.Sprintf(", segment %d of %d (index up to %d): %s", n, len(numbers), h.layered, how)
	m.Damage(int64(n), "", func([]byte) []byte { return after })

	sound := model{} // what is where it was
	for id, v := range h.want {
		loc := h.live[id]
		if loc.segment == n {
			from, to := int(loc.offset), int(loc.offset)+segment.KeyedSize+len(v)
			if to > len(after) || !bytes.Equal(before[from:to], after[from:to]) {
				continue
			}
		}
		sound[id] = v
	}
	// Another one in place of the segment that the index ends with makes the index one of another history.
	known := indexed && (n < h.layered || n == h.layered && how != rottest.OldCopy)
	readAfter := h.readBefore(i, m, known && how != rottest.OldCopy, what)
	r := openForCheckIn(h.T, m, rotOptions())
	if known && how != rottest.OldCopy && r.usable() == nil {
		h.mustReadNothingWrong(r, h.want, what)
	}
	report := mustCheck(h.T, r, true)
	got := stateOf(h.T, r)
	noticed := !report.OK()
	// What is gone between two entries is noticed if something is lost with it.
	inPlace := len(after) == len(before) && how != rottest.OldCopy
	if !noticed && known && (inPlace || len(got) < len(h.want)) {
		h.Fatalf("%s: not noticed", what)
	}
	for id, v := range sound {
		if got[id] != v && noticed && known {
			h.Fatalf("%s: %v was sound and is %.30q, want %.30q; %v", what, id, got[id], v, report.Findings)
		}
	}
	for id, v := range got {
		if v == h.want[id] {
			continue
		}
		// A sound segment in place of another can have an older value exactly where the index has the newer one. Nothing in
		// the format tells them apart; what is above the store does, by ids and authentication.
		if known && how != rottest.OldCopy || !slices.Contains(h.ever[id], v) {
			h.Fatalf("%s: %v is %.30q, want %.30q; %v", what, id, v, h.want[id], report.Findings)
		}
	}
	if known { // what is lost is said, object by object
		for id := range h.want {
			if _, there := got[id]; !there && !slices.ContainsFunc(report.Findings, func(f Finding) bool {
				return f.Kind == LostObject && f.Object != nil && *f.Object == id
			}) {
				h.Fatalf("%s: %v is lost, and not reported: %v", what, id, report.Findings)
			}
		}
	}
	readAfter(maps.Clone(got))
	again := mustCheck(h.T, r, true)
	if !again.OK() {
		h.Fatalf("%s: a second repair finds %v", what, again.Findings)
	}
	if second := stateOf(h.T, r); !maps.Equal(second, got) {
		h.Fatalf("%s: a second repair makes of\n%v\n%v", what, got, second)
	}
	mustClose(h.T, r)
	mustHold(h.T, m, got, what)
	return &segmentOutcome{len(h.want) - len(got), noticed}
}
