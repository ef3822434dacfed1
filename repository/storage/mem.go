package storage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A Mem is a Storage in memory, for tests: it knows what would be left of it after a power failure. The zero value is
// an empty one.
type Mem struct {
	// Hook, if not nil, is called before each operation that changes something, and fails it by an error. It must be set
	// before the Mem is used and must not call it.
	Hook func(op string) error

	mu       sync.Mutex
	segments names[uint32]
	files    names[string]
	locks    map[*memLock]bool // to whether it is exclusive
	limit    int64
	limited  bool
	late     bool
	reserve  int64
}

// fileCost is what a file takes beside its bytes where room is limited.
const fileCost = 64

// Limit lets no more than n bytes find room, each file counted with 64 bytes more, and the reserve. Where there are more
// already, none does. What has no room fails with ENOSPC when it is written, the part before it being there, or, if late,
// when it is synced. A negative n ends the limit.
func (m *Mem) Limit(n int64, late bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit, m.limited, m.late = n, n >= 0, late
}

// Used returns how many bytes of a limit are taken.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usedLocked()
}

func (m *Mem) usedLocked() int64 { return m.segments.used() + m.files.used() + m.reserve }

func (n *names[K]) used() (sum int64) {
	for _, f := range n.now {
		sum += fileCost + int64(len(f.data))
	}
	return sum
}

// roomLocked returns how many of n bytes more find room.
func (m *Mem) roomLocked(n int64) int64 {
	if !m.limited {
		return n
	}
	return max(0, min(n, m.limit-m.usedLocked()))
}

// full is the error of an operation that finds no room.
func full(op string) error { return fmt.Errorf("%s: %w", op, syscall.ENOSPC) }

// Reserve implements Storage.
func (m *Mem) Reserve(least, most int64) (kept int64, err error) {
	err = m.change("reserve room", func() error {
		if m.reserve < least || m.reserve > most {
			m.reserve = 0
			m.reserve = m.roomLocked(least + (most-least)/2)
		}
		kept = m.reserve
		return nil
	})
	return kept, err
}

// Release implements Storage.
func (m *Mem) Release(enough int64) (released bool, err error) {
	err = m.change("release the reserve", func() error {
		if m.reserve > 0 && (enough == math.MaxInt64 || m.roomLocked(enough) < enough) {
			m.reserve, released = 0, true
		}
		return nil
	})
	return released, err
}

// names are the entries of a folder, as they are and as they are on the medium.
type names[K comparable] struct{ now, durable map[K]*node }

func (n *names[K]) set(name K, to *node) {
	if n.now == nil {
		n.now, n.durable = map[K]*node{}, map[K]*node{}
	}
	if to == nil {
		delete(n.now, name)
	} else {
		n.now[name] = to
	}
}

func (n *names[K]) sync() { n.durable = maps.Clone(n.now) }

// node is the content of a file, of which the first synced bytes are on the medium.
type node struct {
	data    []byte
	synced  int
	written time.Time // last
}

// sector is what a disk writes as a whole.
const sector = 512

// Crash returns what could be left after a power failure now. What was synced is there. Of the rest rng decides: names
// made or removed since are there or not, and content is lost, cut off, zeroed or garbage by sectors, or kept. Without an
// rng all that was not synced is lost.
func (m *Mem) Crash(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := &Mem{segments: crash(m.segments, rng), files: crash(m.files, rng)}
	left.limit, left.limited, left.late = m.limit, m.limited, m.late
	if rng != nil && rng.IntN(2) == 0 {
		left.reserve = m.reserve
	}
	return left
}

func crash[K cmp.Ordered](n names[K], rng *rand.Rand) names[K] {
	left := names[K]{map[K]*node{}, map[K]*node{}}
	all := maps.Clone(n.now)
	if all == nil {
		all = map[K]*node{}
	}
	maps.Copy(all, n.durable)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		survivor := n.durable[name]
		if rng != nil && rng.IntN(2) == 0 {
			survivor = n.now[name]
		}
		if survivor == nil {
			continue
		}
		data := survivor.crash(rng)
		left.now[name] = &node{data: data, synced: len(data), written: survivor.written}
	}
	left.sync()
	return left
}

func (n *node) crash(rng *rand.Rand) []byte {
	data := bytes.Clone(n.data)
	if rng == nil {
		return data[:n.synced]
	}
	if rng.IntN(3) == 0 {
		return data // the disk was fast
	}
	if rng.IntN(2) == 0 {
		data = data[:n.synced+rng.IntN(len(data)-n.synced+1)]
	}
	for from := n.synced; from < len(data); {
		to := min(len(data), from-from%sector+sector)
		switch rng.IntN(3) {
		case 0:
			clear(data[from:to])
		case 1:
			for i := from; i < to; i++ {
				data[i] = byte(rng.Uint32())
			}
		}
		from = to
	}
	return data
}

// Clone returns a copy of what is there now, all of it durable, without limit.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Mem{segments: m.segments.clone(), files: m.files.clone()}
}

func (n names[K]) clone() names[K] {
	c := names[K]{map[K]*node{}, map[K]*node{}}
	for name, f := range n.now {
		c.now[name] = &node{data: bytes.Clone(f.data), synced: len(f.data), written: f.written}
	}
	c.sync()
	return c
}

// change runs f under the lock, unless the hook fails op.
func (m *Mem) change(op string, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Hook != nil {
		if err := m.Hook(op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return f()
}

func missing(op string, name any) error {
	return &fs.PathError{Op: op, Path: fmt.Sprint(name), Err: fs.ErrNotExist}
}

func (m *Mem) String() string { return "memory" }

// SetSegmentsPerFolder implements Storage.
func (m *Mem) SetSegmentsPerFolder(uint32) {}

// Segments implements Storage.
func (m *Mem) Segments(after int64) ([]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ns []uint32
	for n := range m.segments.now {
		if int64(n) > after {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// CreateSegment implements Storage.
func (m *Mem) CreateSegment(n uint32) (Writer, error) {
	f := &node{written: time.Now()}
	err := m.change(fmt.Sprintf("create segment %d", n), func() error {
		if m.segments.now[n] != nil {
			return &fs.PathError{Op: "create", Path: fmt.Sprint(n), Err: fs.ErrExist}
		}
		if m.roomLocked(fileCost) < fileCost {
			return full(fmt.Sprintf("create segment %d", n))
		}
		m.segments.set(n, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, node: f, name: fmt.Sprintf("segment %d", n)}, nil
}

// OpenSegment implements Storage.
func (m *Mem) OpenSegment(n uint32) (Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.segments.now[n]
	if f == nil {
		return nil, missing("open segment", n)
	}
	return &memFile{m: m, node: f, size: int64(len(f.data))}, nil
}

// SegmentTime implements Storage.
func (m *Mem) SegmentTime(n uint32) (time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.segments.now[n]
	if f == nil {
		return time.Time{}, missing("look at segment", n)
	}
	return f.written, nil
}

// ReplaceSegment implements Storage.
func (m *Mem) ReplaceSegment(n uint32, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return m.change(fmt.Sprintf("replace segment %d", n), func() error {
		old := m.segments.now[n]
		if old == nil {
			return missing("replace segment", n)
		}
		if need := fileCost + int64(b.Len()); m.roomLocked(need) < need {
			return full(fmt.Sprintf("replace segment %d", n))
		}
		aside := fmt.Sprintf("%d.beforerecover", n)
		for i := 2; m.files.now[aside] != nil; i++ {
			aside = fmt.Sprintf("%d.beforerecover.%d", n, i)
		}
		m.files.set(aside, old)
		m.files.durable[aside] = old
		f := &node{data: b.Bytes(), synced: b.Len(), written: time.Now()}
		m.segments.set(n, f)
		m.segments.durable[n] = f
		return nil
	})
}

// SyncSegment implements Storage.
func (m *Mem) SyncSegment(n uint32) error {
	return m.change(fmt.Sprintf("sync segment %d", n), func() error {
		f := m.segments.now[n]
		if f == nil {
			return missing("sync segment", n)
		}
		f.synced = len(f.data)
		return nil
	})
}

// RemoveSegment implements Storage.
func (m *Mem) RemoveSegment(n uint32) error {
	return m.change(fmt.Sprintf("remove segment %d", n), func() error {
		if m.segments.now[n] == nil {
			return missing("remove segment", n)
		}
		m.segments.set(n, nil)
		return nil
	})
}

// SyncSegments implements Storage.
func (m *Mem) SyncSegments() error {
	return m.change("sync segments", func() error {
		m.segments.sync()
		return nil
	})
}

// Files implements Storage.
func (m *Mem) Files() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files.now)), nil
}

// OpenFile implements Storage.
func (m *Mem) OpenFile(name string) (Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files.now[name]
	if f == nil {
		return nil, missing("open", name)
	}
	return &memFile{m: m, node: f, size: int64(len(f.data))}, nil
}

// WriteFile implements Storage.
func (m *Mem) WriteFile(name string, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	f := &node{data: b.Bytes(), synced: b.Len(), written: time.Now()}
	if err := m.change(fmt.Sprintf("write and sync file %q", name+tempSuffix), func() error {
		// While it is written, the old one is still there.
		if need := fileCost + int64(b.Len()); m.roomLocked(need) < need {
			return full(fmt.Sprintf("write file %q", name))
		}
		return nil
	}); err != nil {
		return err
	}
	if err := m.change(fmt.Sprintf("rename file %q", name), func() error {
		m.files.set(name, f)
		return nil
	}); err != nil {
		return err
	}
	return m.change("sync files", func() error {
		m.files.sync()
		return nil
	})
}

// RemoveFile implements Storage.
func (m *Mem) RemoveFile(name string) error {
	return m.change(fmt.Sprintf("remove file %q", name), func() error {
		if m.files.now[name] == nil {
			return missing("remove", name)
		}
		m.files.set(name, nil)
		return nil
	})
}

// Damage calls change with the content of a segment, or of a named file if the segment is negative, and puts what it
// returns in its place; nil removes it.
func (m *Mem) Damage(segment int64, name string, change func([]byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if segment >= 0 {
		damage(&m.segments, uint32(segment), change)
	} else {
		damage(&m.files, name, change)
	}
}

func damage[K comparable](n *names[K], name K, change func([]byte) []byte) {
	var old []byte
	if f := n.now[name]; f != nil {
		old = f.data
	}
	var f *node
	if data := change(bytes.Clone(old)); data != nil {
		f = &node{data: data, synced: len(data), written: time.Now()}
	}
	n.set(name, f)
	n.sync()
}

// memFile is an open segment or named file.
type memFile struct {
	m    *Mem
	node *node
	name string
	size int64
}

func (f *memFile) Size() int64  { return f.size }
func (f *memFile) Close() error { return nil }

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return bytes.NewReader(f.node.data).ReadAt(p, off)
}

func (f *memFile) Write(p []byte) (n int, err error) {
	err = f.m.change("write "+f.name, func() error {
		n = len(p)
		if !f.m.late {
			n = int(f.m.roomLocked(int64(n)))
		}
		f.node.data, f.node.written = append(f.node.data, p[:n]...), time.Now()
		f.size += int64(n)
		if n < len(p) {
			return full("write " + f.name)
		}
		return nil
	})
	return n, err
}

func (f *memFile) Sync() error {
	return f.m.change("sync "+f.name, func() error {
		if f.m.late && f.m.limited && f.m.usedLocked() > f.m.limit {
			return full("sync " + f.name)
		}
		f.node.synced = len(f.node.data)
		return nil
	})
}

func (f *memFile) Seal() error { return f.Sync() }

// memLock is a lock on a Mem.
type memLock struct{ m *Mem }

// Lock implements Storage.
func (m *Mem) Lock(ctx context.Context, exclusive bool, wait time.Duration) (Lock, error) {
	l := &memLock{m}
	if err := l.take(ctx, exclusive, wait); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *memLock) take(ctx context.Context, exclusive bool, wait time.Duration) error {
	ok, err := poll(ctx, wait, func() (bool, error) {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		for other, ex := range l.m.locks {
			if other != l && (ex || exclusive) {
				return false, nil
			}
		}
		if l.m.locks == nil {
			l.m.locks = map[*memLock]bool{}
		}
		l.m.locks[l] = exclusive
		return true, nil
	})
	if err == nil && !ok {
		err = &LockedError{Place: l.m.String(), Holder: "this process"}
	}
	return err
}

func (l *memLock) Upgrade(ctx context.Context, wait time.Duration) error {
	return l.take(ctx, true, wait)
}

func (l *memLock) Downgrade() error { return l.take(context.Background(), false, 0) }
func (l *memLock) Writable() bool   { return true }

func (l *memLock) Unlock() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l)
	return nil
}
