package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"garret/repository/hashindex"
	"garret/repository/segment"
)

// Reading a repository that needs a repair: see Options.Damaged. Nothing is written, so what is made up here lives as long
// as the Repository does. What it shows is what a repair would keep:
//
//   - An index that is sound in itself says where objects are. One that is not there any more is damaged, however many
//     other values of it the log has.
//   - What was committed since that index, or all where there is none, is replayed up to the last commit that is known
//     of, with what is sound in damaged segments. A deletion or a newer value may be lost there, and nothing tells.

// Damage returns what a repository that was opened with Options.Damaged needs a repair for, as far as it has shown. It
// matches ErrCheckNeeded. It is nil if all that was needed so far was sound: other than Check, reading looks at what it needs.
func (r *Repository) Damage() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.damage == nil {
		return r.medium.firstDamage()
	}
	return r.damage
}

// ReadOnly reports whether nothing can be written: it was opened so, or its medium is so, or it is damaged.
func (r *Repository) ReadOnly() bool {
	r.tx.RLock()
	defer r.tx.RUnlock()
	return r.opts.ReadOnly || r.opts.Damaged
}

// mayBeOld is said where a loss in the log may hide that an object was replaced or deleted.
const mayBeOld = "what was replaced or deleted in what is lost may show as it was before"

// noteDamage takes note of the first damage. From then on nothing is written.
func (r *Repository) noteDamage(err error) {
	r.opts.ReadOnly = true
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.damage == nil {
		r.damage = err
	}
}

// loadWanted is load, with what was asked for of a repository that needs a repair.
func (r *Repository) loadWanted(ctx context.Context) error {
	err := r.load(ctx)
	if !r.opts.Damaged || !errors.Is(err, ErrCheckNeeded) {
		return err
	}
	return r.loadDamaged(ctx, err)
}

// loadDamaged loads as much as there is where load has found damage.
func (r *Repository) loadDamaged(ctx context.Context, damage error) error {
	defer func() { r.listing = listing{} }()
	r.index.close()
	c := &check{r: r, report: &Report{}}
	if err := c.findLast(false); err != nil {
		return err
	}
	st, err := r.soundState(c.last)
	if err != nil {
		return err
	}
	r.committed = c.last
	err = r.loadFrom(ctx, st)
	if st != nil && errors.Is(err, hashindex.ErrDamaged) { // a lookup is what first looks at a block
		err = r.loadFrom(ctx, nil)
	}
	if r.replayed < r.committed {
		damage = fmt.Errorf("%w; %s", damage, mayBeOld)
	}
	r.noteDamage(damage)
	return err
}

// soundState returns an index to believe, or nil if there is none.
func (r *Repository) soundState(last int64) (*state, error) {
	ownBase := int64(-1)
	st, stateErr := readState(r.store)
	if st != nil && stateErr == nil {
		current, err := r.isCurrent(st)
		if current || errors.Is(err, ErrCheckNeeded) { // its own transaction is what is lost
			return st, nil
		}
		if err != nil {
			st.close()
			return nil, err
		}
	}
	if st != nil {
		ownBase = st.base
		st.close()
	}
	indexed, err := r.newestIndex()
	if err != nil || indexed < 0 || indexed > last || indexed == ownBase {
		return nil, err
	}
	if st, err = r.foreignState(uint32(indexed)); isDamage(err) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return st, err
}

// loadFrom begins with an index, or with nothing, and brings it to the last commit.
func (r *Repository) loadFrom(ctx context.Context, st *state) error {
	r.index.close()
	blank := r.blank()
	r.index, r.garbage, r.candidates = blank.index, blank.garbage, blank.candidates
	r.deaths, r.tail, r.replayed = nil, tail{}, -1
	if st != nil {
		r.replayed = int64(st.transaction)
		r.index.tables, r.index.count, r.garbage = st.tables, st.objects, st.garbage
	} else {
		r.unmeasured = nil
	}
	if err := r.salvage(ctx, r.replayed, r.committed); err != nil {
		return err
	}
	return r.findMoved(ctx)
}

// salvage is replay, up to a segment, of what is sound in the segments.
func (r *Repository) salvage(ctx context.Context, from, last int64) error {
	if r.index.tail == nil {
		r.index.tail = map[ID]location{}
	}
	return r.salvageEach(ctx, from, last, r.apply)
}

// salvageEach calls yield with the sound entries of the segments above from, up to last, in their order.
func (r *Repository) salvageEach(ctx context.Context, from, last int64, yield func(uint32, segment.Entry) error) error {
	numbers, err := r.segmentsAfter(from)
	if err != nil {
		return err
	}
	for _, n := range numbers[:countUpTo(numbers, last)] {
		if err := ctx.Err(); err != nil {
			return err
		}
		s, err := r.segments.acquire(n)
		if err != nil {
			return err
		}
		_, err = segment.Salvage(s, s.Size(), nil, func(e segment.Entry, _ []byte) error { return yield(n, e) })
		s.release()
		if err != nil {
			return fmt.Errorf("read segment %d: %w", n, err)
		}
	}
	return nil
}

// findMoved finds the objects that a repair which was interrupted has moved within their segments.
func (r *Repository) findMoved(ctx context.Context) error {
	if !r.interrupted {
		return nil
	}
	moved := map[ID]location{}
	err := r.salvageEach(ctx, -1, r.replayed, func(n uint32, e segment.Entry) error {
		if e.Tag != segment.Put || r.replaced != nil && !r.replaced[n] {
			return nil
		}
		to := location{n, uint32(e.Offset)}
		from, ok, err := r.index.lookup(e.ID)
		switch {
		case ok && from == to: // it has not moved: what there was before it is an older value
			delete(moved, e.ID)
		case ok && r.hasMoved(from, to):
			moved[e.ID] = to
		}
		return err
	})
	for id, to := range moved {
		r.index.tail[id] = to
	}
	return err
}

// asFound returns the repository as a check is to look at it: without what was made up to read it. The caller holds tx, and
// closes its index.
func (r *Repository) asFound(ctx context.Context) (*Repository, error) {
	f := unloaded(r.store, r.config, r.opts)
	f.segments, f.lock, f.opts.ReadOnly, f.opts.Damaged = r.segments, r.lock, true, false
	if f.failed = f.load(ctx); f.failed != nil && !errors.Is(f.failed, ErrCheckNeeded) {
		f.index.close()
		return nil, f.failed
	}
	return f, nil
}

// catchUp brings the index of a repository that could not be loaded to the state that is checked: it may lag behind the
// commit that is damaged, and does not know what that has stored and deleted.
func (c *check) catchUp(ctx context.Context) error {
	err := c.r.salvage(ctx, c.r.replayed, c.last)
	if isDamage(err) {
		c.trusted = false
		c.r.index.close()
		c.r.index = index{}
		return nil
	}
	return err
}
