package repository

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"garret/repository/segment"
	"garret/repository/storage"
)

// repair makes the segments sound and writes a new index.
func (c *check) repair(ctx context.Context) error {
	r := c.r
	if err := r.removeAbove(c.last); err != nil {
		return fmt.Errorf("remove what an aborted transaction left: %w", err)
	}
	if err := c.begin(); err != nil {
		return err
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
	if r.committed >= 0 {
		if err := r.withReserve(r.flushBase); err != nil {
			return err
		}
	}
	return r.endRepair()
}

// The file garret.repair is there from before the first segment is replaced until the index is right again. In a segment
// that was replaced, the entries are nearer to the front than the index has them. Who does not know why would take them for
// older values of objects that are lost, and a repair would delete them.
//
// It has the numbers of the segments, a line each, and a last line with the CRC-32C of those in hexadecimal digits. If it
// cannot be read, any segment may have been replaced.
const repairName = ownPrefix + "repair"

const repairLimit = 1 << 20

// begin makes it known which segments will be replaced, beside those that an interrupted repair has replaced.
func (c *check) begin() error {
	if len(c.damaged) == 0 {
		return nil
	}
	r := c.r
	all := slices.Clone(c.damaged)
	if r.interrupted {
		if r.replaced == nil {
			return nil // what is there stands for all
		}
		all = slices.Concat(all, slices.Collect(maps.Keys(r.replaced)))
	}
	slices.Sort(all)
	var b []byte
	for _, n := range slices.Compact(all) {
		b = fmt.Appendln(b, n)
	}
	if b = fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli)); len(b) > repairLimit {
		b = nil
	}
	if err := r.withReserve(func() error { return storage.WriteFile(r.store, repairName, b) }); err != nil {
		return fmt.Errorf("write file %q: %w", repairName, err)
	}
	r.interrupted = true
	return nil
}

// endRepair removes the file, durably.
func (r *Repository) endRepair() error {
	if !r.interrupted {
		return nil
	}
	if err := r.store.RemoveFile(repairName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file %q: %w", repairName, err)
	}
	// Nothing else makes the removal of a file durable than that another one is written.
	if r.flushed != nil {
		if err := r.withReserve(func() error { return r.writeState(r.flushed) }); err != nil {
			return err
		}
	}
	r.interrupted, r.replaced = false, nil
	return nil
}

// findInterrupted reads what a repair has left that was interrupted.
func (r *Repository) findInterrupted() error {
	b, err := storage.ReadFile(r.store, repairName, repairLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.interrupted, r.replaced = true, nil
	if err != nil {
		return unlessDamage(err)
	}
	end := len(b) - 9
	if end < 0 || string(b[end:]) != fmt.Sprintf("%08x\n", crc32.Checksum(b[:end], castagnoli)) {
		return nil
	}
	replaced := map[uint32]bool{}
	for line := range strings.Lines(string(b[:end])) {
		n, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 32)
		if err != nil {
			return nil
		}
		replaced[uint32(n)] = true
	}
	r.replaced = replaced
	return nil
}

// unlessDamage returns an error that is not about damage.
func unlessDamage(err error) error {
	if isDamage(err) {
		return nil
	}
	return err
}

// hasMoved reports whether the entry of an object at a place is the one that the index has at another, because a repair has
// replaced the segment and was interrupted.
func (r *Repository) hasMoved(from, to location) bool {
	return r.interrupted && from.segment == to.segment && to.before(from) && (r.replaced == nil || r.replaced[to.segment])
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
	defer c.r.segments.forget(n) // after an error too, which may have come when it was replaced
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
		dead, existed, err := r.index.lookup(s.id)
		if err == nil && existed {
			err = r.copyTombstone(a, s.id) // of a value that a segment has which is not the one that it was
		} else {
			dead = s.at
		}
		if err == nil {
			err = r.appendPut(a, s.id, value, existed)
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.buried = append(r.buried, dead)
		r.mu.Unlock()
	}
	return nil
}
