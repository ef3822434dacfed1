// Package hashindex is the hash table of Attic, in memory and as a file: keys of 32 bytes to a few 32-bit values. A
// repository's index is one with two values (segment and offset).
//
// All integers are little-endian.
//
//	file     header | bucket 0 | bucket 1 | ...
//
//	header   +------------+-----------------+-----------------+-------------+---------------+
//	         | "ATTICIDX" | num_entries i32 | num_buckets i32 | key_size i8 | value_size i8 |
//	         +------------+-----------------+-----------------+-------------+---------------+
//	          0            8                 12                16 (= 32)     17               18
//
//	bucket   key [32] | value u32 | value u32 ...       the first value tells an empty bucket (0xffffffff) and a
//	                                                    deleted one (0xfffffffe)
//
// A key belongs in bucket u32(key[0:4]) % num_buckets, or the next one that is free (linear probing, around the end). A
// table grows to twice its buckets before an insertion when more than 0.9 of them are in use, and shrinks to half after a
// deletion when less than 0.25 are, but never below 1024. A lookup that passed a deleted bucket moves what it finds there.
package hashindex

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	"garret/repository/segment"
)

// The wire format.
const (
	magic      = "ATTICIDX"
	headerSize = 18

	// MinBuckets is how many buckets a table has at least.
	MinBuckets = 1024

	empty   = 0xffffffff
	deleted = 0xfffffffe

	// MaxValue is the largest first value that an entry can have.
	MaxValue = 0xfffffffd
)

// A Table is a hash table in memory. It behaves as the reference implementation's does to the bit: the same operations
// give the same file. It is not safe for concurrent use.
type Table struct {
	buckets []byte
	n       int // buckets
	entries int
	values  int      // u32 per entry
	stride  int      // bytes per bucket
	free    []uint32 // of a table that is built by Add: leads from a bucket to the next one that is free
}

// New returns an empty table whose entries have the given number of 32-bit values, at most 3.
func New(values int) *Table { return newTable(values, MinBuckets) }

// NewSized returns an empty table that takes the given number of entries without growing, with short probes.
//
// How many buckets it has is random within bounds. Whoever chooses what is stored can choose where its keys belong in a
// table of known size, all next to each other, and make lookups as slow as a search; but not in a table of unknown size,
// unless the first four bytes of the keys are the same, and each such key costs four thousand million attempts. The
// reference takes any number of buckets.
func NewSized(values, entries int) *Table { return newSized(values, entries, MinBuckets) }

// NewSmall is NewSized of a table that may be smaller than the reference makes them, for files that it does not read.
func NewSmall(values, entries int) *Table { return newSized(values, entries, 16) }

// newSized makes a table of at least n buckets. One with more has 0.6 to 0.75 of them in use.
func newSized(values, entries, n int) *Table {
	if least := entries + entries/3 + 1; least > n {
		n = least + rand.IntN(least/4+1) | 1
	}
	return newTable(values, n)
}

func newTable(values, n int) *Table {
	t := &Table{n: n, values: values, stride: segment.KeySize + 4*values}
	t.buckets = make([]byte, n*t.stride)
	for i := range n {
		t.setFirst(i, empty)
	}
	return t
}

// Len returns the number of entries.
func (t *Table) Len() int { return t.entries }

func (t *Table) bucket(i int) []byte { return t.buckets[i*t.stride:][:t.stride] }

func (t *Table) first(i int) uint32 {
	return binary.LittleEndian.Uint32(t.buckets[i*t.stride+segment.KeySize:])
}

func (t *Table) setFirst(i int, v uint32) {
	binary.LittleEndian.PutUint32(t.buckets[i*t.stride+segment.KeySize:], v)
}

func slot(id segment.ID, n int) int { return int(binary.LittleEndian.Uint32(id[:]) % uint32(n)) }

// find returns the bucket of id, or -1. What lies behind a deleted bucket is moved into it.
func (t *Table) find(id segment.ID) int {
	hole := -1
	for i, probed := slot(id, t.n), 0; probed < t.n; i, probed = (i+1)%t.n, probed+1 {
		switch t.first(i) {
		case empty:
			return -1
		case deleted:
			if hole < 0 {
				hole = i
			}
		default:
			if segment.ID(t.bucket(i)) == id {
				if hole >= 0 {
					copy(t.bucket(hole), t.bucket(i))
					t.setFirst(i, deleted)
					return hole
				}
				return i
			}
		}
	}
	return -1
}

// Get copies the values of id to v, which must be as long as the table's entries have values, and reports whether there
// are any.
func (t *Table) Get(id segment.ID, v []uint32) bool {
	i := t.find(id)
	if i < 0 {
		return false
	}
	t.load(i, v)
	return true
}

func (t *Table) load(i int, v []uint32) {
	b := t.bucket(i)[segment.KeySize:]
	for k := range t.values {
		v[k] = binary.LittleEndian.Uint32(b[4*k:])
	}
}

// Set stores the values of id, in place of those that it had. The first must not be above MaxValue.
func (t *Table) Set(id segment.ID, v ...uint32) {
	i := t.find(id)
	if i < 0 {
		if t.entries > int(float64(t.n)*0.90) {
			t.resize(t.n * 2)
		}
		for i = slot(id, t.n); t.first(i) < deleted; {
			i = (i + 1) % t.n
		}
		copy(t.bucket(i), id[:])
		t.entries++
	}
	b := t.bucket(i)[segment.KeySize:]
	for k := range t.values {
		binary.LittleEndian.PutUint32(b[4*k:], v[k])
	}
}

// Add stores the values of an id that is not in the table. A table that is filled by Add alone, with as many entries as it
// was made for, is filled in time that is linear in their number, whatever the ids are.
func (t *Table) Add(id segment.ID, v ...uint32) {
	if t.free == nil {
		t.free = make([]uint32, t.n)
		for i := range t.free {
			t.free[i] = uint32(i)
		}
	}
	i := t.nextFree(slot(id, t.n))
	t.free[i] = uint32((i + 1) % t.n)
	copy(t.bucket(i), id[:])
	t.entries++
	b := t.bucket(i)[segment.KeySize:]
	for k := range t.values {
		binary.LittleEndian.PutUint32(b[4*k:], v[k])
	}
}

// nextFree returns the first free bucket from i on, and makes the way there shorter for the next time.
func (t *Table) nextFree(i int) int {
	for int(t.free[i]) != i {
		t.free[i] = t.free[t.free[i]]
		i = int(t.free[i])
	}
	return i
}

// Delete removes id and reports whether it was there.
func (t *Table) Delete(id segment.ID) bool {
	i := t.find(id)
	if i < 0 {
		return false
	}
	t.setFirst(i, deleted)
	t.entries--
	if t.n > MinBuckets && t.entries < int(float64(t.n)*0.25) {
		t.resize(t.n / 2)
	}
	return true
}

func (t *Table) resize(n int) {
	old := *t
	*t = *newTable(old.values, n)
	v := make([]uint32, old.values)
	for i := range old.n {
		if old.first(i) < deleted {
			old.load(i, v)
			t.Set(segment.ID(old.bucket(i)), v...)
		}
	}
}

// WriteTo writes the table in the format of the file.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	if t.n > 1<<31-1 {
		return 0, fmt.Errorf("hash table of %d buckets is too large for its format", t.n)
	}
	var h [headerSize]byte
	copy(h[:], magic)
	binary.LittleEndian.PutUint32(h[8:], uint32(t.entries))
	binary.LittleEndian.PutUint32(h[12:], uint32(t.n))
	h[16], h[17] = segment.KeySize, byte(4*t.values)
	n, err := w.Write(h[:])
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(t.buckets)
	return int64(n + m), err
}
