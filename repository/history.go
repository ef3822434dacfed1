package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"time"

	"garret/repository/segment"
	"garret/repository/storage"
)

// A Transaction is what the log says of one, as far as no compaction has removed it.
type Transaction struct {
	Number  uint32    // of its last segment, which names it
	First   uint32    // its first segment
	Time    time.Time // when the last segment was written, by the storage's clock; zero if that is not known
	Puts    int       // objects that were stored, those that were replaced included
	Deletes int       // objects that were deleted or replaced
	Bytes   int64     // of its segments

	// What happened to the object that TransactionsOptions.Watch names: it was stored, last at Watched, or it was deleted.
	// Neither: nothing.
	Stored, Deleted bool
	Watched         Place

	Missing int       // segments that are missing before it, from the transaction before on
	Damage  []Finding // of the kind DamagedRange
}

// TransactionsOptions are which transactions are told of, and how.
type TransactionsOptions struct {
	// Last, if positive, is how many are told of: the last.
	Last int
	// Watch is the object of which is told where it was stored; by default that is the manifest of a backup.
	Watch ID
	// Progress, if not nil, is called after each segment.
	Progress func(done, total int)
}

// Transactions tells of the committed transactions whose segments are still there, the oldest first. Where nothing is
// compacted, as in a repository that is append-only, that is all there were; else those before a gap may be more than
// one in the place of one, and lack what a compaction has moved.
//
// The headers of all entries are read, and nothing is verified but that they make sense; what does not is told in Damage, and
// no error. It also works where a check is needed. The memory that it takes does not depend on the size of the
// log. Nothing should be compacted meanwhile.
func (r *Repository) Transactions(ctx context.Context, o TransactionsOptions) iter.Seq2[Transaction, error] {
	return func(yield func(Transaction, error) bool) {
		log, err := r.committedLog()
		begin := 0
		if err == nil && o.Last > 0 {
			begin, err = r.beginOfLast(log, o.Last)
		}
		if err != nil {
			yield(Transaction{}, fmt.Errorf("list the transactions: %w", err))
			return
		}
		h := chronicle{r: r, watch: o.Watch, previous: -1}
		if begin > 0 {
			h.previous = int64(log[begin-1])
		}
		for i, n := range log[begin:] {
			err := ctx.Err()
			ended := false
			if err == nil {
				ended, err = h.read(n, false, func(segment.Entry) error { return nil })
			}
			if err != nil {
				yield(Transaction{}, fmt.Errorf("list the transactions: %w", err))
				return
			}
			if o.Progress != nil {
				o.Progress(i+1, len(log)-begin)
			}
			if ended && !yield(h.take(), nil) {
				return
			}
		}
	}
}

// committedLog returns the numbers of the segments up to the last commit, ascending.
func (r *Repository) committedLog() ([]uint32, error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	if err := r.usable(); err != nil && !errors.Is(err, ErrCheckNeeded) {
		return nil, err
	}
	return r.committedSegments()
}

// committedSegments is committedLog for one who holds tx in any way.
func (r *Repository) committedSegments() ([]uint32, error) {
	numbers, err := r.store.Segments(-1)
	if err != nil {
		return nil, err
	}
	return numbers[:countUpTo(numbers, r.committed)], nil
}

// countUpTo returns how many of the numbers, ascending, are at most n.
func countUpTo(numbers []uint32, n int64) int {
	i, _ := slices.BinarySearchFunc(numbers, n+1, func(a uint32, b int64) int { return int(int64(a) - b) })
	return i
}

// beginOfLast returns where in the log the last so many transactions begin.
func (r *Repository) beginOfLast(log []uint32, last int) (int, error) {
	for i := len(log) - 1; i >= 0; i-- {
		end, err := r.ending(log[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if end != segment.EndsCommitted {
			continue
		}
		if last--; last < 0 {
			return i + 1, nil
		}
	}
	return 0, nil
}

// chronicle gathers transactions from segments, which it is given in their order.
type chronicle struct {
	r        *Repository
	watch    ID
	previous int64 // segment
	t        Transaction
	begun    bool
}

// read adds a segment, calls apply with its entries, and reports whether it ends a transaction. With verify, the checksums of
// all entries are verified.
func (h *chronicle) read(n uint32, verify bool, apply func(segment.Entry) error) (ended bool, err error) {
	t := &h.t
	if !h.begun {
		t.First, h.begun = n, true
	}
	t.Missing += int(int64(n) - h.previous - 1)
	h.previous = int64(n)
	bad, size, err := h.r.entriesOf(n, verify, func(e segment.Entry) error {
		ended = e.Tag == segment.Commit
		switch e.Tag {
		case segment.Put:
			t.Puts++
		case segment.Delete:
			t.Deletes++
		}
		if e.ID == h.watch && e.Tag != segment.Commit {
			t.Stored, t.Deleted = e.Tag == segment.Put, e.Tag == segment.Delete
			t.Watched = Place{}
			if t.Stored {
				t.Watched = Place{n, uint32(e.Offset)}
			}
		}
		return apply(e)
	})
	if err != nil {
		return false, err
	}
	for _, b := range bad {
		t.Damage = append(t.Damage, Finding{Kind: DamagedRange, Segment: n, Offset: b.Offset, Length: b.Length})
	}
	t.Bytes += size
	return ended, nil
}

// take returns the transaction that has ended, and begins the next.
func (h *chronicle) take() Transaction {
	t := h.t
	t.Number = uint32(h.previous)
	t.Time, _ = h.r.store.SegmentTime(t.Number) // it is for people alone
	h.t, h.begun = Transaction{}, false
	return t
}

// entriesOf calls yield with the entries of a segment, in order, and returns the damaged ranges, behind which it goes on,
// and its size. Without verify, headers alone are read as long as they make sense.
func (r *Repository) entriesOf(
	n uint32, verify bool, yield func(segment.Entry) error,
) (bad []segment.Range, size int64, err error) {
	in, err := r.store.OpenSegment(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("segment %d is gone: the repository was compacted meanwhile: %w", n, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open segment %d: %w", n, err)
	}
	defer in.Close()
	size = in.Size()
	var next int64
	if verify {
		scan := segment.NewScanner(in, size)
		for scan.Scan() {
			if err := yield(scan.Entry()); err != nil {
				return nil, size, err
			}
		}
		next, err = scan.Offset(), scan.Err()
	} else {
		next, err = headersOf(in, yield)
	}
	if isDamage(err) {
		bad, err = segment.Salvage(in, size, nil, func(e segment.Entry, _ []byte) error {
			if e.Offset < next {
				return nil
			}
			return yield(e)
		})
		if len(bad) == 0 { // there is not even a byte of it, or it was read well now
			bad = []segment.Range{{Offset: next}}
		}
	}
	if err != nil {
		err = fmt.Errorf("read segment %d: %w", n, err)
	}
	return bad, size, err
}

// headersOf calls yield with the entries of a segment as their headers have them, until one makes no sense, which is at
// next.
func headersOf(in storage.Reader, yield func(segment.Entry) error) (next int64, err error) {
	var window [4096]byte
	begin, end := int64(0), int64(0) // of the window's content in the segment
	at := func(off int64, n int) ([]byte, error) {
		n = int(min(int64(n), in.Size()-off))
		if off < begin || off+int64(n) > end {
			got, err := in.ReadAt(window[:min(int64(len(window)), in.Size()-off)], off)
			if got < n {
				if err == nil || err == io.EOF {
					err = fmt.Errorf("%w: it ends at byte %d of %d", segment.ErrDamaged, off+int64(got), in.Size())
				}
				return nil, err
			}
			begin, end = off, off+int64(got)
		}
		return window[off-begin:][:n], nil
	}
	magic, err := at(0, segment.MagicSize)
	if err != nil {
		return 0, err
	}
	if err := segment.CheckMagic(magic); err != nil {
		return 0, err
	}
	for next = int64(segment.MagicSize); next < in.Size(); {
		b, err := at(next, segment.KeyedSize)
		if err != nil {
			return next, err
		}
		e, err := segment.ParseHeader(b)
		if err != nil {
			if newer := segment.Newer(in, in.Size(), next); newer != nil {
				err = newer
			}
			return next, err
		}
		if int64(e.Size) > in.Size()-next {
			return next, fmt.Errorf("%w: %v entry is cut off", segment.ErrDamaged, e.Tag)
		}
		e.Offset = next
		if err := yield(e); err != nil {
			return next, err
		}
		next += int64(e.Size)
	}
	return next, nil
}

// ValueAt returns the value that was stored as an object at a place of the log, whether it is the object's still or not. It
// is verified as Get does it.
func (r *Repository) ValueAt(ctx context.Context, id ID, p Place) ([]byte, error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	if err := r.usable(); err != nil && !errors.Is(err, ErrCheckNeeded) {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := r.readPlace(id, p)
	if err != nil {
		return nil, fmt.Errorf("get an earlier value: %w", err)
	}
	return data, nil
}

func (r *Repository) readPlace(id ID, p Place) ([]byte, error) {
	data, err := r.read(location{p.Segment, p.Offset}, id)
	if errors.Is(err, fs.ErrNotExist) {
		err = &IntegrityError{Segment: p.Segment, Offset: int64(p.Offset), ID: &id, Reason: "the segment is missing"}
	}
	return data, err
}

// GetAt returns the value that an object had after an earlier transaction, which its last segment names. It fails with
// ErrNotFound if there was no such object, with ErrNoTransaction, and with ErrCompacted where it cannot be known any more.
func (r *Repository) GetAt(ctx context.Context, transaction uint32, id ID) ([]byte, error) {
	p, err := r.findAt(ctx, transaction, id)
	if err == nil {
		return r.ValueAt(ctx, id, p)
	}
	return nil, fmt.Errorf("get %v as of transaction %d: %w", id, transaction, err)
}

func (r *Repository) findAt(ctx context.Context, transaction uint32, id ID) (Place, error) {
	log, err := r.committedLog()
	if err != nil {
		return Place{}, err
	}
	if err := r.isTransaction(log, transaction); err != nil {
		return Place{}, err
	}
	log = log[:countUpTo(log, int64(transaction))]
	for i := len(log) - 1; i >= 0; i-- {
		n := log[i]
		if err := ctx.Err(); err != nil {
			return Place{}, err
		}
		if i+1 < len(log) && log[i+1] != n+1 {
			return Place{}, fmt.Errorf("%w: segment %d is missing", ErrCompacted, n+1)
		}
		var last segment.Entry
		found := false
		bad, _, err := r.entriesOf(n, false, func(e segment.Entry) error {
			if e.Tag != segment.Commit && e.ID == id {
				last, found = e, true
			}
			return nil
		})
		switch {
		case err != nil:
			return Place{}, err
		case len(bad) > 0:
			return Place{}, &IntegrityError{Segment: n, Offset: bad[0].Offset, ID: &id, Reason: "the segment is damaged"}
		case found && last.Tag == segment.Put:
			return Place{n, uint32(last.Offset)}, nil
		case found:
			return Place{}, ErrNotFound
		}
	}
	if len(log) > 0 && log[0] != 0 {
		return Place{}, fmt.Errorf("%w: segment %d is missing", ErrCompacted, log[0]-1)
	}
	return Place{}, ErrNotFound
}

// isTransaction returns an error that matches ErrNotFound unless a segment of the log ends a transaction.
func (r *Repository) isTransaction(log []uint32, n uint32) error {
	if _, ok := slices.BinarySearch(log, n); ok {
		end, err := r.ending(n)
		if err != nil || end == segment.EndsCommitted {
			return err
		}
	}
	return fmt.Errorf("transaction %d: %w", n, ErrNoTransaction)
}
