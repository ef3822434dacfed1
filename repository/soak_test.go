//go:build soak

package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// options returns some for a session; tests of the same process use small numbers, to have more happen.
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

// write is the one writer, session after session.
func (l *load) write(ctx context.Context) {
	rng := l.rng()
	for ctx.Err() == nil {
		l.writeSession(ctx, rng)
		pauseFor(ctx, upTo(rng, 300*time.Millisecond))
	}
}

func (l *load) writeSession(ctx context.Context, rng *rand.Rand) {
	l.session.Lock()
	defer l.session.Unlock()
	o := l.options(rng)
	o.Exclusive = true
	r, err := Open(context.WithoutCancel(ctx), l.path, o)
	if !l.ok("open to write", err) {
		return
	}
	l.opens.Add(1)
	ctx, cancel := context.WithTimeout(ctx, l.length(rng))
	defer cancel()
	var running sync.WaitGroup
	for range loadReaders {
		running.Go(func() { l.read(r) })
	}
	running.Go(func() { l.maintain(ctx, r) })
	for ctx.Err() == nil {
		l.transaction(r, rng, randomEnding(rng))
		pauseFor(ctx, upTo(rng, 20*time.Millisecond))
	}
	// The readers notice by themselves. What is open is rolled back.
	if rng.IntN(2) == 0 {
		l.transaction(r, rng, closes)
	} else {
		l.ok("close", r.Close())
	}
	running.Wait()
	if rng.IntN(8) == 0 {
		l.loseIndex()
	}
}

// loseIndex removes what is not the truth, while others may use it.
func (l *load) loseIndex() {
	for _, pattern := range []string{"index.*", "hints.*", "garret.*"} {
		files, _ := filepath.Glob(filepath.Join(l.path, pattern))
		for _, f := range files {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.ok("remove the index", err)
			}
		}
	}
	l.lostIndexes.Add(1)
}

// ending is how a transaction ends.
type ending int

const (
	commits ending = iota
	rollsBack
	cancelled // a commit that is not done, and a rollback
	closes    // the repository
)

func randomEnding(rng *rand.Rand) ending {
	switch rng.IntN(20) {
	case 0, 1:
		return rollsBack
	case 2:
		return cancelled
	default:
		return commits
	}
}

// transaction puts and deletes, from several goroutines, and ends as it is told.
func (l *load) transaction(r *Repository, rng *rand.Rand, end ending) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.operation.Lock()
	defer l.operation.Unlock()
	count := rng.IntN(40)
	if rng.IntN(20) == 0 {
		count = 300
	}
	var running sync.WaitGroup
	var touched [loadPutters]map[int]uint32
	for p := range loadPutters {
		own := l.rng()
		touched[p] = map[int]uint32{}
		running.Go(func() { l.change(r, own, p, count/loadPutters, touched[p]) })
	}
	running.Wait()
	l.transactions.Add(1)
	if end != commits {
		l.takeBack(r, end, touched[:])
		l.rollbacks.Add(1)
		return
	}
	if !l.ok("commit", r.Commit(context.Background())) {
		return
	}
	for _, m := range touched {
		for key, version := range m {
			l.keys[key].acknowledge(version)
		}
	}
}

// change changes objects, of which each putter has its own.
func (l *load) change(r *Repository, rng *rand.Rand, putter, count int, touched map[int]uint32) {
	ctx := context.Background()
	for range count {
		key := rng.IntN(loadKeys/loadPutters)*loadPutters + putter
		o := &l.keys[key]
		l.recent.Store(int64(key))
		now, is := touched[key]
		if !is {
			now = o.acknowledged()
		}
		if now == 0 && rng.IntN(10) == 0 {
			if err := r.Delete(ctx, numbered(key)); !errors.Is(err, ErrNotFound) {
				l.failf("delete object %d, which is not there: %v", key, err)
			}
			continue
		}
		if now != 0 && rng.IntN(4) == 0 {
			o.will(0)
			if !l.ok("delete", r.Delete(ctx, numbered(key))) {
				return
			}
			touched[key] = 0
			l.deletes.Add(1)
		} else {
			version := l.version.Add(1)
			o.will(version)
			if !l.ok("put", r.Put(ctx, numbered(key), valueAt(key, version))) {
				return
			}
			touched[key] = version
			l.puts.Add(1)
		}
		o.is()
	}
}

// takeBack ends a transaction so that nothing of it stays.
func (l *load) takeBack(r *Repository, end ending, touched []map[int]uint32) {
	each := func(f func(o *timeline)) {
		for _, m := range touched {
			for key := range m {
				f(&l.keys[key])
			}
		}
	}
	each(func(o *timeline) { o.will(o.acknowledged()) })
	switch end {
	case closes:
		l.ok("close", r.Close())
	case cancelled:
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		hasAny := slices.ContainsFunc(touched, func(m map[int]uint32) bool { return len(m) > 0 })
		if err := r.Commit(ctx); hasAny && !errors.Is(err, context.Canceled) {
			l.failf("a commit that was cancelled: %v", err)
		}
		l.ok("roll back", r.Rollback())
	default:
		l.ok("roll back", r.Rollback())
	}
	each((*timeline).is)
}

// read reads beside the writer until the repository is closed.
func (l *load) read(r *Repository) {
	rng := l.rng()
	for {
		l.operation.Lock()
		err := l.readOnce(r, rng)
		l.operation.Unlock()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			l.failf("read: %v", err)
			return
		}
		time.Sleep(upTo(rng, 2*time.Millisecond))
	}
}

func (l *load) readOnce(r *Repository, rng *rand.Rand) error {
	ctx := context.Background()
	key := rng.IntN(loadKeys)
	if rng.IntN(2) == 0 {
		key = int(l.recent.Load())
	}
	from := l.keys[key].begin()
	switch rng.IntN(12) {
	case 0:
		is, err := r.Has(ctx, numbered(key))
		if err != nil {
			return err
		}
		return l.judge(key, from, fmt.Sprint("it is there: ", is), func(v uint32) bool { return is == (v != 0) })
	case 1:
		size, err := r.Size(ctx, numbered(key))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return l.judge(key, from, fmt.Sprint("its size is ", size, err), func(v uint32) bool {
			return (v == 0) == (err != nil) && (v == 0 || len(valueAt(key, v)) == size)
		})
	case 2:
		return l.readMany(r, rng)
	case 3:
		ids := 0
		for _, err := range r.All(ctx) {
			if err != nil {
				return err
			}
			ids++
		}
		l.reads.Add(1)
		if ids > loadKeys {
			return fmt.Errorf("there are %d objects, and %d keys", ids, loadKeys)
		}
		return nil
	default:
		value, err := r.Get(ctx, numbered(key))
		return l.judgeValue(key, from, value, err)
	}
}

func (l *load) readMany(r *Repository, rng *rand.Rand) error {
	var keys, from []int
	var ids []ID
	for range 1 + rng.IntN(20) {
		key := rng.IntN(loadKeys)
		keys, from, ids = append(keys, key), append(from, l.keys[key].begin()), append(ids, numbered(key))
	}
	i := 0
	for value, err := range r.GetMany(context.Background(), slices.Values(ids)) {
		if err := l.judgeValue(keys[i], from[i], value, err); err != nil {
			return err
		}
		if i++; rng.IntN(50) == 0 {
			break // leaves what was read ahead
		}
	}
	return nil
}

// judgeValue holds what Get has returned against the object's timeline.
func (l *load) judgeValue(key, from int, value []byte, err error) error {
	var version uint32
	if err == nil {
		version, err = versionOf(key, value)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return l.judge(key, from, fmt.Sprint("it has version ", version), func(v uint32) bool { return v == version })
}

func (l *load) judge(key, from int, what string, is func(version uint32) bool) error {
	l.reads.Add(1)
	may := l.keys[key].since(from)
	if len(may) == 0 {
		l.unknown.Add(1)
		return nil
	}
	if !slices.ContainsFunc(may, is) {
		return fmt.Errorf("object %d: %s, may have been %v", key, what, may)
	}
	return nil
}

// maintain checks and compacts, between the transactions, and also without regard to them.
func (l *load) maintain(ctx context.Context, r *Repository) {
	rng := l.rng()
	for pauseFor(ctx, upTo(rng, 300*time.Millisecond)); ctx.Err() == nil; pauseFor(ctx, upTo(rng, 500*time.Millisecond)) {
		regardless := rng.IntN(2) == 0
		if !regardless {
			l.turn.Lock()
		}
		l.operation.Lock()
		err := l.maintainOnce(r, rng, regardless)
		l.operation.Unlock()
		if !regardless {
			l.turn.Unlock()
		}
		switch {
		case err == nil || errors.Is(err, ErrClosed):
		case regardless && strings.Contains(err.Error(), "a transaction is open"):
			l.refused.Add(1)
		default:
			l.failf("%v", err)
			return
		}
	}
}

func (l *load) maintainOnce(r *Repository, rng *rand.Rand, regardless bool) error {
	ctx := context.Background()
	switch rng.IntN(5) {
	case 0:
		_, err := r.Compact(ctx)
		if err == nil {
			l.compactions.Add(1)
		}
		return err
	case 1:
		if regardless {
			return nil
		}
		d, err := r.Digest(ctx)
		if want := l.count(); err == nil && d.Count != uint64(want) {
			err = fmt.Errorf("the digest counts %d objects, and there are %d", d.Count, want)
		}
		return err
	default:
		return l.check(r, rng.IntN(3) == 0, !regardless)
	}
}

// count returns how many objects there are.
func (l *load) count() (n int) {
	for i := range l.keys {
		if l.keys[i].acknowledged() != 0 {
			n++
		}
	}
	return n
}

// check checks, and repairs if it is to; nothing may be found.
func (l *load) check(r *Repository, repair, isStill bool) error {
	report, err := r.Check(context.Background(), CheckOptions{Repair: repair})
	if err != nil {
		return err
	}
	if !report.OK() || report.Repaired {
		return fmt.Errorf("check finds %v", report.Findings)
	}
	if want := l.count(); isStill && report.Objects != want {
		return fmt.Errorf("check counts %d objects, and there are %d", report.Objects, want)
	}
	l.checks.Add(1)
	if repair {
		l.repairs.Add(1)
	}
	return nil
}

// readOthers opens the repository again and again when the writer does not have it, and compares it with what was acknowledged.
func (l *load) readOthers(ctx context.Context) {
	rng := l.rng()
	for ; ctx.Err() == nil; pauseFor(ctx, upTo(rng, 500*time.Millisecond)) {
		l.otherSession(ctx, rng)
	}
}

func (l *load) otherSession(ctx context.Context, rng *rand.Rand) {
	l.session.Lock()
	defer l.session.Unlock()
	o := l.options(rng)
	o.ReadOnly = rng.IntN(2) == 0
	o.Warn = nil // an index that is removed while it is opened is made anew
	r, err := Open(context.WithoutCancel(ctx), l.path, o)
	if !l.ok("open to read", err) {
		return
	}
	l.otherOpens.Add(1)
	before := l.version.Load()
	var running sync.WaitGroup
	for range 2 {
		own := l.rng()
		running.Go(func() {
			if err := l.compare(r, own); err != nil {
				l.failf("read by another: %v", err)
			}
		})
	}
	running.Wait()
	if after := l.version.Load(); before != after {
		l.failf("a writer was at work while others held the lock: version %d, then %d", before, after)
	}
	if !o.ReadOnly && rng.IntN(6) == 0 {
		l.tryWrite(r, rng)
	}
	l.ok("close", r.Close())
}

// compare holds some objects, or all, against what was acknowledged.
func (l *load) compare(r *Repository, rng *rand.Rand) error {
	ctx := context.Background()
	switch rng.IntN(4) {
	case 0:
		return l.check(r, false, true)
	case 1:
		if n, err := r.Len(ctx); err != nil || n != l.count() {
			return fmt.Errorf("there are %d objects, and should be %d: %v", n, l.count(), err)
		}
		l.fullReads.Add(1)
		for key := range l.keys {
			if err := l.compareOne(r, key); err != nil {
				return err
			}
		}
	default:
		for range 100 {
			if err := l.compareOne(r, rng.IntN(loadKeys)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *load) compareOne(r *Repository, key int) error {
	value, err := r.Get(context.Background(), numbered(key))
	var version uint32
	if err == nil {
		version, err = versionOf(key, value)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	l.reads.Add(1)
	if want := l.keys[key].acknowledged(); version != want {
		return fmt.Errorf("object %d has version %d, and %d was acknowledged", key, version, want)
	}
	return nil
}

// tryWrite writes without having asked for it before: it gets the lock, or does not, and takes back what it wrote.
func (l *load) tryWrite(r *Repository, rng *rand.Rand) {
	r.opts.LockWait = upTo(rng, 100*time.Millisecond)
	err := r.Put(context.Background(), numbered(rng.IntN(loadKeys)), []byte("never committed"))
	if errors.Is(err, ErrLocked) {
		l.locked.Add(1)
		return
	}
	if l.ok("put by another", err) && rng.IntN(2) == 0 {
		l.ok("roll back by another", r.Rollback())
	} // else Close does it
}

// tryOpen opens a repository that the writer holds all the time.
func (l *load) tryOpen(ctx context.Context) {
	rng := l.rng()
	for ; ctx.Err() == nil; pauseFor(ctx, upTo(rng, 4*time.Second)) {
		if l.opens.Load() == 0 {
			continue
		}
		l.operation.Lock()
		r, err := Open(ctx, l.path, &Options{ReadOnly: rng.IntN(2) == 0, LockWait: upTo(rng, 100*time.Millisecond)})
		l.operation.Unlock()
		switch {
		case err == nil:
			r.Close()
			if ctx.Err() == nil {
				l.failf("opened while it was locked")
			}
		case errors.Is(err, ErrLocked):
			l.locked.Add(1)
		case ctx.Err() == nil:
			l.failf("open what is locked: %v", err)
		}
	}
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
