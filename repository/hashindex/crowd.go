package hashindex

import (
	"encoding/binary"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"garret/repository/segment"
)

// crowded is how many buckets a lookup passes before it takes them for a crowd. In tables of this program that happens only
// to who has chosen keys for it; in those of the reference also where many entries were deleted, for it never makes their
// buckets empty again.
const crowded = 512

// A crowd is a run of buckets of which none is empty, too long to be searched for each lookup. It is read once, and what is
// in it kept in a map, whose hash nobody outside can know. So a lookup is linear at most once for each crowd, and what is
// kept is no more than what it takes to make a table anew.
type crowd struct {
	start, end int64 // the end may lie behind the last bucket: then it goes on with the first one
	entries    map[segment.ID]crowdEntry
}

type crowdEntry struct {
	values   [3]uint32
	bucket   int64
	distance int64 // from the bucket that the key belongs in
}

// lookup copies the values of id to v and reports whether there are any.
func (c *crowd) lookup(id segment.ID, v []uint32) bool {
	e, ok := c.entries[id]
	if ok {
		copy(v, e.values[:])
	}
	return ok
}

// crowds are those of a file that were come upon, by their starts. They are read without a lock.
type crowds struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*crowd]
}

// at returns the crowd that has a bucket, or nil if none is known.
func (c *crowds) at(bucket, buckets int64) *crowd {
	p := c.list.Load()
	if p == nil {
		return nil
	}
	list := *p
	if i := sort.Search(len(list), func(i int) bool { return list[i].start > bucket }) - 1; i >= 0 && bucket < list[i].end {
		return list[i]
	}
	if last := list[len(list)-1]; bucket+buckets < last.end {
		return last
	}
	return nil
}

// crowd returns the crowd that a bucket is in, which must not be empty.
func (f *File) crowd(bucket int64) (*crowd, error) {
	f.crowds.mu.Lock()
	defer f.crowds.mu.Unlock()
	if c := f.crowds.at(bucket, f.buckets); c != nil {
		return c, nil
	}
	c := &crowd{start: bucket, entries: map[segment.ID]crowdEntry{}}
	var err error
	if c.end, err = f.firstEmpty(bucket); err != nil {
		return nil, err
	}
	if c.end < bucket+f.buckets {
		if c.start, err = f.afterLastEmpty(bucket); err != nil {
			return nil, err
		}
		if c.start > bucket {
			c.end += f.buckets // it begins before the end of the table
		}
	}
	if err := f.fillCrowd(c); err != nil {
		return nil, err
	}
	var list []*crowd
	if p := f.crowds.list.Load(); p != nil {
		list = *p
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].start > c.start })
	list = slices.Insert(slices.Clone(list), i, c)
	f.crowds.list.Store(&list)
	return c, nil
}

// firstEmpty returns the first empty bucket from a bucket on, plus the number of buckets if it lies before that, or the
// bucket itself plus the number of buckets if there is none.
func (f *File) firstEmpty(bucket int64) (int64, error) {
	end := bucket + f.buckets
	err := f.walk(bucket, end, func(i int64, b []byte) bool {
		if binary.LittleEndian.Uint32(b[segment.KeySize:]) == empty {
			end = i
		}
		return end != i
	})
	return end, err
}

// afterLastEmpty returns the bucket behind the last empty one before a bucket, which may lie behind it, around the end. There
// must be one.
func (f *File) afterLastEmpty(bucket int64) (int64, error) {
	for to := bucket + f.buckets; to > bucket; to -= batch {
		start := int64(-1)
		err := f.walk(max(to-batch, bucket), to, func(i int64, b []byte) bool {
			if binary.LittleEndian.Uint32(b[segment.KeySize:]) == empty {
				start = i + 1
			}
			return true
		})
		if err != nil || start >= 0 {
			return start % f.buckets, err
		}
	}
	return bucket, nil
}

// fillCrowd reads the entries of a crowd: of each key the first one from the bucket on that it belongs in, as a search
// would find it.
func (f *File) fillCrowd(c *crowd) error {
	isFull := c.end-c.start == f.buckets
	return f.walk(c.start, c.end, func(i int64, b []byte) bool {
		if binary.LittleEndian.Uint32(b[segment.KeySize:]) >= deleted {
			return true
		}
		id := segment.ID(b)
		e := crowdEntry{bucket: i % f.buckets}
		e.distance = (e.bucket - f.slot(id) + f.buckets) % f.buckets
		f.load(b, e.values[:])
		old, known := c.entries[id]
		if (isFull || e.distance <= i-c.start) && (!known || e.distance < old.distance) {
			c.entries[id] = e
		}
		return true
	})
}

// batch is how many buckets are read at a time where many are.
const batch = 400

// walk calls yield with the buckets from from up to to, which may be behind the last one and then stands for one around the
// end, until it returns false.
func (f *File) walk(from, to int64, yield func(i int64, bucket []byte) bool) error {
	buf := make([]byte, batch*f.stride)
	for from < to {
		at := from % f.buckets
		n := min(batch, f.buckets-at, to-from)
		b := buf[:n*f.stride]
		if err := f.readAt(b, headerSize+at*f.stride); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[f.stride:] {
			if !yield(from, b[:f.stride]) {
				return nil
			}
			from++
		}
	}
	return nil
}
