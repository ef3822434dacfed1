package repository

import (
	"fmt"
	"math"
	"sync"

	"garret/repository/storage"
)

// The reserve is room that is kept for what makes room: transactions that delete more objects than they add, compactions,
// and the small named files that they need. Nothing but that room depends on it. It is given up when such a one finds
// none, and taken again when it is done.

const (
	reserveBase     = 128 << 10 // for folders, a table of the index, the file system's blocks, objects that are replaced
	reserveAnObject = 48        // a DELETE entry, and a part of the beginnings and ends of the segments that they fill
	reserveLimit    = 16 << 30  // what a config can ask for
	smallFile       = 4 << 10   // bytes of a named file that may always use the reserve
)

// reserve is what a Repository knows of its storage's reserve. It is safe for concurrent use.
type reserve struct {
	store storage.Storage

	mu       sync.Mutex
	known    bool  // what follows was asked of the storage
	kept     int64 // bytes
	missed   int64 // the least that was wanted when there was no room for it; 0 if there was
	log      int64 // bytes in the segments, or less where that is enough to know; -1 if it is not known
	released bool  // by this Repository, and not taken again
	late     bool  // a sync has failed for want of room, so that no write tells
	told     bool  // that it cannot be kept
}

// reserveSize returns how much is to be kept, at least and at most. By itself that is enough for a transaction that
// deletes every object and a compaction that copies one segment.
func (r *Repository) reserveSize() (least, most int64) {
	if n := r.config.reserve; n != 0 {
		return max(n, 0), max(n, 0)
	}
	r.mu.RLock()
	objects := int64(max(r.index.count, r.index.count+r.index.txnCount))
	r.mu.RUnlock()
	least = min(reserveBase+reserveAnObject*objects+r.oneSegment(), reserveLimit)
	return least, least + least/2
}

// oneSegment returns the room for a copy of one segment of the usual length. In a repository that is not four times as
// long, it is a quarter of that: the reserve must not outgrow what it is for.
func (r *Repository) oneSegment() int64 {
	const few = 64 // segments of which the lengths are looked at
	v, enough := &r.reserve, 4*r.config.maxSegmentSize
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.log < 0 {
		v.log = 0
		if r.committed > few {
			v.log = enough
		}
		for n := int64(0); n <= r.committed && v.log < enough; n++ {
			if s, err := r.segments.acquire(uint32(n)); err == nil {
				v.log += s.Size()
				s.release()
			}
		}
	}
	return min(v.log, enough) / 4
}

// wrote takes note that the log has become longer.
func (v *reserve) wrote(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.log >= 0 {
		v.log += n
	}
}

// release gives the reserve up and reports whether there is more room now than when err came.
func (v *reserve) release(err error) bool {
	return storage.IsFull(err) && v.releaseUnless(math.MaxInt64)
}

func (v *reserve) releaseUnless(enough int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.released {
		return false
	}
	ok, err := v.store.Release(enough)
	if err != nil || !ok {
		return false
	}
	v.released, v.kept = true, 0
	return true
}

// withReserve does what makes room, and does it again with the reserve given up if there was none.
func (r *Repository) withReserve(f func() error) error {
	err := f()
	if r.reserve.release(err) {
		err = f()
	}
	return err
}

// room is how an appender deals with a disk that is full.
type room struct {
	r      *Repository
	mayUse func() bool // whether what is written may use the reserve
}

// prepare is called before a segment is begun. What may not use the reserve begins when it is there. For what may, it is
// given up at once if room is scarce: an error that comes only with a sync could not be made good.
func (m room) prepare() {
	r := m.r
	if !m.mayUse() {
		r.keepReserve(false)
		return
	}
	least, _ := r.reserveSize()
	r.reserve.mu.Lock()
	enough := max(least, r.reserve.kept)
	if r.reserve.late {
		enough = math.MaxInt64
	}
	r.reserve.mu.Unlock()
	r.reserve.releaseUnless(enough)
}

// isMade reports whether there is room now that there was not when err came.
func (m room) isMade(err error) bool { return m.mayUse() && m.r.reserve.release(err) }

// failedSync takes note that a sync has found no room. It is not tried again, but what does the same again finds the
// reserve given up.
func (m room) failedSync(err error) {
	if storage.IsFull(err) && m.mayUse() {
		m.r.reserve.mu.Lock()
		m.r.reserve.late = true
		m.r.reserve.mu.Unlock()
	}
}

// retakeReserve takes the reserve again if it was given up: what is written next must not use it.
func (r *Repository) retakeReserve() {
	r.reserve.mu.Lock()
	released := r.reserve.released
	r.reserve.mu.Unlock()
	if released {
		r.keepReserve(false)
	}
}

// keepReserve sees to it that the reserve is there, as large as it should be. freed says that there may be more room than
// the last time. As long as nothing has changed it costs no call of the storage.
func (r *Repository) keepReserve(freed bool) {
	if !r.exclusive || r.opts.ReadOnly || r.committed < 0 {
		return
	}
	least, most := r.reserveSize()
	v := &r.reserve
	v.mu.Lock()
	tooSmall := v.kept < least && (v.missed == 0 || freed || least > v.missed+v.missed/4)
	if v.known && !v.released && !tooSmall && v.kept <= most {
		v.mu.Unlock()
		return
	}
	kept, err := v.store.Reserve(least, most)
	v.known, v.released, v.kept, v.missed = true, false, kept, 0
	if kept < least {
		v.missed = least
	}
	if text := r.config.badReserve; err == nil && text != "" {
		err = fmt.Errorf("config has %s = %s, want a number of bytes from 0 to %d; as much is kept as without it",
			reserveKey, text, int64(reserveLimit))
	}
	tell := err != nil && !v.told
	v.told = v.told || tell
	v.mu.Unlock()
	if tell {
		r.opts.Warn(fmt.Errorf("keep room for deletions: %w", err))
	}
}

// isShort reports whether less than half of the reserve could be taken again.
func (r *Repository) isShort() bool {
	least, _ := r.reserveSize()
	r.reserve.mu.Lock()
	defer r.reserve.mu.Unlock()
	return r.reserve.known && r.reserve.kept < least/2
}

// removesMore reports whether the open transaction has deleted more objects than it has added, so far.
func (r *Repository) removesMore() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.index.txnCount < 0
}

func always() bool { return true }

// unlessFull returns err, or nil if it is only that there is no room.
func unlessFull(err error) error {
	if storage.IsFull(err) {
		return nil
	}
	return err
}
