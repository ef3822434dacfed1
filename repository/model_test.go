package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"garret/internal/campaign"
	"garret/repository/storage"
)

// The model-based test: random histories on a storage that can crash at every operation, against a map.

// errCrash is what every operation of a storage fails with once it has crashed.
var errCrash = errors.New("the power has failed")

// errFault is what one operation fails with.
var errFault = errors.New("input/output error")

// model is what a repository must hold.
type model map[ID]string

// run is one history.
type run struct {
	t    testing.TB
	rng  *rand.Rand
	mem  *storage.Mem
	opts *Options
	r    *Repository

	committed model        // acknowledged
	inFlight  []model      // what may have become of it, where a commit was not acknowledged
	current   model        // with the open transaction
	keep      []string     // the index files with which verify opens what is left
	ops       atomic.Int64 // storage operations so far
	values    int
	crashAt   int   // the operation that fails, and all after it
	faultAt   int   // the operation that fails, and nothing after it
	limited   bool  // the room on the storage changes
	fault     error // of the operation at faultAt
	trace     []string
}

func (h *run) hook(string) error {
	n := int(h.ops.Add(1))
	if h.crashAt > 0 && n >= h.crashAt {
		return errCrash
	}
	if n == h.faultAt {
		return h.fault
	}
	return nil
}

func (h *run) faulted() bool { return h.faultAt > 0 && int(h.ops.Load()) >= h.faultAt }

func (h *run) crashed() bool { return h.crashAt > 0 && int(h.ops.Load()) >= h.crashAt }

// must fails the test for an error that no crash or fault explains.
func (h *run) must(err error, what string) bool {
	h.t.Helper()
	if err == nil {
		return true
	}
	if h.explains(err) {
		h.note("%s: %v", what, err)
		h.recover()
		return false
	}
	if !h.crashed() {
		h.t.Fatalf("%s: %v\n%s", what, err, strings.Join(h.trace, "\n"))
	}
	return false
}

// explains reports whether an error is one that the history has brought about.
func (h *run) explains(err error) bool {
	return h.fault != nil && errors.Is(err, h.fault) || h.limited && storage.IsFull(err)
}

// recover does what a caller does after an error: it rolls back, and opens the repository again if that fails too.
func (h *run) recover() {
	h.current = maps.Clone(h.committed)
	if h.r != nil {
		if err := h.r.Rollback(); err == nil {
			h.inFlight = nil
			return
		}
		if h.crashed() {
			return // there is nobody any more who could open it again
		}
		_ = h.r.Close()
	}
	h.open()
	got := stateOf(h.t, h.r)
	if len(h.inFlight) > 0 && maps.Equal(got, h.inFlight[0]) {
		h.committed, h.current = got, maps.Clone(got)
	}
	h.inFlight = nil
	compare(h.t, h.r, h.committed, h.trace)
}

func (h *run) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *run) id() (id ID) {
	id[0] = byte(h.rng.IntN(24)) // few, so that much is replaced
	return id
}

func (h *run) value() string {
	n := h.rng.IntN(200)
	if h.rng.IntN(10) == 0 {
		n = h.rng.IntN(3000)
	}
	h.values++
	return string(bytes.Repeat([]byte{byte(h.rng.Uint32())}, n)) + strconv.Itoa(h.values)
}

// step does one random thing.
func (h *run) step() {
	ctx := context.Background()
	if h.limited && h.rng.IntN(8) == 0 {
		h.limit()
	}
	switch k := h.rng.IntN(100); {
	case k < 40:
		id, v := h.id(), h.value()
		h.note("put %x: %d bytes", id[0], len(v))
		if h.must(h.r.Put(ctx, id, []byte(v)), "put") {
			h.current[id] = v
		}
	case k < 60:
		id := h.id()
		h.note("delete %x", id[0])
		err := h.r.Delete(ctx, id)
		if _, ok := h.current[id]; !ok {
			if h.explains(err) {
				h.must(err, "delete")
			} else if !errors.Is(err, ErrNotFound) && !h.crashed() {
				h.t.Fatalf("delete of what is not there gives %v", err)
			}
		} else if h.must(err, "delete") {
			delete(h.current, id)
		}
	case k < 75:
		h.note("commit")
		h.commit()
	case k < 80:
		h.note("rollback")
		if h.must(h.r.Rollback(), "rollback") {
			h.current = maps.Clone(h.committed)
		}
	case k < 84:
		h.note("commit, compact")
		if h.commit() {
			_, err := h.r.Compact(ctx)
			h.must(err, "compact")
		}
	case k < 90:
		h.note("reopen")
		h.reopen(false)
	case k < 94:
		h.note("reopen without index")
		h.reopen(true)
	default:
		h.note("compare")
		// What has been put is on its way to the storage still, and may not arrive.
		if a := h.r.appender; a != nil && !h.must(a.drain(), "drain") {
			break
		}
		if !h.crashed() {
			compare(h.t, h.r, h.current, h.trace)
		}
	}
}

// limit lets somebody else fill the disk, to the last byte or nearly so, or leave.
func (h *run) limit() {
	room, late := int64(h.rng.IntN(3)*h.rng.IntN(4000)), h.rng.IntN(4) == 0
	if h.rng.IntN(4) == 0 {
		room = 1 << 20
	}
	h.note("room for %d bytes, late %v", room, late)
	h.mem.Limit(h.mem.Used()+room, late)
}

func (h *run) commit() bool {
	h.inFlight = []model{maps.Clone(h.current)}
	if !h.must(h.r.Commit(context.Background()), "commit") {
		return false
	}
	h.committed, h.inFlight = maps.Clone(h.current), nil
	return true
}

// reopen drops the open transaction.
func (h *run) reopen(loseIndex bool) {
	if !h.must(h.r.Close(), "close") {
		return
	}
	h.current = maps.Clone(h.committed)
	if loseIndex {
		dropIndex(h.mem, h.rng, indexPrefix, hintsPrefix, ownPrefix)
	}
	h.open()
}

func (h *run) open() {
	opts := *h.opts
	opts.Exclusive = h.rng.IntN(2) == 0
	r, err := OpenIn(context.Background(), h.mem, &opts)
	if h.must(err, "open") {
		h.r = r
	}
}

// dropIndex removes the files with the prefixes: all of them, or some if rng is not nil.
func dropIndex(m *storage.Mem, rng *rand.Rand, prefixes ...string) {
	names, _ := m.Files()
	for _, name := range names {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) && (rng == nil || rng.IntN(3) > 0) {
				m.Damage(-1, name, func([]byte) []byte { return nil })
			}
		}
	}
}

func stateOf(t testing.TB, r *Repository) model {
	t.Helper()
	ctx := context.Background()
	state := model{}
	for id, err := range r.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := state[id]; twice {
			t.Fatalf("%v is listed twice", id)
		}
		data, err := r.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := r.Size(ctx, id); err != nil || size != len(data) {
			t.Fatalf("the size of %v is %d (%v), its value has %d", id, size, err, len(data))
		}
		state[id] = string(data)
	}
	if n, err := r.Len(ctx); err != nil || n != len(state) {
		t.Fatalf("length is %d (%v), listed are %d", n, err, len(state))
	}
	return state
}

func compare(t testing.TB, r *Repository, want model, trace []string) {
	t.Helper()
	if got := stateOf(t, r); !maps.Equal(got, want) {
		t.Fatalf("state is %v, want %v\n%s", got.String(), want.String(), strings.Join(trace, "\n"))
	}
}

func (m model) String() string {
	var s []string
	for _, id := range slices.SortedFunc(maps.Keys(m), compareIDs) {
		v := m[id]
		s = append(s, fmt.Sprintf("%x:%d..%s", id[0], len(v), v[max(0, len(v)-4):]))
	}
	return strings.Join(s, " ")
}

func randomOptions(rng *rand.Rand) *Options {
	thresholds := []float64{CompactAlways, 0.2, 0.5, 0.9, 2}
	return &Options{
		MaxSegmentSize: int64(200 + rng.IntN(3000)), SegmentsPerFolder: 4,
		CompactThreshold: thresholds[rng.IntN(len(thresholds))],
		tuning: tuning{
			tail:  tail{bytes: int64(rng.IntN(8000)), segments: rng.IntN(12), entries: rng.IntN(40) + 1},
			layer: rng.IntN(12), tombstones: 2 + rng.IntN(30),
		},
	}
}

// history runs a number of random steps on mem, which holds start, and crashes at the given operation if that is not 0.
func history(t testing.TB, seed uint64, mem *storage.Mem, start model, steps, crashAt, faultAt int) *run {
	h := newRun(t, seed, mem, start)
	h.crashAt, h.faultAt = crashAt, faultAt
	h.play(start == nil, steps)
	return h
}

func newRun(t testing.TB, seed uint64, mem *storage.Mem, start model) *run {
	h := &run{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), mem: mem, fault: errFault,
		committed: maps.Clone(start), current: maps.Clone(start), keep: []string{"all", "index and hints", "none"},
	}
	if start == nil {
		h.committed, h.current = model{}, model{}
	}
	h.opts = randomOptions(h.rng)
	h.opts.Warn = func(err error) {
		if !h.crashed() && !h.explains(err) && !isDamage(err) {
			t.Errorf("warning: %v\n%s", err, strings.Join(h.trace, "\n"))
		}
	}
	return h
}

// play creates the repository or opens it, and runs the steps.
func (h *run) play(create bool, steps int) {
	h.mem.Hook = h.hook
	if create {
		var err error
		h.r, err = CreateIn(context.Background(), h.mem, h.opts)
		if h.explains(err) {
			h.r, err = CreateIn(context.Background(), h.mem, h.opts) // again
		}
		if !h.must(err, "create") {
			return
		}
	} else {
		h.open()
	}
	for range steps {
		if h.crashed() {
			break
		}
		h.step()
	}
	if h.r != nil {
		err := h.r.Close()
		h.must(err, "close")
	}
}

// verify opens what is left of a repository, with the index files and without, and returns its state, which must be the
// last that was acknowledged or the one in flight.
func (h *run) verify(mem *storage.Mem, what string) model {
	h.t.Helper()
	ctx := context.Background()
	var state model
	for _, keepIndex := range h.keep {
		m := mem
		if keepIndex != "all" {
			m = mem.Clone()
			dropIndex(m, nil, ownPrefix)
		}
		if keepIndex == "none" {
			dropIndex(m, nil, indexPrefix, hintsPrefix)
		}
		if _, err := storage.ReadFile(m, configName, configLimit); err != nil {
			return nil // it crashed while it was created
		}
		r, err := OpenIn(ctx, m, h.opts)
		if err != nil {
			h.t.Fatalf("%s, index files: %v: %v\n%s", what, keepIndex, err, strings.Join(h.trace, "\n"))
		}
		got := stateOf(h.t, r)
		ok := maps.Equal(got, h.committed)
		for _, m := range h.inFlight {
			ok = ok || maps.Equal(got, m)
		}
		if !ok {
			h.t.Fatalf("%s, index files: %v: state is\n%v, acknowledged was\n%v, in flight\n%v\n%s", what, keepIndex,
				got, h.committed, h.inFlight, strings.Join(h.trace, "\n"))
		}
		if keepIndex != "all" && !maps.Equal(got, state) {
			h.t.Fatalf("%s: state without index is\n%v, with it\n%v\n%s", what, got, state, strings.Join(h.trace, "\n"))
		}
		state = got
		report, err := r.Check(ctx, CheckOptions{})
		if err == nil {
			// It may be the first to read a part of an index file that is damaged.
			report.Findings = slices.DeleteFunc(report.Findings, func(f Finding) bool { return f.Kind == DamagedIndex })
		}
		if err != nil || !report.OK() {
			h.t.Fatalf("%s, index files: %v: check: %v %v\n%s", what, keepIndex, err, report, strings.Join(h.trace, "\n"))
		}
		if err := r.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	return state
}

// seeds returns the seed for a test to begin with, which GARRET_TEST_SEED can set, and how many to try from there on:
// full in a whole campaign, share otherwise.
func seeds(t testing.TB, full, share int) (uint64, int) {
	seed := rand.Uint64()
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		return seed, 1
	}
	count := full
	if full > 1 {
		count = campaign.Share(t, full, share)
	}
	t.Logf("GARRET_TEST_SEED=%d and the %d that follow", seed, count-1)
	return seed, count
}

func TestHistoriesAgreeWithModel(t *testing.T) {
	seed, count := seeds(t, 3000, 100)
	for i := range count {
		mem := new(storage.Mem)
		h := history(t, seed+uint64(i), mem, nil, 60, 0, 0)
		h.verify(mem, fmt.Sprintf("seed %d", seed+uint64(i)))
	}
}

// TestCrashAtEveryOperation crashes histories at each of their operations in turn. What is left is opened and compared;
// then another history goes on with it and crashes somewhere too.
func TestCrashAtEveryOperation(t *testing.T) {
	seed, count := seeds(t, 60, 2)
	crashes := 0
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			h := history(t, seed, mem, nil, 40, at, 0)
			if !h.crashed() {
				break
			}
			for k := range 4 {
				var rng *rand.Rand // at first all is lost that was not synced
				if k > 0 {
					rng = rand.New(rand.NewPCG(seed, uint64(1000*at+k)))
				}
				left := mem.Crash(rng)
				crashes++
				state := h.verify(left, fmt.Sprintf("seed %d, crash at operation %d, %d", seed, at, k))
				if state == nil || k != 3 {
					continue
				}
				again := history(t, seed+7, left, state, 30, 1+rng.IntN(60), 0)
				again.trace = append(append(h.trace, "crash"), again.trace...)
				again.verify(left.Crash(rng), fmt.Sprintf("seed %d, second crash after operation %d", seed, at))
				crashes++
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestFaultAtEveryOperation fails each operation of a history in turn, once. The caller rolls back and goes on; at the end
// the power fails.
func TestFaultAtEveryOperation(t *testing.T) {
	seed, count := seeds(t, 60, 2)
	faults := 0
	for i := range count {
		seed := seed + uint64(i)
		for at := 1; ; at++ {
			mem := new(storage.Mem)
			h := history(t, seed, mem, nil, 40, 0, at)
			if !h.faulted() {
				break
			}
			faults++
			for k := range 2 {
				rng := rand.New(rand.NewPCG(seed, uint64(1000*at+k)))
				h.verify(mem.Crash(rng), fmt.Sprintf("seed %d, fault at operation %d", seed, at))
			}
		}
	}
	t.Logf("%d faults", faults)
}
