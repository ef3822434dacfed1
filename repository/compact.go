package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"

	"garret/repository/segment"
	"garret/repository/storage"
)

// Compact copies what is alive out of every segment that has something dead in it, commits, and removes these segments. It
// returns by how many bytes the repository has become smaller. There must be no open transaction.
//
// It takes as long as what it copies and frees. So where a new index would be larger than all that is dead, none is written,
// and DELETE entries stay: 41 bytes for each object that was deleted.
//
// When there is no room for all of that at once, it goes by one segment at a time, with the help of the reserve, and
// fails only where one segment finds no room for what is alive in it.
//
// After an error the objects are the same, and nothing has been removed that was not copied durably before.
func (r *Repository) Compact(ctx context.Context) (freed int64, err error) {
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := r.idle(); err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	if r.AppendOnly() {
		return 0, fmt.Errorf("compact: %w", ErrAppendOnly)
	}
	if err := r.upgrade(ctx); err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	if r.broken != nil {
		return 0, fmt.Errorf("compact: %w", r.broken)
	}
	if err := r.removeAbove(r.committed); err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	if err := r.settle(); err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	if err := r.measure(); err != nil {
		return 0, fmt.Errorf("compact: %w", err)
	}
	defer r.keepReserve(true)
	dropsDeletes := r.isWorthBase()
	if dropsDeletes && len(r.garbage) > 0 {
		// With an index of this transaction no DELETE need be kept for the sake of an older one.
		if err := unlessFull(r.flushBase()); err != nil { // then some DELETE entries are kept
			return 0, fmt.Errorf("compact: %w", err)
		}
	}
	var numbers []uint32
	for n, g := range r.garbage {
		if g.bytes > 0 || dropsDeletes {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	freed, err = r.compactSegments(ctx, numbers)
	if err != nil {
		return freed, fmt.Errorf("compact: %w", err)
	}
	return freed, nil
}

// bytesIndexed is how many bytes an object takes in a base.
const bytesIndexed = 60

// isWorthBase reports whether so much is dead that a compaction may write a new base, which takes as long as there are objects:
// as many bytes as the base will have, or few.
func (r *Repository) isWorthBase() bool {
	dead := int64(0)
	for _, g := range r.garbage {
		dead += min(g.bytes, maxOffset) + int64(g.tombstones)*segment.KeyedSize
	}
	return int64(r.index.count) <= max(dead, r.opts.tuning.base)/bytesIndexed
}

// idle returns why the repository cannot be worked on as a whole, if that is so.
func (r *Repository) idle() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.appender != nil {
		return errors.New("a transaction is open: commit it or roll it back first")
	}
	return r.usableLocked()
}

// compact compacts the segments of which the given fraction is dead. DELETE entries do not count, for whether they are
// still needed depends on other segments; when there is one for every two objects, all segments with something dead are
// compacted, after which next to none is needed. After a transaction that makes room, more than these are compacted, one at
// a time, if less than half of the reserve could be taken again.
func (r *Repository) compact(ctx context.Context, threshold float64, makesRoom bool) error {
	if threshold > 1 || r.AppendOnly() {
		return nil
	}
	var victims []uint32
	isAll := false
	for _, n := range slices.Sorted(maps.Keys(r.candidates)) {
		over, err := r.isOverThreshold(n, threshold)
		if err != nil {
			return err
		}
		if over {
			victims = append(victims, n)
		}
	}
	tombstones := 0
	for _, g := range r.garbage {
		tombstones += g.tombstones
	}
	if tombstones-2*r.keptTombstones > max(r.opts.tuning.tombstones, r.index.count/2) {
		err := r.flushBase()
		if unlessFull(err) != nil {
			return err
		}
		if err == nil { // else few of them could be dropped
			victims, isAll = slices.Sorted(maps.Keys(r.garbage)), true
		}
	}
	_, err := r.compactSegments(ctx, victims)
	if err != nil {
		return err
	}
	clear(r.candidates)
	if r.retakeReserve(); makesRoom && r.isShort() && r.isWorthSteps() {
		_, most := r.reserveSize()
		if _, err := r.compactInSteps(ctx, slices.Sorted(maps.Keys(r.garbage)), most); unlessFull(err) != nil {
			return err
		}
	}
	if isAll {
		// What had to be kept, because a segment is damaged, would be no less the next time.
		r.keptTombstones = 0
		for _, g := range r.garbage {
			r.keptTombstones += g.tombstones
		}
	}
	return nil
}

func (r *Repository) isOverThreshold(n uint32, threshold float64) (bool, error) {
	s, err := r.segments.acquire(n)
	if errors.Is(err, fs.ErrNotExist) {
		r.forgetRemoved(n)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer s.release()
	g := r.garbage[n]
	if threshold < 0 {
		return g.bytes > 0 || g.tombstones > 0, nil
	}
	content := s.Size() - int64(segment.MagicSize+segment.HeaderSize)
	return g.bytes > 0 && float64(g.bytes) >= threshold*float64(content), nil
}

// forgetRemoved takes note that a segment is gone: a crash came after its removal. That may not be durable yet, which the
// storage is told by removing it again.
func (r *Repository) forgetRemoved(n uint32) {
	_ = r.store.RemoveSegment(n)
	delete(r.garbage, n)
	delete(r.candidates, n)
}

// allDead stands for the dead bytes of a segment of which everything that is needed has been copied. If it is not removed
// now, it is at the next compaction.
const allDead = 1 << 62

// victim is a segment whose live objects have been copied.
type victim struct {
	number  uint32
	size    int64
	dropped bool // DELETE entries that were not copied, and for which a PUT in an older segment may have been waiting
}

// compactSegments copies what is needed of the given segments, ascending, commits the copies, and removes the segments.
// One that is damaged is left as it is.
func (r *Repository) compactSegments(ctx context.Context, numbers []uint32) (freed int64, err error) {
	if len(numbers) == 0 {
		return 0, nil
	}
	freed, err = r.compactBatch(ctx, numbers, false)
	if !storage.IsFull(err) {
		return freed, err
	}
	more, err := r.compactInSteps(ctx, numbers, math.MaxInt64)
	return freed + more, err
}

// compactInSteps is compactSegments for a full disk: one segment at a time, those first that free most for the least
// copies, with the help of the reserve, until enough bytes are freed.
func (r *Repository) compactInSteps(ctx context.Context, numbers []uint32, enough int64) (freed int64, err error) {
	var full error
	tooMuch := int64(math.MaxInt64)
	for _, c := range r.cheapestFirst(numbers) {
		if freed >= enough {
			break
		}
		if c.alive >= tooMuch {
			continue
		}
		gain, err := r.compactBatch(ctx, []uint32{c.number}, true)
		freed += gain
		if unlessFull(err) != nil {
			return freed, err
		}
		if err != nil {
			full, tooMuch = err, c.alive
		}
	}
	// What was removed need not be looked for any more when the repository is opened again.
	if err := unlessFull(r.flush()); err != nil {
		return freed, err
	}
	return freed, full
}

// isWorthSteps reports whether there is more dead than an index costs that may have to be written.
func (r *Repository) isWorthSteps() bool {
	gain := int64(0)
	for _, g := range r.garbage {
		gain += min(g.bytes, maxOffset) + int64(g.tombstones)*segment.KeyedSize
	}
	return gain > int64(len(r.index.tail))*2*(segment.KeySize+8)+32<<10
}

// candidate is a segment that is to be compacted.
type candidate struct {
	number     uint32
	alive      int64 // bytes that are to be copied, about
	needsIndex bool
}

// cheapestFirst returns the segments in the order of what is alive in them, those first that need no new index.
func (r *Repository) cheapestFirst(numbers []uint32) []candidate {
	var all []candidate
	for _, n := range numbers {
		c := candidate{number: n, needsIndex: r.needsIndex(n)}
		if s, err := r.segments.acquire(n); err == nil {
			g := r.garbage[n]
			c.alive = max(0, s.Size()-g.bytes-int64(g.tombstones)*segment.KeyedSize)
			s.release()
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		if a.needsIndex != b.needsIndex {
			if a.needsIndex {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.alive, b.alive)
	})
	return all
}

// needsIndex reports whether the index on disk must be written before segment n can be removed, from which everything was
// copied. An index needs no segment below the one of its own transaction: whoever goes by it replays the copies, which
// are above. But of the segments that he replays none may be missing.
func (r *Repository) needsIndex(n uint32) bool { return int64(n) >= r.indexedAt }

// compactBatch copies what is needed of some segments, ascending, commits the copies, brings the index on disk to where it
// does not need the segments, and removes them. In steps, that is one segment, for which the reserve may be used, and no
// more of the index is written than must be.
func (r *Repository) compactBatch(ctx context.Context, numbers []uint32, inSteps bool) (freed int64, err error) {
	a := newAppender(r, uint32(r.committed+1), func() bool { return inSteps })
	r.mu.Lock()
	r.appender, r.erased = a, map[uint32]int{}
	r.mu.Unlock()
	victims, err := r.copyLive(ctx, a, numbers)
	if err != nil {
		return 0, errors.Join(err, r.rollback())
	}
	endsLog := len(victims) > 0 && int64(victims[len(victims)-1].number) == r.committed
	if a.isEmpty() && !endsLog {
		err = r.rollback()
	} else if err = r.commit(a); err != nil {
		// Nothing has been removed, so that it can be done as if nothing had been.
		return 0, errors.Join(err, r.rollback())
	}
	freed -= a.written
	if err != nil {
		return freed, err
	}
	for _, v := range victims {
		g := r.garbage[v.number]
		g.bytes = allDead
		r.garbage[v.number] = g
		r.candidates[v.number] = true
	}
	// The tables, and what they are bound to, must not be among what is removed.
	switch {
	case !inSteps:
		err = r.flush()
	case r.needsIndex(numbers[0]):
		err = r.flushFull()
	}
	if err != nil {
		return freed, err
	}
	if len(victims) > 0 {
		if err := r.forgetWhole(); err != nil {
			return freed, err
		}
	}
	removed, err := r.removeVictims(victims)
	freed += removed
	if err == nil && !inSteps && len(victims) > 0 {
		err = unlessFull(r.writeState(r.flushed))
	}
	return freed, err
}

// copyLive appends the live objects of the segments, and those DELETE entries that are still needed.
func (r *Repository) copyLive(ctx context.Context, a *appender, numbers []uint32) ([]victim, error) {
	isVictim := map[uint32]bool{}
	for _, n := range numbers {
		isVictim[n] = true
	}
	// A DELETE must stay while an older segment still holds a PUT of the key.
	oldestDead := int64(1) << 40
	for n, g := range r.garbage {
		if g.bytes > 0 && !isVictim[n] {
			oldestDead = min(oldestDead, int64(n))
		}
	}
	var victims []victim
	for _, n := range numbers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := r.copySegment(a, n, oldestDead)
		switch {
		case err == nil:
			victims = append(victims, v)
		case errors.Is(err, fs.ErrNotExist):
			r.forgetRemoved(n)
		case isDamage(err):
			r.opts.Warn(fmt.Errorf("segment %d is damaged and was not compacted: %w", n, err))
			oldestDead = min(oldestDead, int64(n))
			g := r.garbage[n]
			g.bytes++ // objects that were moved before the damage showed are dead there now
			r.garbage[n] = g
		default:
			return nil, err
		}
	}
	return victims, nil
}

func (r *Repository) copySegment(a *appender, n uint32, oldestDead int64) (victim, error) {
	v := victim{number: n}
	s, err := r.segments.acquire(n)
	if err != nil {
		return v, err
	}
	defer s.release()
	v.size = s.Size()
	scan := segment.NewScanner(s, s.Size())
	for scan.Scan() {
		e := scan.Entry()
		if e.Tag == segment.Commit {
			continue
		}
		loc, live, err := r.index.lookup(e.ID)
		if err != nil {
			return v, err
		}
		if e.Tag == segment.Put {
			if live && loc == (location{n, uint32(e.Offset)}) {
				err = r.appendPut(a, e.ID, scan.Value(), true)
			}
		} else if !live {
			var needed bool
			if needed, err = r.needsTombstone(e.ID, n, oldestDead); needed {
				err = r.copyTombstone(a, e.ID)
			} else {
				v.dropped = true
			}
		}
		if err != nil {
			return v, err
		}
	}
	return v, scan.Err()
}

// needsTombstone reports whether the DELETE entry in segment n of a key that has no object is still needed: by a PUT in an
// older segment that stays, or because index.N has the key and whoever replays the segments behind it must learn that it
// is gone.
func (r *Repository) needsTombstone(id ID, n uint32, oldestDead int64) (bool, error) {
	if oldestDead < int64(n) {
		return true, nil
	}
	base := r.index.base()
	if base == nil {
		return false, nil
	}
	_, ok, err := base.lookup(id)
	return ok, err
}

// appendPut appends an object and lets the index point to it.
func (r *Repository) appendPut(a *appender, id ID, value []byte, existed bool) error {
	header := segment.PutHeader(id, value)
	r.mu.Lock()
	s, loc, err := a.reserveLocked(segment.KeyedSize + len(value))
	if err == nil {
		r.index.set(id, loc, existed)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	copy(s.buf, header[:])
	copy(s.buf[segment.KeyedSize:], value)
	s.done()
	return nil
}

func (r *Repository) copyTombstone(a *appender, id ID) error {
	r.mu.Lock()
	s, loc, err := a.reserveLocked(segment.KeyedSize)
	if err == nil {
		r.erased[loc.segment]++
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	e := segment.DeleteEntry(id)
	copy(s.buf, e[:])
	s.done()
	return nil
}

// removeVictims removes the segments in ascending order. The removal of those with dead PUTs is durable before one is
// removed that held the DELETE for them, so that no crash leaves a PUT without its DELETE.
func (r *Repository) removeVictims(victims []victim) (freed int64, err error) {
	unsynced := true // an earlier removal may have failed to be synced
	for _, v := range victims {
		if v.dropped && unsynced {
			if err := r.store.SyncSegments(); err != nil {
				return freed, err
			}
			unsynced = false
		}
		if err := r.store.RemoveSegment(v.number); err != nil {
			return freed, fmt.Errorf("remove segment %d: %w", v.number, err)
		}
		r.segments.forget(v.number)
		delete(r.garbage, v.number)
		delete(r.candidates, v.number)
		freed += v.size
		unsynced = true
	}
	return freed, r.store.SyncSegments()
}
