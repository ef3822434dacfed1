//go:build soak

package repository

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// The readers of a load: those beside the writer, and those who have the repository open in between.

// read reads beside the writer until the repository is closed.
func (l *load) read(r *Repository) {
	rng := l.rng()
	for {
		l.operation.Lock()
		err := l.readOnce(r, rng)
		l.operation.Unlock()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			l.failf("read: %v", err)
			return
		}
		time.Sleep(upTo(rng, 2*time.Millisecond))
	}
}

func (l *load) readOnce(r *Repository, rng *rand.Rand) error {
	ctx := context.Background()
	key := rng.IntN(loadKeys)
	if rng.IntN(2) == 0 {
		key = int(l.recent.Load())
	}
	from := l.keys[key].begin()
	switch rng.IntN(12) {
	case 0:
		is, err := r.Has(ctx, numbered(key))
		if err != nil {
			return err
		}
		return l.judge(key, from, fmt.Sprint("it is there: ", is), func(v uint32) bool { return is == (v != 0) })
	case 1:
		size, err := r.Size(ctx, numbered(key))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return l.judge(key, from, fmt.Sprint("its size is ", size, err), func(v uint32) bool {
			return (v == 0) == (err != nil) && (v == 0 || len(valueAt(key, v)) == size)
		})
	case 2:
		return l.readMany(r, rng)
	case 3:
		ids := 0
		for _, err := range r.All(ctx) {
			if err != nil {
				return err
			}
			ids++
		}
		l.reads.Add(1)
		if ids > loadKeys {
			return fmt.Errorf("there are %d objects, and %d keys", ids, loadKeys)
		}
		return nil
	default:
		value, err := r.Get(ctx, numbered(key))
		return l.judgeValue(key, from, value, err)
	}
}

func (l *load) readMany(r *Repository, rng *rand.Rand) error {
	var keys, from []int
	var ids []ID
	for range 1 + rng.IntN(20) {
		key := rng.IntN(loadKeys)
		keys, from, ids = append(keys, key), append(from, l.keys[key].begin()), append(ids, numbered(key))
	}
	i := 0
	for value, err := range r.GetMany(context.Background(), slices.Values(ids)) {
		if err := l.judgeValue(keys[i], from[i], value, err); err != nil {
			return err
		}
		if i++; rng.IntN(50) == 0 {
			break // leaves what was read ahead
		}
	}
	return nil
}

// judgeValue holds what Get has returned against the object's timeline.
func (l *load) judgeValue(key, from int, value []byte, err error) error {
	var version uint32
	if err == nil {
		version, err = versionOf(key, value)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return l.judge(key, from, fmt.Sprint("it has version ", version), func(v uint32) bool { return v == version })
}

func (l *load) judge(key, from int, what string, is func(version uint32) bool) error {
	l.reads.Add(1)
	may := l.keys[key].since(from)
	if len(may) == 0 {
		l.unknown.Add(1)
		return nil
	}
	if !slices.ContainsFunc(may, is) {
		return fmt.Errorf("object %d: %s, may have been %v", key, what, may)
	}
	return nil
}

// readOthers opens the repository again and again when the writer does not have it, and compares it with what was acknowledged.
func (l *load) readOthers(ctx context.Context) {
	rng := l.rng()
	for ; ctx.Err() == nil; pauseFor(ctx, upTo(rng, 500*time.Millisecond)) {
		l.otherSession(ctx, rng)
	}
}

func (l *load) otherSession(ctx context.Context, rng *rand.Rand) {
	l.session.Lock()
	defer l.session.Unlock()
	o := l.options(rng)
	o.ReadOnly = rng.IntN(2) == 0
	o.Warn = nil // an index that is removed while it is opened is made anew
	r, err := Open(context.WithoutCancel(ctx), l.path, o)
	if !l.ok("open to read", err) {
		return
	}
	l.otherOpens.Add(1)
	before := l.version.Load()
	var running sync.WaitGroup
	for range 2 {
		own := l.rng()
		running.Go(func() {
			if err := l.compare(r, own); err != nil {
				l.failf("read by another: %v", err)
			}
		})
	}
	running.Wait()
	if after := l.version.Load(); before != after {
		l.failf("a writer was at work while others held the lock: version %d, then %d", before, after)
	}
	if !o.ReadOnly && rng.IntN(6) == 0 {
		l.tryWrite(r, rng)
	}
	l.ok("close", r.Close())
}

// compare holds some objects, or all, against what was acknowledged.
func (l *load) compare(r *Repository, rng *rand.Rand) error {
	ctx := context.Background()
	switch rng.IntN(4) {
	case 0:
		return l.check(r, false, true)
	case 1:
		if n, err := r.Len(ctx); err != nil || n != l.count() {
			return fmt.Errorf("there are %d objects, and should be %d: %v", n, l.count(), err)
		}
		l.fullReads.Add(1)
		for key := range l.keys {
			if err := l.compareOne(r, key); err != nil {
				return err
			}
		}
	default:
		for range 100 {
			if err := l.compareOne(r, rng.IntN(loadKeys)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *load) compareOne(r *Repository, key int) error {
	value, err := r.Get(context.Background(), numbered(key))
	var version uint32
	if err == nil {
		version, err = versionOf(key, value)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	l.reads.Add(1)
	if want := l.keys[key].acknowledged(); version != want {
		return fmt.Errorf("object %d has version %d, and %d was acknowledged", key, version, want)
	}
	return nil
}

// tryWrite writes without having asked for it before: it gets the lock, or does not, and takes back what it wrote.
func (l *load) tryWrite(r *Repository, rng *rand.Rand) {
	r.opts.LockWait = upTo(rng, 100*time.Millisecond)
	err := r.Put(context.Background(), numbered(rng.IntN(loadKeys)), []byte("never committed"))
	if errors.Is(err, ErrLocked) {
		l.locked.Add(1)
		return
	}
	if l.ok("put by another", err) && rng.IntN(2) == 0 {
		l.ok("roll back by another", r.Rollback())
	} // else Close does it
}

// tryOpen opens a repository that the writer holds all the time.
func (l *load) tryOpen(ctx context.Context) {
	rng := l.rng()
	for ; ctx.Err() == nil; pauseFor(ctx, upTo(rng, 4*time.Second)) {
		if l.opens.Load() == 0 {
			continue
		}
		l.operation.Lock()
		r, err := Open(ctx, l.path, &Options{ReadOnly: rng.IntN(2) == 0, LockWait: upTo(rng, 100*time.Millisecond)})
		l.operation.Unlock()
		switch {
		case err == nil:
			r.Close()
			if ctx.Err() == nil {
				l.failf("opened while it was locked")
			}
		case errors.Is(err, ErrLocked):
			l.locked.Add(1)
		case ctx.Err() == nil:
			l.failf("open what is locked: %v", err)
		}
	}
}
