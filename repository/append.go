package repository

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"garret/repository/segment"
	"garret/repository/storage"
)

const (
	blockSize   = 1 << 20 // what is written at a time
	maxInflight = 8       // blocks that wait to be written
	maxSealing  = 4       // segments that are synced in the background
)

// An appender writes the segments of one transaction. Space is given out under the repository's lock, what goes there is
// copied outside of it, and two goroutines write the blocks and sync the segments that are full, while the next are being
// filled.
type appender struct {
	store    storage.Storage
	segments *segments
	limit    int64 // a segment that has grown beyond is ended
	room     room

	first uint32 // segment of the transaction

	mu       *sync.RWMutex // the repository's, which guards what follows
	changed  *sync.Cond    // inflight or err
	current  uint32        // segment
	offset   int64         // in it, where the next entry goes
	started  bool          // the current segment has been begun
	filling  *block        // nil if the next entry begins one
	inflight []*block      // not written yet, filling included, in order
	err      error         // the first failure; there is no way on

	queue chan *block
	done  chan struct{} // closed when the writing goroutine has ended

	// What follows is the writing goroutine's, and the committer's when that has nothing to do.
	open    storage.Writer // of the current segment
	handle  *openSegment
	sealing sync.WaitGroup
	slots   chan struct{}
	sealErr atomic.Pointer[error]
	written int64 // bytes
}

// block is a part of a segment on its way to the file.
type block struct {
	segment uint32
	offset  int64
	buf     []byte
	copying sync.RWMutex // held shared by those who have been given space and not filled it yet
	last    bool         // of its segment
	refs    atomic.Int32 // readers, and the appender
}

var blocks = sync.Pool{New: func() any { return &block{buf: make([]byte, 0, blockSize)} }}

func (b *block) release() {
	if b.refs.Add(-1) == 0 && cap(b.buf) == blockSize {
		b.buf = b.buf[:0]
		blocks.Put(b)
	}
}

// newAppender begins with segment n, which must not exist. It asks mayUse, when it writes, whether it may use the reserve.
func newAppender(r *Repository, n uint32, mayUse func() bool) *appender {
	a := &appender{
		store: r.store, segments: r.segments, limit: r.config.maxSegmentSize, room: room{r, mayUse},
		first: n, current: n, mu: &r.mu, changed: sync.NewCond(&r.mu),
		queue: make(chan *block, maxInflight+1), done: make(chan struct{}), slots: make(chan struct{}, maxSealing),
	}
	go a.run()
	return a
}

// space is a part of the log that has been given out. Who has it fills buf and calls done.
type space struct {
	buf   []byte
	block *block
}

func (s space) done() { s.block.copying.RUnlock() }

// wait returns when all have filled their space who were given any before.
func (b *block) wait() {
	b.copying.Lock()
	defer b.copying.Unlock()
}

// reserveLocked gives out n bytes of the log. It waits while too much is unwritten.
func (a *appender) reserveLocked(n int) (s space, loc location, err error) {
	for len(a.inflight) >= maxInflight && a.err == nil {
		a.changed.Wait()
	}
	if a.err != nil {
		return s, loc, a.err
	}
	if a.started && a.offset > a.limit {
		a.endSegmentLocked()
	}
	if a.current > storage.MaxSegment {
		return s, loc, fmt.Errorf("segment number %d is too large for the format", a.current)
	}
	room := n
	if !a.started {
		room += segment.MagicSize
	}
	if a.filling != nil && cap(a.filling.buf)-len(a.filling.buf) < room {
		a.pushLocked()
	}
	if a.filling == nil {
		a.filling = a.newBlockLocked(room)
	}
	b := a.filling
	if !a.started {
		b.buf = append(b.buf, segment.Magic...)
		a.started, a.offset = true, int64(segment.MagicSize)
	}
	from := len(b.buf)
	b.buf = b.buf[:from+n]
	loc = location{a.current, uint32(a.offset)}
	a.offset += int64(n)
	b.copying.RLock()
	return space{b.buf[from:], b}, loc, nil
}

func (a *appender) newBlockLocked(room int) *block {
	b := blocks.Get().(*block)
	if room > blockSize {
		b = &block{buf: make([]byte, 0, room)}
	}
	b.segment, b.offset, b.last = a.current, 0, false
	if a.started {
		b.offset = a.offset
	}
	b.refs.Store(1)
	a.inflight = append(a.inflight, b)
	return b
}

// pushLocked hands the block that is being filled to the writing goroutine.
func (a *appender) pushLocked() {
	if a.filling != nil {
		a.queue <- a.filling // has room for as many blocks as there can be
		a.filling = nil
	}
}

func (a *appender) endSegmentLocked() {
	if a.filling == nil {
		a.filling = a.newBlockLocked(0)
	}
	a.filling.last = true
	a.pushLocked()
	a.current++
	a.started, a.offset = false, 0
}

// readLocked returns what is at loc, and more behind it, if it has not been written yet: then there is a block, which the
// caller must wait for and release.
func (a *appender) readLocked(loc location) space {
	for _, b := range a.inflight {
		if b.segment == loc.segment && int64(loc.offset) >= b.offset && int64(loc.offset) < b.offset+int64(len(b.buf)) {
			b.refs.Add(1)
			return space{b.buf[int64(loc.offset)-b.offset:], b}
		}
	}
	return space{}
}

func (a *appender) run() {
	defer close(a.done)
	for b := range a.queue {
		b.wait()
		err := a.failure()
		if err == nil {
			err = a.write(b)
		}
		a.mu.Lock()
		if err != nil && a.err == nil {
			a.err = err
		}
		a.inflight = a.inflight[1:]
		a.changed.Broadcast()
		a.mu.Unlock()
		b.release()
	}
}

// failure returns the first error of those who write and sync in the background.
func (a *appender) failure() error {
	if err := a.sealErr.Load(); err != nil {
		return *err
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.err
}

func (a *appender) write(b *block) error {
	if a.open == nil {
		if err := a.create(b.segment); err != nil {
			return fmt.Errorf("create segment %d: %w", b.segment, err)
		}
	}
	if err := a.writeAll(b.buf); err != nil {
		return fmt.Errorf("write segment %d: %w", b.segment, err)
	}
	if !b.last {
		return nil
	}
	w, handle, n := a.open, a.handle, b.segment
	a.open, a.handle = nil, nil
	a.slots <- struct{}{}
	a.sealing.Go(func() {
		defer func() { handle.release(); <-a.slots }()
		if err := w.Seal(); err != nil {
			a.room.failedSync(err)
			err = fmt.Errorf("sync segment %d: %w", n, err)
			a.sealErr.CompareAndSwap(nil, &err)
		}
	})
	return nil
}

func (a *appender) create(n uint32) error {
	a.room.prepare()
	w, err := a.store.CreateSegment(n)
	if a.room.isMade(err) {
		w, err = a.store.CreateSegment(n)
	}
	if err != nil {
		return err
	}
	a.open, a.handle = w, a.segments.insert(n, w)
	return nil
}

// writeAll writes p to the open segment. When there is no room, what was not written follows once there is.
func (a *appender) writeAll(p []byte) error {
	if !a.room.mayUse() {
		a.room.r.retakeReserve()
	}
	n, err := a.open.Write(p)
	if n < len(p) && a.room.isMade(err) {
		var more int
		more, err = a.open.Write(p[n:])
		n += more
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err == nil {
		a.written += int64(n)
	}
	return err
}

// drain waits until all is written that was given out, and the segments that are full are durable.
func (a *appender) drain() error {
	a.mu.Lock()
	a.pushLocked()
	for len(a.inflight) > 0 {
		a.changed.Wait()
	}
	a.mu.Unlock()
	a.sealing.Wait()
	return a.failure()
}

// commit makes all that was appended durable, then the COMMIT entry behind it, and ends the appender. It returns the last
// segment. An error while the COMMIT is made durable leaves open whether it is.
func (a *appender) commit() (last uint32, err error) {
	if err := a.drain(); err != nil {
		return 0, err
	}
	a.mu.Lock()
	if !a.started {
		// Nothing has been appended since a segment ended, or at all: the COMMIT gets one of its own.
		var s space
		if s, _, err = a.reserveLocked(0); err == nil {
			s.done()
		}
	}
	a.mu.Unlock()
	if err == nil {
		err = a.drain()
	}
	if err != nil {
		return 0, err
	}
	// The COMMIT must not be on the medium before all that it commits, and the names of the segments.
	if err := a.open.Sync(); err != nil {
		a.room.failedSync(err)
		return 0, a.fail(fmt.Errorf("sync segment %d: %w", a.current, err))
	}
	if a.first != a.current {
		if err := a.store.SyncSegments(); err != nil {
			return 0, a.fail(fmt.Errorf("sync the folders of the segments: %w", err))
		}
	}
	if err := a.writeAll(segment.CommitEntry[:]); err != nil {
		return 0, a.fail(fmt.Errorf("write the commit of segment %d: %w", a.current, err))
	}
	if err := a.open.Seal(); err != nil {
		a.room.failedSync(err)
		return 0, a.fail(fmt.Errorf("sync the commit of segment %d: %w", a.current, err))
	}
	if err := a.store.SyncSegments(); err != nil {
		return 0, a.fail(fmt.Errorf("sync the folders of the segments: %w", err))
	}
	a.end()
	return a.current, nil
}

func (a *appender) fail(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
	return a.err
}

// end stops the goroutines. What was not committed stays where it is.
func (a *appender) end() {
	a.mu.Lock()
	a.pushLocked()
	a.mu.Unlock()
	close(a.queue)
	<-a.done
	a.sealing.Wait()
	if a.handle != nil {
		a.handle.release()
		a.open, a.handle = nil, nil
	}
}
