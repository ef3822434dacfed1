package repository

import (
	"context"
	"errors"
	"fmt"
	"io"

	"garret/repository/segment"
)

// repair makes the segments sound and writes a new index.
func (c *check) repair(ctx context.Context) error {
	r := c.r
	if err := r.removeAbove(c.last); err != nil {
		return fmt.Errorf("remove what an aborted transaction left: %w", err)
	}
	for _, n := range c.damaged {
		if err := c.replace(n); err != nil {
			return fmt.Errorf("segment %d: %w", n, err)
		}
	}
	if err := c.ensureCommit(); err != nil {
		return err
	}
	fresh := r.blank()
	if err := fresh.replay(ctx, -1); err != nil {
		return err
	}
	r.adopt(fresh)
	r.mu.Lock()
	r.failed, r.isWitness = nil, false
	r.mu.Unlock()
	r.rebuilt, r.broken, r.gap, r.damagedCommit = false, nil, -1, -1
	r.replayed, r.settled = -1, false
	if err := r.settle(); err != nil {
		return err
	}
	if err := c.amend(ctx); err != nil {
		return err
	}
	if err := r.measure(); err != nil {
		return err
	}
	if r.committed < 0 {
		return nil
	}
	return r.withReserve(r.flushBase)
}

// replace writes a segment anew from what is sound in it.
func (c *check) replace(n uint32) error {
	in, err := c.r.store.OpenSegment(n)
	if err != nil {
		return err
	}
	defer in.Close()
	known, err := c.knownOffsets(n)
	if err != nil {
		return err
	}
	c.r.segments.forget(n)
	write := func(w io.Writer) error {
		if _, err := w.Write([]byte(segment.Magic)); err != nil {
			return err
		}
		_, err := segment.Salvage(in, in.Size(), known, func(e segment.Entry, raw []byte) error {
			ok, err := c.isCredible(n, e)
			if ok {
				_, err = w.Write(raw)
			}
			return err
		})
		return err
	}
	return c.r.withReserve(func() error { return c.r.store.ReplaceSegment(n, write) })
}

// ensureCommit makes the log end with a COMMIT behind the last segment, if it has none.
func (c *check) ensureCommit() error {
	r := c.r
	r.listing = listing{}
	committed, err := r.lastCommitted(-1)
	if err != nil || committed == c.last || c.last < 0 {
		r.committed = committed
		return err
	}
	a := newAppender(r, uint32(c.last+1), always)
	last, err := a.commit()
	if err != nil {
		a.end()
		return errors.Join(err, r.removeAbove(c.last))
	}
	r.committed = int64(last)
	return nil
}

// amend deletes the objects again that a lost DELETE, or the loss of their last value, would bring back, and stores those
// again that are sound but that a DELETE behind them hides.
func (c *check) amend(ctx context.Context) error {
	r := c.r
	if len(c.undo)+len(c.saved) == 0 {
		return nil
	}
	a := newAppender(r, uint32(r.committed+1), always)
	r.mu.Lock()
	r.appender, r.erased = a, map[uint32]int{}
	r.mu.Unlock()
	err := c.appendAmendments(ctx, a)
	if err == nil {
		err = r.commit(a)
	}
	if err != nil {
		return errors.Join(err, r.rollback())
	}
	return nil
}

func (c *check) appendAmendments(ctx context.Context, a *appender) error {
	r := c.r
	for _, id := range c.undo {
		if err := ctx.Err(); err != nil {
			return err
		}
		loc, ok, err := r.index.lookup(id)
		if err != nil || !ok {
			continue
		}
		if err := r.copyTombstone(a, id); err != nil {
			return err
		}
		r.mu.Lock()
		r.buried = append(r.buried, loc)
		r.index.set(id, removed, true)
		r.mu.Unlock()
	}
	for _, s := range c.saved {
		value, err := r.read(s.at, s.id)
		if err != nil {
			return err
		}
		if err := r.appendPut(a, s.id, value, false); err != nil {
			return err
		}
		r.mu.Lock()
		r.buried = append(r.buried, s.at)
		r.mu.Unlock()
	}
	return nil
}
