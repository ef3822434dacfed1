package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"garret/repository/segment"
)

// A Revert is what it takes to bring back the objects of an earlier state. Apply does it.
type Revert struct {
	Transaction uint32    // whose state is brought back
	Time        time.Time // when it was committed, see Transaction.Time

	Objects int // how many objects that state had, as far as that is known
	// HasWatched: the object that RevertOptions.Watch names was there, at Watched.
	HasWatched bool
	Watched    Place

	Restore []Restored // objects that are gone now, or have another value, and of which the log has the value of then
	Lost    []ID       // objects of which neither is sound: what was then, and what is now
	Missing int        // segments that are missing of those up to the transaction; nobody knows what was in them
	Damage  []Finding  // parts of them that are damaged; likewise

	r         *Repository
	committed int64
}

// Restored is an object that is to be stored as it was once.
type Restored struct {
	ID    ID
	Place Place // of the value
	IsNew bool  // there is no such object now; else it has another value
}

// IsComplete reports whether it is certain that Apply brings back all objects of the state.
func (v *Revert) IsComplete() bool { return len(v.Lost) == 0 && v.Missing == 0 && len(v.Damage) == 0 }

// RevertOptions are how a revert is planned.
type RevertOptions struct {
	// Watch is the object that Revert.HasWatched is about; by default that is the manifest of a backup.
	Watch ID
	// Quick does not verify the checksums of what is still as it was, and reads much less.
	Quick bool
	// Progress, if not nil, is called after each segment.
	Progress func(done, total int)
}

// PlanRevert finds out what it takes to bring back the objects of an earlier state, that after a transaction. It reads the
// log up to there and verifies all that is in it. It fails with ErrNoTransaction, and changes nothing. There must be no
// open transaction.
//
// Where nothing was compacted since the transaction, nothing is lost. Where something was, of which segments that are
// missing are the trace, it cannot be known what the state had. A compaction before the transaction leaves the same trace, and
// is told from one after it only where the repository was append-only by then, and had been written to.
//
// It takes memory for the objects that are not as they were, and for those that the log had and that were gone by then.
func (r *Repository) PlanRevert(ctx context.Context, transaction uint32, o RevertOptions) (*Revert, error) {
	v, err := r.planRevert(ctx, transaction, o)
	if err != nil && r.heal(ctx, err) {
		v, err = r.planRevert(ctx, transaction, o)
	}
	if err != nil {
		return nil, fmt.Errorf("look at transaction %d: %w", transaction, err)
	}
	return v, nil
}

func (r *Repository) planRevert(ctx context.Context, transaction uint32, o RevertOptions) (*Revert, error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	if err := r.idle(); err != nil {
		return nil, err
	}
	log, err := r.committedSegments()
	if err != nil {
		return nil, err
	}
	if err := r.isTransaction(log, transaction); err != nil {
		return nil, err
	}
	log = log[:countUpTo(log, int64(transaction))]
	whole, err := r.wholeSince()
	if err != nil {
		return nil, err
	}
	if i := countUpTo(log, whole); i == 0 || int64(log[i-1]) != whole { // it is of later, or no longer true
		whole = -1
	}
	v := &Revert{Transaction: transaction, r: r, committed: r.committed}
	p := &revertPlan{r: r, o: o, v: v, other: map[ID]location{}}
	h := chronicle{r: r, watch: o.Watch, previous: -1}
	for i, n := range log {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if h.previous < whole { // what is missing before was so already
			h.previous = min(whole, int64(n)-1)
		}
		ended, err := h.read(n, !o.Quick, func(e segment.Entry) error { return p.apply(n, e) })
		if err != nil {
			return nil, err
		}
		if d := h.t.Damage; len(d) > 0 && d[len(d)-1].Segment == n {
			if err := p.lookBehindDamage(n); err != nil {
				return nil, err
			}
		}
		if ended {
			t := h.take()
			v.Missing += t.Missing
			v.Damage = append(v.Damage, t.Damage...)
			v.Time = t.Time
		}
		if o.Progress != nil {
			o.Progress(i+1, len(log))
		}
	}
	return v, p.settle(ctx)
}

// revertPlan follows the log. What is now where it was then needs no memory.
type revertPlan struct {
	r     *Repository
	o     RevertOptions
	v     *Revert
	other map[ID]location // objects, as of what was read, that are elsewhere now or nowhere
}

func (p *revertPlan) apply(n uint32, e segment.Entry) error {
	if e.Tag == segment.Commit {
		return nil
	}
	if e.ID == p.o.Watch {
		p.v.HasWatched, p.v.Watched = e.Tag == segment.Put, Place{n, uint32(e.Offset)}
	}
	delete(p.other, e.ID)
	if e.Tag == segment.Delete {
		return nil
	}
	now, exists, err := p.lookup(e.ID)
	if err != nil {
		return err
	}
	if at := (location{n, uint32(e.Offset)}); exists && now == at {
		p.v.Objects++
	} else {
		p.other[e.ID] = at
	}
	return nil
}

// lookBehindDamage finds out whether a damaged segment has had a value of the watched object that is not sound. Then no
// earlier one must pass for it.
func (p *revertPlan) lookBehindDamage(n uint32) error {
	in, err := p.r.store.OpenSegment(n)
	if err != nil {
		return fmt.Errorf("open segment %d: %w", n, err)
	}
	defer in.Close()
	_, err = headersOf(in, func(e segment.Entry) error {
		at := Place{n, uint32(e.Offset)}
		if e.Tag == segment.Put && e.ID == p.o.Watch && at.Compare(p.v.Watched) > 0 {
			p.v.HasWatched, p.v.Watched = true, at
			p.other[e.ID] = location{n, uint32(e.Offset)}
		}
		return nil
	})
	if isDamage(err) {
		return nil
	}
	return err
}

func (p *revertPlan) lookup(id ID) (location, bool, error) {
	p.r.mu.RLock()
	defer p.r.mu.RUnlock()
	return p.r.index.lookup(id)
}

// settle decides what becomes of the objects that are not as they were.
func (p *revertPlan) settle(ctx context.Context) error {
	p.v.Objects += len(p.other)
	var all []Restored
	for id, at := range p.other {
		all = append(all, Restored{ID: id, Place: Place{at.segment, at.offset}})
	}
	slices.SortFunc(all, func(a, b Restored) int { return p.other[a.ID].compare(p.other[b.ID]) })
	for _, o := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		now, exists, err := p.lookup(o.ID)
		if err != nil {
			return err
		}
		then, err := p.value(p.other[o.ID], o.ID)
		if err != nil {
			return err
		}
		var current []byte // it may have been moved, and be the same
		if exists {
			if current, err = p.value(now, o.ID); err != nil {
				return err
			}
		}
		o.IsNew = !exists
		switch {
		case then == nil && current == nil, then == nil && o.ID == p.o.Watch:
			p.v.Lost = append(p.v.Lost, o.ID)
		case then == nil:
			// An object is named by its content as a rule: a sound one is taken for the same.
		case current == nil || !bytes.Equal(then, current):
			p.v.Restore = append(p.v.Restore, o)
		}
	}
	return nil
}

// value returns the value at a place of the log, or nil if there is none that is sound.
func (p *revertPlan) value(at location, id ID) ([]byte, error) {
	data, err := p.r.readPlace(id, Place{at.segment, at.offset})
	if errors.Is(err, ErrIntegrity) {
		return nil, nil
	}
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

// Apply stores what is to be restored, and commits that as a transaction of its own: what was stored since stays, and the
// log loses nothing, so that it can be undone likewise. It brings back what can be, also where that is not all. There must
// have been no commit since the plan was made. Of a repository that is append-only it may restore what was replaced, for
// whoever has the right to call it.
//
// A compaction follows the commit as it follows any other, if Options.CompactThreshold does not forbid it.
//
// It returns the last transaction, which is the one that it has made unless there was nothing to restore. After an error
// nothing has changed, as after that of a Commit.
func (v *Revert) Apply(ctx context.Context) (transaction uint32, err error) {
	err = v.isCurrent()
	if err == nil && len(v.Restore) > 0 {
		if err = v.apply(ctx); err != nil {
			err = errors.Join(err, v.r.Rollback())
		}
	}
	if err != nil {
		return 0, fmt.Errorf("go back to transaction %d: %w", v.Transaction, err)
	}
	v.r.tx.RLock()
	defer v.r.tx.RUnlock()
	return uint32(v.r.committed), nil
}

func (v *Revert) apply(ctx context.Context) error {
	for _, o := range v.Restore {
		data, err := v.r.ValueAt(ctx, o.ID, o.Place)
		if err != nil {
			return err
		}
		if err := v.r.put(ctx, o.ID, data, true); err != nil {
			return err
		}
	}
	return v.r.Commit(ctx)
}

func (v *Revert) isCurrent() error {
	v.r.tx.RLock()
	defer v.r.tx.RUnlock()
	if err := v.r.idle(); err != nil {
		return err
	}
	if v.r.committed != v.committed {
		return errors.New("there was a commit since this was planned")
	}
	return nil
}
