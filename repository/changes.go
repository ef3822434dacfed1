package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
)

// A Mark names a state of a repository: that of one commit. It is a hint: when an old copy of the repository is put in its
// place and gone on with, another state may come to have the same Mark, though that is unlikely. A Digest makes sure.
// The zero Mark names no state.
type Mark struct {
	Transaction uint32
	Size        int64  // of the transaction's last segment, in bytes
	Tail        uint32 // the CRC-32C of the last 4 KiB of it
}

// Mark returns that of the last commit, the zero Mark if there is none.
func (r *Repository) Mark(context.Context) (Mark, error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	if err := r.usable(); err != nil {
		return Mark{}, err
	}
	if r.committed < 0 {
		return Mark{}, nil
	}
	return r.markOf(uint32(r.committed))
}

func (r *Repository) markOf(n uint32) (Mark, error) {
	s, err := r.segments.acquire(n)
	if err != nil {
		return Mark{}, err
	}
	defer s.release()
	size, tail, err := fingerprint(s)
	return Mark{n, size, tail}, err
}

// A Change is an object that may be another than before.
type Change struct {
	ID   ID
	Size int // of its value now, in bytes; negative: there is no such object, or it cannot be read
}

// A Digest is of the ids of all objects: their number, and the sums of their first and of their second eight bytes as
// little-endian integers, modulo 2^64. Sets of ids that nobody has chosen for it have different ones.
type Digest struct{ Count, Low, High uint64 }

// Add takes an object into account, Remove one that was taken before.
func (d *Digest) Add(id ID) {
	d.Count++
	d.Low += binary.LittleEndian.Uint64(id[:])
	d.High += binary.LittleEndian.Uint64(id[8:])
}

// Remove undoes Add.
func (d *Digest) Remove(id ID) {
	d.Count--
	d.Low -= binary.LittleEndian.Uint64(id[:])
	d.High -= binary.LittleEndian.Uint64(id[8:])
}

// Digest returns that of the objects there are. It goes through the whole index.
func (r *Repository) Digest(ctx context.Context) (d Digest, err error) {
	for id, err := range r.All(ctx) {
		if err != nil {
			return Digest{}, err
		}
		d.Add(id)
	}
	return d, nil
}

// Changes tells what may have changed since an earlier state: all that has, and perhaps some that has not. If the state
// is not known any more, or the zero Mark, all is true and the changes are all objects that there are. Who follows the
// changes should compare the Digest of what they lead to, see Mark, and ask for everything if it differs. The sequence
// may be used once, before the next Commit; it reads the beginning of each object.
func (r *Repository) Changes(ctx context.Context, since Mark) (now Mark, all bool, changes iter.Seq2[Change, error], err error) {
	if now, err = r.Mark(ctx); err != nil {
		return now, false, nil, err
	}
	ids, known, err := r.changedSince(since)
	if err != nil && r.heal(ctx, err) {
		ids, known, err = r.changedSince(since)
	}
	if err == nil && !known {
		ids, err = r.List(ctx, 0, nil)
	}
	if err != nil {
		return now, false, nil, fmt.Errorf("find out what has changed: %w", err)
	}
	return now, !known, r.sizes(ctx, ids), nil
}

// changedSince returns the objects that have changed since a state, if that can be known.
func (r *Repository) changedSince(since Mark) (ids []ID, known bool, err error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	if since == (Mark{}) || int64(since.Transaction) > r.committed {
		return nil, false, nil
	}
	mark, err := r.markOf(since.Transaction)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, nil // by a compaction
	case err != nil || mark != since:
		return nil, false, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usableLocked(); err != nil {
		return nil, false, err
	}
	if base := r.index.base(); base != nil && base.number > since.Transaction {
		return nil, false, nil
	}
	changed := map[ID]struct{}{}
	for id := range r.index.txn {
		changed[id] = struct{}{}
	}
	for id := range r.index.tail {
		changed[id] = struct{}{}
	}
	for _, t := range r.index.tables {
		if t.number <= since.Transaction {
			break // and so are all below it
		}
		err := t.file.Scan(0, func(id ID, _ []uint32) bool {
			changed[id] = struct{}{}
			return true
		})
		if err != nil {
			return nil, false, fmt.Errorf("read %q: %w", t.name(), err)
		}
	}
	ids = make([]ID, 0, len(changed))
	for id := range changed {
		ids = append(ids, id)
	}
	return ids, true, nil
}

// sizes looks the sizes of objects up.
func (r *Repository) sizes(ctx context.Context, ids []ID) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for _, id := range ids {
			size, err := r.Size(ctx, id)
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrIntegrity) {
				size, err = -1, nil
			}
			if err == nil {
				err = ctx.Err()
			}
			if !yield(Change{id, size}, err) || err != nil {
				return
			}
		}
	}
}
