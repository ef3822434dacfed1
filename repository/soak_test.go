//go:build soak

package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The load of the soak: two repositories, of which one is closed and opened again all the time, and read by others in between,
// and one stays open. Each has one writer, readers beside it, and checks and compactions as they come.

const (
	loadKeys    = 400
	loadReaders = 4 // beside the writer, of the same open repository
	loadOthers  = 3 // of further opens
	loadPutters = 3 // of one transaction
)

// valueAt returns the value of an object in one of its versions. All of it follows from these two, so that a byte of
// another version, or of another object, shows.
func valueAt(key int, version uint32) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint32(seed[:], uint32(key))
	binary.LittleEndian.PutUint32(seed[4:], version)
	c := rand.NewChaCha8(seed)
	size := int(c.Uint64() % 3000)
	switch n := c.Uint64() % 1000; {
	case n < 3:
		size += 1_500_000 // more than one block of the appender
	case n < 60:
		size += int(c.Uint64() % 200_000)
	case n < 300:
		size += firstRead - 1500 // about what is read at once
	}
	value := make([]byte, 8+size)
	copy(value, seed[:8])
	_, _ = c.Read(value[8:])
	return value
}

// versionOf returns the version of which a value is, or an error if it is none of the key.
func versionOf(key int, value []byte) (uint32, error) {
	if len(value) < 8 || binary.LittleEndian.Uint32(value) != uint32(key) {
		return 0, fmt.Errorf("object %d: it is that of another: %.20x", key, value)
	}
	version := binary.LittleEndian.Uint32(value[4:])
	if !bytes.Equal(value, valueAt(key, version)) {
		return 0, fmt.Errorf("object %d: wrong bytes in version %d", key, version)
	}
	return version, nil
}

// A timeline is what one object was and is, as versions; 0 is an object that is not there. Every read of it must give one
// of those that it had between the read's beginning and its end.
type timeline struct {
	mu        sync.Mutex
	states    [64]uint32 // the last ones, in a ring
	next      int        // how many there were
	seen      int        // the one that a read sees which begins now, or one behind it
	committed uint32     // what was acknowledged
}

// will notes a state before it is made, and is that it has been made.
func (o *timeline) will(version uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states[o.next%len(o.states)] = version
	o.next++
}

func (o *timeline) is() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = o.next - 1
}

// begin is called before a read, and since with what it returns after it: the states that it may have found; none if there
// were so many meanwhile that the first are forgotten.
func (o *timeline) begin() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

func (o *timeline) since(from int) (may []uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := from; i < o.next && o.next-from <= len(o.states); i++ {
		may = append(may, o.states[i%len(o.states)])
	}
	return may
}

func (o *timeline) acknowledge(version uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.committed = version
}

func (o *timeline) acknowledged() uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.committed
}

// loadCounts are what a load has done.
type loadCounts struct {
	transactions, rollbacks, puts, deletes, reads, unknown atomic.Int64
	checks, repairs, compactions, refused                  atomic.Int64
	opens, otherOpens, fullReads, locked, lostIndexes      atomic.Int64
}

func (c *loadCounts) String() string {
	return fmt.Sprintf("%d transactions (%d rolled back), %d objects put, %d deleted, %d reads (%d too slow to be judged), "+
		"%d checks and %d repairs that found nothing, %d compactions, %d refused while a transaction was open, "+
		"%d opens of the writer, %d of others (%d read everything), %d refused by the lock, %d indexes removed",
		c.transactions.Load(), c.rollbacks.Load(), c.puts.Load(), c.deletes.Load(), c.reads.Load(), c.unknown.Load(),
		c.checks.Load(), c.repairs.Load(), c.compactions.Load(), c.refused.Load(),
		c.opens.Load(), c.otherOpens.Load(), c.fullReads.Load(), c.locked.Load(), c.lostIndexes.Load())
}

// A load is one repository, and what goes on in it.
type load struct {
	*testing.T
	name string
	path string
	end  context.CancelFunc // of all loads, at a failure
	seed uint64

	// session is held while the repository is open for somebody, operation while something is done with it. Each load
	// uses one of them: who wants to find nothing going on waits for it.
	session, operation sync.Locker
	length             func(*rand.Rand) time.Duration // of a session of the writer

	turn    sync.Mutex // held for a transaction, and by who needs that there is none
	version atomic.Uint32
	random  atomic.Uint64
	recent  atomic.Int64 // a key that was just changed
	keys    [loadKeys]timeline
	loadCounts
}

// noLock is held by any number at once.
type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

// rng returns a source of random numbers for one goroutine.
func (l *load) rng() *rand.Rand { return rand.New(rand.NewPCG(l.seed, l.random.Add(1))) }

func (l *load) failf(format string, args ...any) {
	l.Helper()
	l.Errorf(l.name+": "+format, args...)
	l.end()
}

// ok reports whether there is no error, and fails the test otherwise.
func (l *load) ok(what string, err error) bool {
	l.Helper()
	if err != nil {
		l.failf("%s: %v", what, err)
	}
	return err == nil
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// options returns some for a session, in most cases with small numbers, to have more happen.
func (l *load) options(rng *rand.Rand) *Options {
	o := &Options{
		// Longer than anything takes; who waits so long has been forgotten.
		LockWait:         3 * time.Minute,
		CompactThreshold: []float64{0, 0, CompactAlways, 0.5, 2}[rng.IntN(5)],
		Warn:             func(err error) { l.failf("warning: %v", err) },
	}
	if rng.IntN(3) > 0 {
		o.tuning = tuning{tail: tail{bytes: 1 << 20, segments: 16, entries: 50 + rng.IntN(300)}, layer: 1 + rng.IntN(200), tombstones: 100}
	}
	return o
}

// finish holds all there is against what was acknowledged, with the index and without it.
func (l *load) finish() {
	for range 2 {
		r, err := Open(context.Background(), l.path, &Options{ReadOnly: true})
		if !l.ok("open at the end", err) {
			return
		}
		l.ok("at the end", l.check(r, false, true))
		for key := range l.keys {
			l.ok("at the end", l.compareOne(r, key))
		}
		l.ok("close at the end", r.Close())
		l.loseIndex()
	}
	l.Logf("%s: %v", l.name, &l.loadCounts)
	if l.transactions.Load() == 0 || l.reads.Load() == 0 {
		l.failf("nothing was done")
	}
}

func newLoad(t *testing.T, name string, seed uint64, end context.CancelFunc) *load {
	l := &load{T: t, name: name, path: filepath.Join(t.TempDir(), name), end: end, seed: seed, session: noLock{}, operation: noLock{}}
	for i := range l.keys {
		l.keys[i].will(0)
		l.keys[i].is()
	}
	r, err := Create(context.Background(), l.path, &Options{MaxSegmentSize: 128 << 10, SegmentsPerFolder: 40})
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// soakTime returns how long a soak lasts: GARRET_SOAK says so, as in 5m.
func soakTime(t *testing.T) time.Duration {
	s := os.Getenv("GARRET_SOAK")
	if s == "" {
		return 30 * time.Minute
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		t.Fatalf("GARRET_SOAK=%q is no time of at least a second", s)
	}
	return d
}

// TestSoak puts two repositories under load for half an hour, or as long as GARRET_SOAK says. No read may give what it should
// not, no check may find anything, and what the process uses stays the same.
//
//	GARRET_SOAK=5m go test -tags soak -race -timeout 60m -v -run TestSoak ./repository
func TestSoak(t *testing.T) {
	seed, _ := seeds(t, 1, 1)
	d := soakTime(t)
	ctx, end := context.WithTimeout(context.Background(), d)
	defer end()
	var quiet sync.RWMutex // held shared while something goes on
	reopened, kept := newLoad(t, "reopened", seed, end), newLoad(t, "kept", seed+1, end)
	reopened.session, kept.operation = quiet.RLocker(), quiet.RLocker()
	reopened.length = func(rng *rand.Rand) time.Duration { return upTo(rng, 2*time.Second) }
	kept.length = func(*rand.Rand) time.Duration { return 2 * d }
	var running sync.WaitGroup
	for range loadOthers {
		running.Go(func() { reopened.readOthers(ctx) })
	}
	running.Go(func() { reopened.write(ctx) })
	running.Go(func() { kept.write(ctx) })
	running.Go(func() { kept.tryOpen(ctx) })
	u := usage{t: t, kept: kept.path}
	u.watch(ctx, &quiet, d)
	running.Wait()
	for _, l := range []*load{reopened, kept} {
		l.finish()
	}
	if !t.Failed() {
		u.judge(d)
	}
}
