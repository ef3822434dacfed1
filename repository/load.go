package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"garret/repository/hashindex"
	"garret/repository/segment"
	"garret/repository/storage"
)

// numberOf returns the N of a file name that is prefix and N.
func numberOf(name, prefix string) (uint32, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && strconv.FormatUint(n, 10) == digits
}

// load finds the last commit and brings the index to it.
func (r *Repository) load(ctx context.Context) error {
	defer func() { r.listing = listing{} }()
	if err := r.findInterrupted(); err != nil {
		return err
	}
	st, err := r.findState()
	if err != nil {
		return err
	}
	if r.committed < 0 {
		return r.needsRepair()
	}
	r.replayed = -1
	if st != nil {
		r.replayed = int64(st.transaction)
		r.index.tables, r.index.count, r.garbage = st.tables, st.objects, st.garbage
		for n, g := range r.garbage {
			if g.bytes >= allDead {
				r.candidates[n] = true
			}
		}
	}
	err = r.replay(ctx, r.replayed)
	if errors.Is(err, hashindex.ErrDamaged) {
		// A replay is what first looks at some blocks of the tables.
		r.opts.Warn(fmt.Errorf("the index is made anew: %w", err))
		r.replayed, st = -1, nil
		err = r.rebuild(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.needsRepair(); err != nil {
		r.isWitness = true
		return err
	}
	if st != nil && !st.isForeign() {
		if err := r.findGap(st); err != nil {
			return err
		}
	}
	if r.gap < 0 && r.tail.exceeds(r.opts.tuning.tail) {
		r.keep(ctx)
	}
	return nil
}

// needsRepair fails if a repair was interrupted.
func (r *Repository) needsRepair() error {
	if !r.interrupted {
		return nil
	}
	return fmt.Errorf("%w: a repair was interrupted, and has to be done again", ErrCheckNeeded)
}

// findState finds the last commit, and what to begin a replay with: the tables, else an index and hints that pass
// verification, else nothing.
func (r *Repository) findState() (*state, error) {
	indexed, err := r.newestIndex()
	if err != nil {
		return nil, err
	}
	st, stateErr := readState(r.store)
	if stateErr != nil && !errors.Is(stateErr, fs.ErrNotExist) {
		r.opts.Warn(fmt.Errorf("the index is made anew: %w", stateErr))
	}
	claims, after, ownBase := []int64{indexed}, indexed, int64(-1)
	if st != nil {
		after, ownBase = int64(st.transaction), st.base
		claims = append(claims, after)
	}
	if r.committed, err = r.lastCommitted(max(after, 0) - 1); err != nil {
		return nil, err
	}
	r.stale = slices.Max(claims) > r.committed
	err = r.checkClaims(claims)
	isCurrent := false
	if err == nil && st != nil && stateErr == nil {
		isCurrent, err = r.isCurrent(st)
	}
	switch {
	case err != nil && errors.Is(err, ErrCheckNeeded) && st != nil && stateErr == nil && after >= indexed:
		// The tables are all that is known of the transaction whose end is lost: a check can go by them.
		r.index.tables, r.index.count, r.isWitness, r.replayed = st.tables, st.objects, true, after
		return nil, err
	case err == nil && isCurrent:
		r.indexedAt = after
		return st, nil
	}
	if st != nil {
		st.close()
	}
	if err != nil {
		return nil, err
	}
	if r.committed < 0 {
		return nil, r.checkEmpty()
	}
	// Files of an index that nobody goes by may still be believed by somebody, later: see needsIndex.
	noTables := errors.Is(stateErr, fs.ErrNotExist)
	if indexed < 0 && noTables {
		r.indexedAt = math.MaxInt64
	}
	// An index of our own that is not as the tables say must not pass as another program's, of which less is known.
	if indexed < 0 || indexed > r.committed || indexed == ownBase {
		return nil, nil
	}
	st, err = r.foreignState(uint32(indexed))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.opts.Warn(fmt.Errorf("the index is made anew: %w", err))
		}
		return nil, nil
	}
	if noTables {
		r.indexedAt = indexed
	}
	return st, nil
}

// findGap looks for a segment that is missing behind the tables. This program numbers segments without gaps and compacts
// none before the tables have come up to it. The reference does not, if it was killed within a compaction; but it cannot
// have written when there is a delta, for it begins with an index of its own then, and the tables are void.
func (r *Repository) findGap(st *state) error {
	numbers, err := r.segmentsAfter(r.replayed)
	if err != nil {
		return err
	}
	want := r.replayed
	for _, n := range numbers {
		if want++; int64(n) > r.committed || r.gap >= 0 {
			break
		}
		if int64(n) != want {
			r.gap = want
		}
	}
	if r.gap < 0 {
		return nil
	}
	if st.hasDelta() {
		return fmt.Errorf("%w: segment %d is missing", ErrCheckNeeded, r.gap)
	}
	r.opts.Warn(fmt.Errorf("segment %d is missing: %s", r.gap, gapDetail))
	return nil
}

const gapDetail = "it is lost, or was removed by a compaction of Attic that was interrupted"

func isDamage(err error) bool {
	for _, damage := range []error{ErrIntegrity, segment.ErrDamaged, hashindex.ErrDamaged, storage.ErrTooLong} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// newestIndex returns the N of the newest index.N, or -1.
func (r *Repository) newestIndex() (int64, error) {
	files, err := r.store.Files()
	if err != nil {
		return -1, err
	}
	newest := int64(-1)
	for _, name := range files {
		if n, ok := numberOf(name, indexPrefix); ok {
			newest = max(newest, int64(n))
		}
	}
	return newest, nil
}

// listing is what Storage.Segments said while the repository was being opened, when nobody can write to it: a folder may
// have ten thousand segments, and need not be read three times.
type listing struct {
	valid   bool
	after   int64
	numbers []uint32
}

// segmentsAfter returns the numbers above n of the segments there are, ascending. It is for the time of opening.
func (r *Repository) segmentsAfter(n int64) ([]uint32, error) {
	if !r.listing.valid || n < r.listing.after {
		numbers, err := r.store.Segments(n)
		if err != nil {
			return nil, err
		}
		r.listing = listing{true, n, numbers}
	}
	i, _ := slices.BinarySearch(r.listing.numbers, uint32(max(n+1, 0)))
	return r.listing.numbers[i:], nil
}

// lastCommitted returns the last committed segment, or -1. It looks at those above after first.
func (r *Repository) lastCommitted(after int64) (int64, error) {
	numbers, err := r.segmentsAfter(after)
	if err != nil {
		return -1, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		end, err := r.ending(numbers[i])
		if err != nil {
			return -1, err
		}
		switch end {
		case segment.EndsCommitted:
			return int64(numbers[i]), nil
		case segment.EndsDamaged:
			if r.damagedCommit < 0 {
				r.damagedCommit = int64(numbers[i])
			}
		}
	}
	if after >= 0 {
		return r.lastCommitted(-1)
	}
	return -1, nil
}

// ending returns how a segment ends.
func (r *Repository) ending(n uint32) (segment.Ending, error) {
	s, err := r.segments.acquire(n)
	if err != nil {
		return 0, err
	}
	defer s.release()
	end, err := segment.End(s, s.Size())
	if err != nil {
		err = fmt.Errorf("read the end of segment %d: %w", n, err)
	}
	return end, err
}

// isCurrent reports whether the tables are about these segments. Where their own segment is damaged or gone, and later ones
// are there, they are the better witness; where it is sound but another, they are of another history.
func (r *Repository) isCurrent(st *state) (bool, error) {
	if r.committed < int64(st.transaction) {
		return false, fmt.Errorf("%w: segment %d was committed, says file %q, and is missing",
			ErrCheckNeeded, st.transaction, tablesName)
	}
	s, err := r.segments.acquire(st.transaction)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer s.release()
	size, tail, err := fingerprint(s)
	if err != nil || size == st.size && tail == st.tail {
		return err == nil, err
	}
	scan := segment.NewScanner(s, s.Size())
	for scan.Scan() {
	}
	if err := scan.Err(); err != nil && !isDamage(err) {
		return false, fmt.Errorf("read segment %d: %w", st.transaction, err)
	}
	return isDamage(scan.Err()) || scan.Entry().Tag != segment.Commit, nil
}

// checkClaims compares what indexes say was committed with the segments, and looks for a COMMIT that was damaged.
//
// An index is written after its transaction is durable. So when its segment is there without a COMMIT at its end, that was
// damaged, and is no aborted transaction, which the next one would be free to delete.
func (r *Repository) checkClaims(claims []int64) error {
	if n := r.damagedCommit; n > r.committed {
		return fmt.Errorf("%w: segment %d ends with a commit that is damaged", ErrCheckNeeded, n)
	}
	for _, n := range claims {
		if n <= r.committed || n > storage.MaxSegment {
			continue
		}
		if r.committed < 0 {
			return fmt.Errorf("%w: there is an index of transaction %d and no committed segment", ErrCheckNeeded, n)
		}
		s, err := r.segments.acquire(uint32(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		s.release()
		return fmt.Errorf("%w: segment %d was committed, says the index, but does not end with a commit", ErrCheckNeeded, n)
	}
	return nil
}

// checkEmpty fails if there is no commit and yet something to lose. A garret repository has a commit from its creation on,
// and compaction leaves only the last: one that is damaged must not make all segments look like those of an aborted
// transaction.
func (r *Repository) checkEmpty() error {
	last, err := r.lastWithEntries()
	if err == nil && last >= 0 {
		err = fmt.Errorf("%w: no segment is committed, but segment %d holds entries", ErrCheckNeeded, last)
	}
	return err
}

// lastWithEntries returns the last segment that is long enough to hold anything but a COMMIT, or -1.
func (r *Repository) lastWithEntries() (int64, error) {
	numbers, err := r.store.Segments(-1)
	if err != nil {
		return -1, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		s, err := r.segments.acquire(numbers[i])
		if err != nil {
			return -1, err
		}
		size := s.Size()
		s.release()
		if size >= int64(segment.MagicSize+segment.KeyedSize) {
			return int64(numbers[i]), nil
		}
	}
	return -1, nil
}

// foreignState makes a state of an index and hints that another program wrote. Without checksums all of the index is read
// and held against itself and the hints.
func (r *Repository) foreignState(n uint32) (*state, error) {
	b, err := storage.ReadFile(r.store, fmt.Sprintf("%s%d", hintsPrefix, n), tablesLimit)
	if err != nil {
		return nil, err
	}
	h, err := parseHints(b)
	if err != nil {
		return nil, err
	}
	t := &table{base: true, number: n, foreign: true, adopted: true}
	if err := openTable(r.store, t); err != nil {
		return nil, err
	}
	err = h.fits(t.file)
	if err == nil {
		// From here on it is read through these sums: what is verified is what will be used.
		t.sums = new(hashindex.Sums)
		_, err = io.Copy(t.sums, io.NewSectionReader(t.r, 0, t.size))
	}
	t.r.Close()
	if err == nil {
		err = openTable(r.store, t)
	}
	if err != nil {
		return nil, err
	}
	if err := verifyForeign(t, h); err != nil {
		t.r.Close()
		return nil, err
	}
	r.unmeasured = h.compact
	return &state{transaction: n, objects: t.file.Len(), tables: []*table{t}, garbage: map[uint32]garbage{}}, nil
}

func verifyForeign(t *table, h *hints) error {
	if err := t.file.Verify(); err != nil {
		return err
	}
	live := map[uint32]int{}
	var wrong error
	err := t.file.Scan(0, func(id ID, v []uint32) bool {
		live[v[0]]++
		if v[0] > t.number || v[1] < uint32(segment.MagicSize) {
			wrong = fmt.Errorf("%w: %q has %v in segment %d at byte %d", ErrIntegrity, t.name(), id, v[0], v[1])
		}
		return wrong == nil
	})
	if err != nil || wrong != nil {
		return errors.Join(err, wrong)
	}
	for n := range live {
		if live[n] != h.live[n] {
			return fmt.Errorf("%w: %q has %d objects in segment %d, the hints say %d",
				ErrIntegrity, t.name(), live[n], n, h.live[n])
		}
	}
	for n := range h.live {
		if h.live[n] != live[n] {
			return fmt.Errorf("%w: %q has no objects in segment %d, the hints say %d", ErrIntegrity, t.name(), n, h.live[n])
		}
	}
	return nil
}

// keep writes the index that a replay has made, so that the next one who opens the repository need not do it again. A
// reader does so only if it gets the lock without waiting.
func (r *Repository) keep(ctx context.Context) {
	if r.opts.ReadOnly || r.Damage() != nil {
		return
	}
	if !r.exclusive {
		if r.lock.Upgrade(ctx, 0) != nil {
			return
		}
		defer func() {
			if err := r.lock.Downgrade(); err != nil {
				r.exclusive = true // then it stays so
			}
		}()
	}
	err := r.settle()
	if err == nil {
		err = r.measure()
	}
	if err == nil {
		err = unlessFull(r.flush()) // it costs the next one time
	}
	if err != nil {
		r.opts.Warn(fmt.Errorf("write the index: %w", err))
	}
}
