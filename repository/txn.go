package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"garret/repository/hashindex"
	"garret/repository/segment"
)

func (a location) compare(b location) int {
	return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.offset, b.offset))
}

// before reports whether a is nearer to the beginning of the log.
func (a location) before(b location) bool { return a.compare(b) < 0 }

// Put stores a value of at most MaxObjectSize bytes under id, in place of the one that id has. It is part of the
// transaction, which it begins if there is none, and durable when Commit has returned; until then this Repository alone
// sees it. Put does not keep data. Any number of goroutines may call it.
//
// After an error other than ErrTooLarge, ErrLocked, ErrReadOnly and ErrAppendOnly the transaction can only be rolled back.
func (r *Repository) Put(ctx context.Context, id ID, data []byte) error {
	if len(data) > MaxObjectSize {
		return fmt.Errorf("put %v: %w: %d bytes are more than %d", id, ErrTooLarge, len(data), MaxObjectSize)
	}
	return r.put(ctx, id, data, false)
}

// put is Put. The owner may also replace what an append-only repository keeps.
func (r *Repository) put(ctx context.Context, id ID, data []byte, owner bool) error {
	header := segment.PutHeader(id, data)
	s, err := r.append(ctx, id, len(data)+segment.KeyedSize, false, owner)
	if err != nil {
		return fmt.Errorf("put %v: %w", id, err)
	}
	defer s.done()
	if at := len(s.buf) - len(data) - segment.KeyedSize; at > 0 {
		e := segment.DeleteEntry(id)
		copy(s.buf, e[:])
		s.buf = s.buf[at:]
	}
	copy(s.buf, header[:])
	copy(s.buf[segment.KeyedSize:], data)
	return nil
}

// Delete removes id, or fails with ErrNotFound if no object has it. Otherwise it is as Put.
func (r *Repository) Delete(ctx context.Context, id ID) error {
	s, err := r.append(ctx, id, segment.KeyedSize, true, false)
	if err != nil {
		return fmt.Errorf("delete %v: %w", id, err)
	}
	defer s.done()
	e := segment.DeleteEntry(id)
	copy(s.buf, e[:])
	return nil
}

// append makes room for an entry of the given size and changes the index as if it were there already: who reads it waits
// until the caller has filled the room. A PUT that replaces an object is given room for a DELETE entry before it.
func (r *Repository) append(ctx context.Context, id ID, size int, isDelete, owner bool) (space, error) {
	s, err := r.tryAppend(ctx, id, size, isDelete, owner)
	if err != nil && r.heal(ctx, err) {
		return r.tryAppend(ctx, id, size, isDelete, owner)
	}
	return s, err
}

func (r *Repository) tryAppend(ctx context.Context, id ID, size int, isDelete, owner bool) (space, error) {
	if err := ctx.Err(); err != nil {
		return space{}, err
	}
	r.tx.RLock()
	defer r.tx.RUnlock()
	if err := r.begin(ctx); err != nil {
		return space{}, r.failTransaction(ctx, err)
	}
	r.mu.RLock()
	old, existed, known := r.index.lookupMemory(id)
	r.mu.RUnlock()
	if !known {
		// The tables stay as they are while tx is held, so that reading them needs no lock.
		var err error
		if old, existed, err = r.index.lookupTables(id); err != nil {
			return space{}, r.failTransaction(ctx, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if loc, ok, known := r.index.lookupMemory(id); known {
		old, existed = loc, ok
	}
	if isDelete && !existed {
		return space{}, ErrNotFound
	}
	if existed && !owner && r.keeps(id, old) {
		return space{}, ErrAppendOnly
	}
	if r.failed != nil {
		return space{}, fmt.Errorf("%w: %w", ErrFailed, r.failed)
	}
	replaces := existed && !isDelete
	if replaces {
		size += segment.KeyedSize
	}
	s, loc, err := r.appender.reserveLocked(size)
	if err != nil {
		r.failed = err
		return space{}, err
	}
	// Reserving may have waited, with the lock released.
	if now, ok, known := r.index.lookupMemory(id); known && (ok != existed || now != old) {
		old, existed = now, ok
	}
	if existed {
		r.buried = append(r.buried, old)
	}
	if isDelete || replaces {
		r.erased[loc.segment]++
	}
	switch {
	case isDelete:
		loc = removed
	case replaces:
		loc.offset += segment.KeyedSize
	}
	r.index.set(id, loc, existed)
	return s, nil
}

// begin begins a transaction if there is none. The caller holds tx shared.
func (r *Repository) begin(ctx context.Context) error {
	r.mu.RLock()
	started, err := r.appender != nil, r.usableLocked()
	r.mu.RUnlock()
	if started || err != nil {
		return err
	}
	r.beginning.Lock()
	defer r.beginning.Unlock()
	r.mu.RLock()
	started, failed := r.appender != nil, r.failed
	r.mu.RUnlock()
	if started {
		return nil
	}
	if failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, failed)
	}
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	if r.broken != nil {
		return r.broken
	}
	if !r.clean {
		if err := r.removeAbove(r.committed); err != nil {
			return fmt.Errorf("remove what an aborted transaction left: %w", err)
		}
		r.clean = true
	}
	if err := r.settle(); err != nil {
		return err
	}
	if err := r.measure(); err != nil {
		return err
	}
	r.noteWhole()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erased = map[uint32]int{}
	r.appender = newAppender(r, uint32(r.committed+1), r.removesMore)
	return nil
}

// failTransaction ends a transaction, or one that could not begin: who does not look at each error must not commit the rest
// alone. Errors that say nothing of the transaction, as that of a lock, are only passed on.
func (r *Repository) failTransaction(ctx context.Context, err error) error {
	for _, harmless := range []error{ErrLocked, ErrReadOnly, ErrClosed, ErrCheckNeeded, ErrFailed, hashindex.ErrDamaged} {
		if errors.Is(err, harmless) {
			return err
		}
	}
	if ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = err
	}
	return err
}

// removeAbove removes the segments above n. The last one goes first and for good: it may end with a COMMIT whose sync
// failed, and without it the others are no transaction.
func (r *Repository) removeAbove(n int64) error {
	numbers, err := r.store.Segments(n)
	if err != nil || len(numbers) == 0 {
		return err
	}
	if !r.clean {
		if err := r.mustKnow(numbers); err != nil {
			return err
		}
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		if err := r.store.RemoveSegment(numbers[i]); err != nil {
			return err
		}
		r.segments.forget(numbers[i])
		if i == len(numbers)-1 || i == 0 {
			if err := r.store.SyncSegments(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Commit makes the transaction durable: when it returns nil, the changes are on stable storage and survive a crash. After
// that it may compact segments and write index files; what fails there is told to Options.Warn and takes nothing back.
// Without a transaction it does nothing.
//
// After an error the transaction can only be rolled back. Until that is done, on disk there is either the last commit or,
// if the error was the very last sync's, this one.
func (r *Repository) Commit(ctx context.Context) error {
	r.tx.Lock()
	defer r.tx.Unlock()
	r.mu.RLock()
	a, failed, err := r.appender, r.failed, r.usableLocked()
	r.mu.RUnlock()
	switch {
	case err != nil:
		return fmt.Errorf("commit: %w", err)
	case failed != nil:
		return fmt.Errorf("commit: %w: %w", ErrFailed, failed)
	case a == nil:
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if a.isEmpty() {
		return r.rollback()
	}
	makesRoom := r.removesMore()
	if err := r.commit(a); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer r.keepReserve(makesRoom)
	if err := r.maintain(ctx, makesRoom); err != nil && ctx.Err() == nil {
		r.opts.Warn(fmt.Errorf("after commit %d: %w", r.committed, err))
	}
	return nil
}

// isEmpty reports whether nothing was appended.
func (a *appender) isEmpty() bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return !a.started && a.current == a.first
}

// commit commits what was appended, for a transaction of the caller or for a compaction.
func (r *Repository) commit(a *appender) error {
	last, err := a.commit()
	if err != nil {
		r.mu.Lock()
		r.failed = err
		r.mu.Unlock()
		return err
	}
	r.mu.Lock()
	r.tail.bytes += a.written
	r.tail.segments += int(last-a.first) + 1
	r.tail.entries += len(r.index.txn)
	r.index.commit()
	r.deaths = append(r.deaths, r.buried...)
	for n, count := range r.erased {
		g := r.garbage[n]
		g.tombstones += count
		r.garbage[n] = g
		r.candidates[n] = true
	}
	r.appender, r.buried, r.erased = nil, nil, nil
	r.mu.Unlock()
	r.committed = int64(last)
	r.reserve.wrote(a.written)
	return nil
}

// maintain is what comes after a commit: compaction by threshold, and the index by its budget. After a transaction that
// makes room it may use the reserve.
func (r *Repository) maintain(ctx context.Context, makesRoom bool) error {
	err := r.tryMaintain(ctx, makesRoom)
	if errors.Is(err, hashindex.ErrDamaged) && !r.rebuilt {
		if err = r.rebuild(ctx); err == nil {
			err = r.tryMaintain(ctx, makesRoom)
		}
	}
	return err
}

func (r *Repository) tryMaintain(ctx context.Context, makesRoom bool) error {
	err := r.measure()
	if err == nil {
		err = r.compact(ctx, r.opts.CompactThreshold, makesRoom)
	}
	if err == nil && r.tail.exceeds(r.opts.tuning.tail) {
		flush := r.flush
		if makesRoom {
			flush = r.flushFull
		}
		err = unlessFull(flush()) // the tail grows, and the next open takes longer
	}
	return err
}

// Rollback forgets what was put and deleted since the last Commit, and removes it from the disk. Without a transaction it
// does nothing. After an error the rest is removed by the next who writes; if the error came after a failed Commit, the
// repository should be closed and opened again.
func (r *Repository) Rollback() error {
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := r.usable(); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	return r.rollback()
}

func (r *Repository) rollback() error {
	r.mu.Lock()
	a := r.appender
	again := r.failed != nil && !errors.Is(r.failed, ErrCheckNeeded)
	r.appender, r.buried, r.erased = nil, nil, nil
	r.index.rollback()
	if again {
		r.failed = nil
	}
	r.mu.Unlock()
	if a == nil && !again {
		return nil
	}
	if a != nil {
		a.end()
	}
	if err := r.removeAbove(r.committed); err != nil {
		err = fmt.Errorf("rollback: %w", err)
		r.clean = false
		r.mu.Lock()
		r.failed = err
		r.mu.Unlock()
		return err
	}
	r.retakeReserve()
	return nil
}
