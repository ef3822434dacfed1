package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"

	"garret/repository/hashindex"
	"garret/repository/segment"
)

// IntegrityError says which object or part of a segment is damaged. It matches ErrIntegrity.
type IntegrityError struct {
	Segment uint32
	Offset  int64 // in bytes
	ID      *ID   // nil if it is not about one object
	Reason  string

	// otherEntry: there is another object's entry, sound, so that it is rather an index without checksums that is wrong
	otherEntry bool
}

func (e *IntegrityError) Error() string {
	if e.ID != nil {
		return fmt.Sprintf("object %v in segment %d at byte %d: %s", *e.ID, e.Segment, e.Offset, e.Reason)
	}
	return fmt.Sprintf("segment %d at byte %d: %s", e.Segment, e.Offset, e.Reason)
}

// Is makes the error match ErrIntegrity.
func (e *IntegrityError) Is(target error) bool {
	return target == ErrIntegrity || e.otherEntry && target == hashindex.ErrDamaged
}

// Len returns the number of objects, those of the open transaction included.
func (r *Repository) Len(context.Context) (int, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usableLocked(); err != nil {
		return 0, err
	}
	return r.index.count + r.index.txnCount, nil
}

// Has reports whether an object has the id. It does not read the object.
func (r *Repository) Has(ctx context.Context, id ID) (bool, error) {
	ok, err := r.has(id)
	if err != nil && r.heal(ctx, err) {
		return r.has(id)
	}
	return ok, err
}

func (r *Repository) has(id ID) (bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usableLocked(); err != nil {
		return false, err
	}
	_, ok, err := r.index.lookup(id)
	return ok, err
}

// Get returns the value of an object, which is the caller's to keep and change. It fails with ErrNotFound, and with an
// *IntegrityError, which matches ErrIntegrity, if the object is not as it was stored. What the open transaction has put
// is seen.
func (r *Repository) Get(ctx context.Context, id ID) ([]byte, error) {
	return fetch(ctx, r, "get", id, readSpace, r.read)
}

// Size returns the length of an object's value in bytes, and fails as Get does. It reads the beginning of the object
// alone, so that damage in the rest of it is not noticed.
func (r *Repository) Size(ctx context.Context, id ID) (int, error) {
	return fetch(ctx, r, "get the size", id, sizeOfSpace, r.readSize)
}

// fetch finds an object and calls pending, if it has not been written yet, or stored to read something of it.
func fetch[T any](
	ctx context.Context, r *Repository, what string, id ID,
	pending func(space, location, ID) (T, error), stored func(location, ID) (T, error),
) (result T, err error) {
	var tried location
	healed := false
	for {
		r.mu.RLock()
		if err := r.usableLocked(); err != nil {
			r.mu.RUnlock()
			return result, err
		}
		loc, ok, err := r.index.lookup(id)
		var s space
		if ok && r.appender != nil {
			s = r.appender.readLocked(loc)
		}
		r.mu.RUnlock()
		if err != nil {
			if !healed && r.heal(ctx, err) {
				healed = true
				continue
			}
			return result, fmt.Errorf("%s: %w", what, err)
		}
		if !ok {
			return result, fmt.Errorf("%s %v: %w", what, id, ErrNotFound)
		}
		if s.block != nil {
			return pending(s, loc, id)
		}
		got, err := stored(loc, id)
		if err != nil && tried != loc && r.moved(loc, id) {
			continue // a rollback, or a compaction, was faster
		}
		if errors.Is(err, fs.ErrNotExist) {
			if tried != loc {
				tried = loc // compaction may have moved it meanwhile
				continue
			}
			err = &IntegrityError{Segment: loc.segment, Offset: int64(loc.offset), ID: &id, Reason: "the segment is missing"}
		}
		if err != nil {
			if cause := r.lostWrite(loc); cause != nil {
				err = fmt.Errorf("%w: %w", ErrFailed, cause)
			} else if !healed && r.heal(ctx, err) {
				healed = true
				continue
			}
			return result, fmt.Errorf("%s: %w", what, err)
		}
		return got, nil
	}
}

// moved reports whether an object is no longer at loc.
func (r *Repository) moved(loc location, id ID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now, ok, err := r.index.lookup(id)
	return err == nil && (!ok || now != loc)
}

// lostWrite returns why what the open transaction has put at loc was not written.
func (r *Repository) lostWrite(loc location) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.appender == nil || loc.segment < r.appender.first {
		return nil
	}
	return r.appender.err
}

// readSpace reads an object that has not been written to its segment yet.
func readSpace(s space, loc location, id ID) ([]byte, error) {
	defer s.block.release()
	s.block.wait()
	e, err := segment.ParseHeader(s.buf)
	if err != nil || e.ID != id || e.Size > len(s.buf) {
		return nil, &IntegrityError{Segment: loc.segment, Offset: int64(loc.offset), ID: &id, Reason: "it is not in its buffer"}
	}
	return append([]byte(nil), s.buf[segment.KeyedSize:e.Size]...), nil
}

// sizeOfSpace is readSpace for the length alone.
func sizeOfSpace(s space, loc location, id ID) (int, error) {
	value, err := readSpace(s, loc, id)
	return len(value), err
}

// readSize is read for the length alone.
func (r *Repository) readSize(loc location, id ID) (int, error) {
	s, err := r.segments.acquire(loc.segment)
	if err != nil {
		return 0, err
	}
	var buf [segment.KeyedSize]byte
	_, err = s.ReadAt(buf[:], int64(loc.offset))
	s.release()
	if err == nil {
		e, err := segment.ParseHeader(buf[:])
		if err == nil && e.Tag == segment.Put && e.ID == id {
			return e.Size - segment.KeyedSize, nil
		}
	}
	value, err := r.read(loc, id) // which says what is wrong
	return len(value), err
}

// firstRead is what a read of an object begins with: all of a small one.
const firstRead = 8 << 10

var readBuffers = sync.Pool{New: func() any { return new([firstRead]byte) }}

// read reads the object at loc, which must be that of id, and verifies it.
func (r *Repository) read(loc location, id ID) ([]byte, error) {
	s, err := r.segments.acquire(loc.segment)
	if err != nil {
		return nil, err
	}
	defer s.release()
	buf := readBuffers.Get().(*[firstRead]byte)
	defer readBuffers.Put(buf)
	damaged := func(reason string) *IntegrityError {
		return &IntegrityError{Segment: loc.segment, Offset: int64(loc.offset), ID: &id, Reason: reason}
	}
	n, err := s.ReadAt(buf[:], int64(loc.offset))
	if n < segment.KeyedSize {
		if err == nil || err == io.EOF {
			return nil, damaged("the segment ends before it")
		}
		return nil, fmt.Errorf("read segment %d: %w", loc.segment, err)
	}
	e, err := segment.ParseHeader(buf[:n])
	if err != nil {
		if newer := segment.Newer(s, s.Size(), int64(loc.offset)); errors.Is(newer, ErrNewer) {
			return nil, fmt.Errorf("object %v in segment %d: %w", id, loc.segment, newer)
		}
		return nil, damaged(err.Error())
	}
	if e.Tag != segment.Put {
		return nil, damaged(fmt.Sprintf("there is a %v instead", e.Tag))
	}
	value := make([]byte, e.Size-segment.KeyedSize)
	have := copy(value, buf[segment.KeyedSize:n])
	if have < len(value) {
		n, err := s.ReadAt(value[have:], int64(loc.offset)+int64(segment.KeyedSize+have))
		if n < len(value)-have {
			if err == nil || err == io.EOF {
				return nil, damaged("the segment ends within it")
			}
			return nil, fmt.Errorf("read segment %d: %w", loc.segment, err)
		}
	}
	if !segment.VerifyParts((*[segment.KeyedSize]byte)(buf[:]), value) {
		return nil, damaged("its checksum does not match")
	}
	if e.ID != id {
		err := damaged(fmt.Sprintf("there is object %v instead", e.ID))
		err.otherEntry = true
		return nil, err
	}
	return value, nil
}

// GetMany returns the values of many objects in the order of their ids, each as Get returns it, and reads ahead of the
// caller, by at most 8 objects. It goes on behind an object that cannot be read.
func (r *Repository) GetMany(ctx context.Context, ids iter.Seq[ID]) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		type result struct {
			data []byte
			err  error
		}
		ctx, cancel := context.WithCancel(ctx)
		const ahead, readers = 8, 4
		order := make(chan chan result, ahead)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() {
			defer close(order)
			slots := make(chan struct{}, readers)
			for id := range ids {
				c := make(chan result, 1)
				select {
				case order <- c:
				case <-ctx.Done():
					return
				}
				slots <- struct{}{}
				running.Go(func() {
					defer func() { <-slots }()
					data, err := r.Get(ctx, id)
					c <- result{data, err}
				})
			}
		})
		for c := range order {
			select {
			case got := <-c:
				if !yield(got.data, got.err) {
					return
				}
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// List returns the ids of at most limit objects, or of all if limit is not positive, that come behind marker, or from the
// beginning if marker is nil. The order is that of the index and means nothing. It stays the same while objects are put,
// and until a Commit, so that a caller who asks page by page should not commit between two pages. A marker that is no
// object, nor was one since the index was written, is ErrNotFound.
func (r *Repository) List(ctx context.Context, limit int, marker *ID) ([]ID, error) {
	ids, err := r.list(ctx, limit, marker)
	if err != nil && r.heal(ctx, err) {
		return r.list(ctx, limit, marker)
	}
	return ids, err
}

func (r *Repository) list(ctx context.Context, limit int, marker *ID) ([]ID, error) {
	r.tx.RLock()
	defer r.tx.RUnlock()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usableLocked(); err != nil {
		return nil, err
	}
	total := r.index.count + r.index.txnCount
	if limit <= 0 || limit > total {
		limit = total
	}
	ids := make([]ID, 0, limit)
	if limit == 0 {
		return ids, nil
	}
	err := r.index.walk(marker, func(id ID) bool {
		ids = append(ids, id)
		return len(ids) < limit && ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return ids, err
}

// All returns the ids of all objects there are when it begins, in an order that means nothing. It takes 32 bytes of
// memory for each.
func (r *Repository) All(ctx context.Context) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		ids, err := r.List(ctx, 0, nil)
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield(ID{}, err)
		}
	}
}
