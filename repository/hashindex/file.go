package hashindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"garret/repository/segment"
)

// ErrDamaged is matched by every error about a table in a file that is not as it was written.
var ErrDamaged = errors.New("index is damaged")

// BlockSize is the length in bytes of the part of a file that one checksum of a [Sums] covers. The last one is shorter.
const BlockSize = 16 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sums are the checksums of a file's blocks, so that a reader of a few buckets verifies a few blocks. The zero value is
// ready to be written to.
//
// In a file they are the CRC-32C of each block, one after another, little-endian.
type Sums struct {
	Blocks []uint32
	filled int // bytes in the last block
}

// Write takes the next bytes of the file. It never fails.
func (s *Sums) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.filled == 0 {
			s.Blocks = append(s.Blocks, 0)
		}
		k := min(len(p), BlockSize-s.filled)
		last := len(s.Blocks) - 1
		s.Blocks[last] = crc32.Update(s.Blocks[last], castagnoli, p[:k])
		s.filled = (s.filled + k) % BlockSize
		p = p[k:]
	}
	return n, nil
}

// Bytes returns the checksums as they are stored.
func (s *Sums) Bytes() []byte {
	b := make([]byte, 0, 4*len(s.Blocks))
	for _, c := range s.Blocks {
		b = binary.LittleEndian.AppendUint32(b, c)
	}
	return b
}

// ParseSums reads what Bytes gave.
func ParseSums(b []byte) (*Sums, error) {
	if len(b)%4 != 0 {
		return nil, fmt.Errorf("%w: %d bytes are no list of checksums", ErrDamaged, len(b))
	}
	s := &Sums{Blocks: make([]uint32, len(b)/4)}
	for i := range s.Blocks {
		s.Blocks[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return s, nil
}

// A File is a table in a file, of which only what is asked for is read. It is safe for concurrent use.
//
// With checksums every block is verified before the first use of anything in it. Without, all that is checked is that the
// header fits the file, and no bucket should be believed that has not been through Verify.
type File struct {
	r        io.ReaderAt
	size     int64
	sums     []uint32
	verified []atomic.Uint32 // a bit a block
	buckets  int64
	entries  int
	values   int
	stride   int64
	crowds   crowds
}

// OpenFile reads the header of the table in r, which is size bytes long and must have the given number of values an
// entry. It keeps r but does not close it. The sums may be nil.
func OpenFile(r io.ReaderAt, size int64, values int, sums *Sums) (*File, error) {
	f := &File{r: r, size: size, values: values, stride: int64(segment.KeySize + 4*values)}
	if sums != nil {
		if want := (size + BlockSize - 1) / BlockSize; int64(len(sums.Blocks)) != want {
			return nil, fmt.Errorf("%w: %d checksums for %d blocks", ErrDamaged, len(sums.Blocks), want)
		}
		f.sums = sums.Blocks
		f.verified = make([]atomic.Uint32, (len(sums.Blocks)+31)/32)
	}
	var h [headerSize]byte
	if size < headerSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrDamaged, size)
	}
	if err := f.readAt(h[:], 0); err != nil {
		return nil, err
	}
	entries := int32(binary.LittleEndian.Uint32(h[8:]))
	buckets := int32(binary.LittleEndian.Uint32(h[12:]))
	f.entries, f.buckets = int(entries), int64(buckets)
	switch {
	case string(h[:8]) != magic:
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrDamaged, magic)
	case h[16] != segment.KeySize || int(h[17]) != 4*values:
		return nil, fmt.Errorf("%w: keys of %d and values of %d bytes", ErrDamaged, h[16], h[17])
	case buckets < 1 || entries < 0 || entries > buckets || size != headerSize+int64(buckets)*f.stride:
		return nil, fmt.Errorf("%w: %d entries in %d buckets do not fit %d bytes", ErrDamaged, entries, buckets, size)
	}
	return f, nil
}

// Len returns the number of entries that the header states.
func (f *File) Len() int { return f.entries }

// Buckets returns the number of buckets, which tells the size.
func (f *File) Buckets() int64 { return f.buckets }

// readAt fills p from off, after the blocks that hold it have been verified.
func (f *File) readAt(p []byte, off int64) error {
	if f.sums != nil {
		for b := off / BlockSize; b <= (off+int64(len(p))-1)/BlockSize; b++ {
			if f.verified[b/32].Load()&(1<<(b%32)) == 0 {
				if err := f.verify(b); err != nil {
					return err
				}
			}
		}
	}
	n, err := f.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: it ends at byte %d of %d", ErrDamaged, off+int64(n), f.size)
	}
	return err
}

func (f *File) verify(b int64) error {
	var buf [BlockSize]byte
	p := buf[:min(BlockSize, f.size-b*BlockSize)]
	if n, err := f.r.ReadAt(p, b*BlockSize); n < len(p) {
		if err == nil || err == io.EOF {
			err = fmt.Errorf("%w: it ends in block %d", ErrDamaged, b)
		}
		return err
	}
	if crc32.Checksum(p, castagnoli) != f.sums[b] {
		return fmt.Errorf("%w: checksum of block %d does not match", ErrDamaged, b)
	}
	f.verified[b/32].Or(1 << (b % 32))
	return nil
}

// probe is how many buckets a lookup reads at a time: what a table at its fullest needs on average, within one block as
// a rule.
const probe = 4

// probes holds buffers for lookups, with room for the largest buckets there are.
var probes = sync.Pool{New: func() any { return new([probe * (segment.KeySize + 4*3)]byte) }}

// Lookup copies the values of id to v and reports whether there are any.
func (f *File) Lookup(id segment.ID, v []uint32) (bool, error) {
	found, _, err := f.lookup(id, v)
	return found, err
}

// lookup also returns how many buckets it looked at.
func (f *File) lookup(id segment.ID, v []uint32) (found bool, probed int64, err error) {
	i := f.slot(id)
	if c := f.crowds.at(i, f.buckets); c != nil {
		return c.lookup(id, v[:f.values]), 1, nil
	}
	room := probes.Get().(*[probe * (segment.KeySize + 4*3)]byte)
	defer probes.Put(room)
	for probed < f.buckets {
		if probed > crowded {
			c, err := f.crowd(f.slot(id))
			if err != nil {
				return false, probed, err
			}
			return c.lookup(id, v[:f.values]), probed + c.end - c.start, nil
		}
		n := min(probe, f.buckets-i)
		buf := room[:n*f.stride]
		if err := f.readAt(buf, headerSize+i*f.stride); err != nil {
			return false, probed, err
		}
		for b := buf; len(b) > 0; b = b[f.stride:] {
			first := binary.LittleEndian.Uint32(b[segment.KeySize:])
			if first == empty {
				return false, probed, nil
			}
			if first != deleted && segment.ID(b) == id {
				f.load(b, v)
				return true, probed, nil
			}
		}
		probed += n
		i = (i + n) % f.buckets
	}
	return false, probed, nil
}

// slot returns the bucket that a key belongs in.
func (f *File) slot(id segment.ID) int64 { return int64(binary.LittleEndian.Uint32(id[:])) % f.buckets }

// load copies the values of a bucket to v.
func (f *File) load(bucket []byte, v []uint32) {
	for k := range f.values {
		v[k] = binary.LittleEndian.Uint32(bucket[segment.KeySize+4*k:])
	}
}

// Position returns the bucket of id, for Scan to go on behind it, or -1 if it is not there.
func (f *File) Position(id segment.ID) (int64, error) {
	i := f.slot(id)
	b := make([]byte, f.stride)
	for probed := range f.buckets {
		if probed > crowded {
			c, err := f.crowd(f.slot(id))
			if err != nil {
				return -1, err
			}
			if e, ok := c.entries[id]; ok {
				return e.bucket, nil
			}
			return -1, nil
		}
		if err := f.readAt(b, headerSize+i*f.stride); err != nil {
			return -1, err
		}
		switch first := binary.LittleEndian.Uint32(b[segment.KeySize:]); {
		case first == empty:
			return -1, nil
		case first != deleted && segment.ID(b) == id:
			return i, nil
		}
		i = (i + 1) % f.buckets
	}
	return -1, nil
}

// Scan calls yield with each entry from the given bucket on, in the order of the buckets, until it returns false. The
// values are valid during the call only.
func (f *File) Scan(from int64, yield func(id segment.ID, v []uint32) bool) error {
	v := make([]uint32, f.values)
	return f.walk(from, f.buckets, func(_ int64, b []byte) bool {
		if binary.LittleEndian.Uint32(b[segment.KeySize:]) >= deleted {
			return true
		}
		f.load(b, v)
		return yield(segment.ID(b), v)
	})
}

// Verify reads the whole table and checks what can be checked without checksums: as many entries as the header says, and
// each one found where it is by a lookup: before an empty bucket, and before another of the same key, whatever its values.
func (f *File) Verify() error {
	entries, err := 0, error(nil)
	scanErr := f.walk(0, f.buckets, func(at int64, b []byte) bool {
		if binary.LittleEndian.Uint32(b[segment.KeySize:]) >= deleted {
			return true
		}
		entries++
		id := segment.ID(b)
		var found int64
		if found, err = f.Position(id); err == nil && found != at {
			err = fmt.Errorf("%w: key %v is out of place", ErrDamaged, id)
		}
		return err == nil
	})
	switch {
	case scanErr != nil:
		return scanErr
	case err != nil:
		return err
	case entries != f.entries:
		return fmt.Errorf("%w: it has %d entries and states %d", ErrDamaged, entries, f.entries)
	}
	return nil
}
