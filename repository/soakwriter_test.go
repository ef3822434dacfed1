//go:build soak

package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The writer of a load, and what checks and compacts beside it.

// write is the one writer, session after session.
func (l *load) write(ctx context.Context) {
	rng := l.rng()
	for ctx.Err() == nil {
		l.writeSession(ctx, rng)
		pauseFor(ctx, upTo(rng, 300*time.Millisecond))
	}
}

func (l *load) writeSession(ctx context.Context, rng *rand.Rand) {
	l.session.Lock()
	defer l.session.Unlock()
	o := l.options(rng)
	o.Exclusive = true
	r, err := Open(context.WithoutCancel(ctx), l.path, o)
	if !l.ok("open to write", err) {
		return
	}
	l.opens.Add(1)
	ctx, cancel := context.WithTimeout(ctx, l.length(rng))
	defer cancel()
	var running sync.WaitGroup
	for range loadReaders {
		running.Go(func() { l.read(r) })
	}
	running.Go(func() { l.maintain(ctx, r) })
	for ctx.Err() == nil {
		l.transaction(r, rng, randomEnding(rng))
		pauseFor(ctx, upTo(rng, 20*time.Millisecond))
	}
	// The readers notice by themselves. What is open is rolled back.
	if rng.IntN(2) == 0 {
		l.transaction(r, rng, closes)
	} else {
		l.ok("close", r.Close())
	}
	running.Wait()
	if rng.IntN(8) == 0 {
		l.loseIndex()
	}
}

// loseIndex removes what is not the truth, while others may use it.
func (l *load) loseIndex() {
	for _, pattern := range []string{"index.*", "hints.*", "garret.*"} {
		files, _ := filepath.Glob(filepath.Join(l.path, pattern))
		for _, f := range files {
			if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.ok("remove the index", err)
			}
		}
	}
	l.lostIndexes.Add(1)
}

// ending is how a transaction ends.
type ending int

const (
	commits ending = iota
	rollsBack
	cancelled // a commit that is not done, and a rollback
	closes    // the repository
)

func randomEnding(rng *rand.Rand) ending {
	switch rng.IntN(20) {
	case 0, 1:
		return rollsBack
	case 2:
		return cancelled
	default:
		return commits
	}
}

// transaction puts and deletes, from several goroutines, and ends as it is told.
func (l *load) transaction(r *Repository, rng *rand.Rand, end ending) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.operation.Lock()
	defer l.operation.Unlock()
	count := rng.IntN(40)
	if rng.IntN(20) == 0 {
		count = 300
	}
	var running sync.WaitGroup
	var touched [loadPutters]map[int]uint32
	for p := range loadPutters {
		own := l.rng()
		touched[p] = map[int]uint32{}
		running.Go(func() { l.change(r, own, p, count/loadPutters, touched[p]) })
	}
	running.Wait()
	l.transactions.Add(1)
	if end != commits {
		l.takeBack(r, end, touched[:])
		l.rollbacks.Add(1)
		return
	}
	if !l.ok("commit", r.Commit(context.Background())) {
		return
	}
	for _, m := range touched {
		for key, version := range m {
			l.keys[key].acknowledge(version)
		}
	}
}

// change changes objects, of which each putter has its own.
func (l *load) change(r *Repository, rng *rand.Rand, putter, count int, touched map[int]uint32) {
	ctx := context.Background()
	for range count {
		key := rng.IntN(loadKeys/loadPutters)*loadPutters + putter
		o := &l.keys[key]
		l.recent.Store(int64(key))
		now, is := touched[key]
		if !is {
			now = o.acknowledged()
		}
		if now == 0 && rng.IntN(10) == 0 {
			if err := r.Delete(ctx, numbered(key)); !errors.Is(err, ErrNotFound) {
				l.failf("delete object %d, which is not there: %v", key, err)
			}
			continue
		}
		if now != 0 && rng.IntN(4) == 0 {
			o.will(0)
			if !l.ok("delete", r.Delete(ctx, numbered(key))) {
				return
			}
			touched[key] = 0
			l.deletes.Add(1)
		} else {
			version := l.version.Add(1)
			o.will(version)
			if !l.ok("put", r.Put(ctx, numbered(key), valueAt(key, version))) {
				return
			}
			touched[key] = version
			l.puts.Add(1)
		}
		o.is()
	}
}

// takeBack ends a transaction so that nothing of it stays.
func (l *load) takeBack(r *Repository, end ending, touched []map[int]uint32) {
	each := func(f func(o *timeline)) {
		for _, m := range touched {
			for key := range m {
				f(&l.keys[key])
			}
		}
	}
	each(func(o *timeline) { o.will(o.acknowledged()) })
	switch end {
	case closes:
		l.ok("close", r.Close())
	case cancelled:
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		hasAny := slices.ContainsFunc(touched, func(m map[int]uint32) bool { return len(m) > 0 })
		if err := r.Commit(ctx); hasAny && !errors.Is(err, context.Canceled) {
			l.failf("a commit that was cancelled: %v", err)
		}
		l.ok("roll back", r.Rollback())
	default:
		l.ok("roll back", r.Rollback())
	}
	each((*timeline).is)
}

// maintain checks and compacts, between the transactions, and also without regard to them.
func (l *load) maintain(ctx context.Context, r *Repository) {
	rng := l.rng()
	for pauseFor(ctx, upTo(rng, 300*time.Millisecond)); ctx.Err() == nil; pauseFor(ctx, upTo(rng, 500*time.Millisecond)) {
		regardless := rng.IntN(2) == 0
		if !regardless {
			l.turn.Lock()
		}
		l.operation.Lock()
		err := l.maintainOnce(r, rng, regardless)
		l.operation.Unlock()
		if !regardless {
			l.turn.Unlock()
		}
		switch {
		case err == nil || errors.Is(err, ErrClosed):
		case regardless && strings.Contains(err.Error(), "a transaction is open"):
			l.refused.Add(1)
		default:
			l.failf("%v", err)
			return
		}
	}
}

func (l *load) maintainOnce(r *Repository, rng *rand.Rand, regardless bool) error {
	ctx := context.Background()
	switch rng.IntN(5) {
	case 0:
		_, err := r.Compact(ctx)
		if err == nil {
			l.compactions.Add(1)
		}
		return err
	case 1:
		if regardless {
			return nil
		}
		d, err := r.Digest(ctx)
		if want := l.count(); err == nil && d.Count != uint64(want) {
			err = fmt.Errorf("the digest counts %d objects, and there are %d", d.Count, want)
		}
		return err
	default:
		return l.check(r, rng.IntN(3) == 0, !regardless)
	}
}

// count returns how many objects there are.
func (l *load) count() (n int) {
	for i := range l.keys {
		if l.keys[i].acknowledged() != 0 {
			n++
		}
	}
	return n
}

// check checks, and repairs if it is to; nothing may be found.
func (l *load) check(r *Repository, repair, isStill bool) error {
	report, err := r.Check(context.Background(), CheckOptions{Repair: repair})
	if err != nil {
		return err
	}
	if !report.OK() || report.Repaired {
		return fmt.Errorf("check finds %v", report.Findings)
	}
	if want := l.count(); isStill && report.Objects != want {
		return fmt.Errorf("check counts %d objects, and there are %d", report.Objects, want)
	}
	l.checks.Add(1)
	if repair {
		l.repairs.Add(1)
	}
	return nil
}
