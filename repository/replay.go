package repository

import (
	"context"
	"errors"
	"fmt"

	"garret/repository/hashindex"
	"garret/repository/segment"
)

// replay applies the segments above from, up to the last commit, to the index. Every entry's checksum is verified.
func (r *Repository) replay(ctx context.Context, from int64) error {
	if from >= r.committed {
		return nil
	}
	numbers, err := r.segmentsAfter(from)
	if err != nil {
		return err
	}
	if r.index.tail == nil {
		r.index.tail = map[ID]location{}
	}
	var scan segment.Scanner
	for _, n := range numbers {
		if int64(n) > r.committed {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.replaySegment(n, &scan); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repository) replaySegment(n uint32, scan *segment.Scanner) error {
	s, err := r.segments.acquire(n)
	if err != nil {
		return err
	}
	defer s.release()
	scan.Reset(s, s.Size())
	for scan.Scan() {
		if err := r.apply(n, scan.Entry()); err != nil {
			return err
		}
	}
	r.tail.bytes += s.Size()
	r.tail.segments++
	if err := scan.Err(); isDamage(err) {
		return fmt.Errorf("%w: segment %d: %w: %w", ErrCheckNeeded, n, ErrIntegrity, err)
	} else if err != nil {
		return fmt.Errorf("read segment %d: %w", n, err)
	}
	return nil
}

// apply brings the index up by a committed entry.
func (r *Repository) apply(n uint32, e segment.Entry) error {
	if e.Tag == segment.Commit {
		return nil
	}
	x := &r.index
	old, existed, err := x.lookup(e.ID)
	if err != nil {
		return err
	}
	if existed {
		r.deaths = append(r.deaths, old)
	}
	r.tail.entries++
	if e.Tag == segment.Put {
		x.tail[e.ID] = location{n, uint32(e.Offset)}
		if !existed {
			x.count++
		}
		return nil
	}
	g := r.garbage[n]
	g.tombstones++
	r.garbage[n] = g
	if existed {
		x.count--
	}
	if len(x.tables) == 0 {
		delete(x.tail, e.ID)
	} else {
		x.tail[e.ID] = removed
	}
	return nil
}

// heal rebuilds the index if err is that a part of its files is damaged, or wrong, and reports whether it is worth to try
// again. Damage may show at any lookup, for a block of a file is verified when it is first read. The caller holds no lock.
func (r *Repository) heal(ctx context.Context, err error) bool {
	entry := (*IntegrityError)(nil)
	isEntry := errors.As(err, &entry)
	if !isEntry && !errors.Is(err, hashindex.ErrDamaged) {
		return false
	}
	r.tx.Lock()
	defer r.tx.Unlock()
	if r.usable() != nil {
		return false
	}
	if isEntry && (r.hasOwnIndex() || r.Damage() != nil || len(r.index.tables) == 0) {
		return false // the index is right, so that it is the segment that is wrong: a check must know what was there
	}
	if isEntry && !entry.otherEntry && !r.isSound(entry.Segment) {
		return false
	}
	if r.rebuilt {
		return len(r.index.tables) == 0 // somebody else was faster
	}
	if err := r.rebuild(ctx); err != nil {
		r.opts.Warn(fmt.Errorf("rebuild the index: %w", err))
		return false
	}
	return true
}

// isSound reports whether there is nothing damaged in a segment.
func (r *Repository) isSound(n uint32) bool {
	s, err := r.segments.acquire(n)
	if err != nil {
		return false
	}
	defer s.release()
	scan := segment.NewScanner(s, s.Size())
	for scan.Scan() {
	}
	return scan.Err() == nil
}

// rebuild makes the index anew from the segments, in the middle of work. What the open transaction has changed stays. If a
// segment is damaged too, the index stays as it is: what is lost in the segment may have replaced or deleted an object, which
// the others would bring back. What the index still knows can be read then, and nothing can be written before a check. It is
// done once, for what it could not mend it would not the next time.
func (r *Repository) rebuild(ctx context.Context) error {
	if r.rebuilt {
		return errors.New("that was tried already")
	}
	r.rebuilt = true
	fresh := r.blank()
	err := fresh.replay(ctx, -1)
	if r.opts.Damaged && errors.Is(err, ErrCheckNeeded) {
		err = fmt.Errorf("%w; %s", err, mayBeOld)
		r.noteDamage(err)
		r.opts.Warn(err)
		fresh = r.blank()
		err = fresh.salvage(ctx, -1, r.committed)
	}
	if err != nil {
		if errors.Is(err, ErrCheckNeeded) {
			r.broken = err
		}
		return err
	}
	r.adopt(fresh)
	if r.appenderIdle() {
		r.keep(ctx)
	}
	return nil
}

// blank returns a repository on the same segments, without an index.
func (r *Repository) blank() *Repository {
	return &Repository{
		store: r.store, segments: r.segments, committed: r.committed, opts: r.opts,
		garbage: map[uint32]garbage{}, candidates: map[uint32]bool{},
	}
}

// adopt takes the index of another over.
func (r *Repository) adopt(fresh *Repository) {
	r.mu.Lock()
	old := r.index.tables
	r.index.tables, r.index.tail, r.index.count = nil, fresh.index.tail, fresh.index.count
	r.mu.Unlock()
	for _, t := range old {
		t.r.Close()
	}
	r.indexedAt = 0
	r.garbage, r.candidates = fresh.garbage, fresh.candidates
	r.deaths, r.unmeasured, r.tail = fresh.deaths, nil, fresh.tail
}

func (r *Repository) appenderIdle() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.appender == nil
}
