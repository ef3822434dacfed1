package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// window reads a segment in large pieces. The slices it hands out are valid until its next call.
type window struct {
	r    io.ReaderAt
	size int64 // of the segment
	buf  []byte
	off  int64 // of buf in the segment
}

const windowSize = 256 << 10

// at returns the n bytes at off, or fewer where the segment ends before.
func (w *window) at(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off >= w.off && off+int64(n) <= w.off+int64(len(w.buf)) {
		return w.buf[off-w.off:][:n], nil
	}
	want := int(min(int64(max(n, windowSize)), w.size-off))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.off = w.buf[:want], off
	if got, err := w.r.ReadAt(w.buf, off); got < want {
		w.buf = w.buf[:0]
		if err == nil || err == io.EOF {
			// The file is shorter than its size said: somebody cut it off meanwhile.
			err = fmt.Errorf("%w: file ends at byte %d of %d", ErrDamaged, off+int64(got), w.size)
		}
		return nil, err
	}
	return w.buf[:n], nil
}

// A Scanner reads the entries of a segment in their order and verifies each one's checksum. It holds at most one
// entry, or 256 KiB, in memory. It is not safe for concurrent use.
type Scanner struct {
	w     window
	next  int64
	entry Entry
	value []byte
	err   error
}

// NewScanner returns a Scanner of the segment in r, whose length in bytes is size.
func NewScanner(r io.ReaderAt, size int64) *Scanner {
	s := new(Scanner)
	s.Reset(r, size)
	return s
}

// Reset makes the Scanner begin with another segment. It keeps its buffer.
func (s *Scanner) Reset(r io.ReaderAt, size int64) {
	*s = Scanner{w: window{r: r, size: size, buf: s.w.buf[:0]}, next: -1}
}

// Scan advances to the next entry. It returns false at the end of the segment and at the first damage, which Err tells
// apart.
func (s *Scanner) Scan() bool {
	if s.err != nil {
		return false
	}
	if s.next < 0 {
		if s.err = s.magic(); s.err != nil {
			return false
		}
		s.next = int64(MagicSize)
	}
	if s.next >= s.w.size {
		return false
	}
	if s.err = s.read(s.next); s.err != nil {
		return false
	}
	s.next += int64(s.entry.Size)
	return true
}

func (s *Scanner) magic() error {
	b, err := s.w.at(0, MagicSize)
	if err != nil {
		return err
	}
	return CheckMagic(b)
}

// read parses and verifies the entry at off.
func (s *Scanner) read(off int64) error {
	b, err := s.w.at(off, KeyedSize)
	if err != nil {
		return err
	}
	e, err := ParseHeader(b)
	if err != nil {
		if newer := s.newer(b, off); newer != nil {
			err = newer
		}
		return fmt.Errorf("%w (at byte %d)", err, off)
	}
	if int64(e.Size) > s.w.size-off {
		return fmt.Errorf("%w: %v entry of %d bytes is cut off (at byte %d)", ErrDamaged, e.Tag, e.Size, off)
	}
	if b, err = s.w.at(off, e.Size); err != nil {
		return err
	}
	if !VerifyChecksum(b) {
		return fmt.Errorf("%w: checksum of %v entry does not match (at byte %d)", ErrDamaged, e.Tag, off)
	}
	e.Offset = off
	s.entry, s.value = e, nil
	if e.Tag == Put {
		s.value = b[KeyedSize:]
	}
	return nil
}

// newer returns an error if the entry at off, of which b is the header that is not known, is not one that was damaged: its
// checksum is right. The error matches ErrNewer, or is one of reading.
func (s *Scanner) newer(b []byte, off int64) error {
	if len(b) < HeaderSize {
		return nil
	}
	size, tag := int64(binary.LittleEndian.Uint32(b[4:])), Tag(b[8])
	if size < HeaderSize || size > min(MaxEntrySize, s.w.size-off) {
		return nil
	}
	b, err := s.w.at(off, int(size))
	switch {
	case errors.Is(err, ErrDamaged):
		return nil
	case err != nil:
		return err
	case VerifyChecksum(b):
		return fmt.Errorf("%w: an entry with %v and %d bytes", ErrNewer, tag, size)
	}
	return nil
}

// Newer is newer for one who has read the header of the entry at off in other ways, and found it unknown.
func Newer(r io.ReaderAt, size, off int64) error {
	s := NewScanner(r, size)
	b, err := s.w.at(off, KeyedSize)
	if err != nil {
		return nil // it is told where it is read
	}
	return s.newer(b, off)
}

// Entry returns the entry that Scan advanced to.
func (s *Scanner) Entry() Entry { return s.entry }

// Value returns the value of a PUT. It is valid until the next call of Scan or Reset and must not be changed.
func (s *Scanner) Value() []byte { return s.value }

// Offset returns where the next entry begins; after an error, where the damage begins.
func (s *Scanner) Offset() int64 { return max(s.next, 0) }

// Err returns the error that ended the scan: nil at the end of the segment, an error that matches ErrDamaged where the
// content is not as it must be, ErrNewer or ErrForeign where it is sound and not known, else what reading failed with.
func (s *Scanner) Err() error { return s.err }

// A Range is a part of a segment, in bytes.
type Range struct{ Offset, Length int64 }

// Salvage finds every entry of a damaged segment that still has a right size and checksum, in order, and the ranges
// between them that hold none. The known offsets, ascending, are where an index says that entries begin; they may be
// nil. It calls keep for each entry with its whole bytes, which are valid during the call only. A segment without a right
// magic is a range of damage too.
//
// Behind damage the next entry is looked for first where the damaged one says that it ends, then byte by byte and at
// the known offsets. What is found inside a value that happens to hold a segment's bytes cannot be told from an entry,
// so a COMMIT that is found byte by byte is not believed unless the segment ends with it.
//
// The work is bounded: a content made to look like many overlapping entries ends the search early, at the next known
// offset.
//
// An error is one of reading, or matches ErrNewer or ErrForeign; damage is no error.
func Salvage(r io.ReaderAt, size int64, known []int64, keep func(e Entry, raw []byte) error) ([]Range, error) {
	s := NewScanner(r, size)
	var bad []Range
	lost := func(from, to int64) {
		if to <= from {
			return
		}
		if n := len(bad); n > 0 && bad[n-1].Offset+bad[n-1].Length == from {
			bad[n-1].Length += to - from
			return
		}
		bad = append(bad, Range{from, to - from})
	}
	off := int64(MagicSize)
	switch err := s.magic(); {
	case err == nil:
	case isDamage(err):
		// The magic is the same in every segment, so that its loss loses nothing.
		lost(0, min(size, off))
	default:
		return nil, err
	}
	// Every byte may be summed some times over, not once for each of its neighbours.
	budget := 32*size + 1<<20
	for off < size {
		err := s.read(off)
		if err == nil {
			raw, err := s.w.at(off, s.entry.Size)
			if err != nil {
				return nil, err
			}
			if err := keep(s.entry, raw); err != nil {
				return nil, err
			}
			off += int64(s.entry.Size)
			continue
		}
		if !isDamage(err) {
			return nil, err
		}
		next, err := s.resync(off, known, &budget)
		if err != nil {
			return nil, err
		}
		lost(off, next)
		off = next
	}
	return bad, nil
}

// resync returns the offset of the first sound entry behind the damaged one at off, or the segment's size.
func (s *Scanner) resync(off int64, known []int64, budget *int64) (int64, error) {
	sound := func(at int64) (bool, error) {
		err := s.read(at)
		if err == nil {
			return true, nil
		}
		if isDamage(err) {
			return false, nil
		}
		return false, err
	}
	if b, err := s.w.at(off, KeyedSize); err != nil {
		return 0, err
	} else if e, err := ParseHeader(b); err == nil {
		end := off + int64(e.Size)
		if end == s.w.size {
			return end, nil
		}
		if end < s.w.size {
			if ok, err := sound(end); ok || err != nil {
				return end, err
			}
		}
	}
	for len(known) > 0 && known[0] <= off {
		known = known[1:]
	}
	for at := off + 1; at < s.w.size; at++ {
		isKnown := len(known) > 0 && known[0] == at
		if isKnown {
			known = known[1:]
		}
		if *budget < 0 && !isKnown {
			if len(known) == 0 {
				break
			}
			at = known[0] - 1
			continue
		}
		b, err := s.w.at(at, KeyedSize)
		if err != nil {
			return 0, err
		}
		e, err := ParseHeader(b)
		if err != nil || int64(e.Size) > s.w.size-at || e.Tag == Commit && at+HeaderSize != s.w.size {
			continue
		}
		*budget -= int64(e.Size)
		if ok, err := sound(at); ok || err != nil {
			return at, err
		}
	}
	return s.w.size, nil
}
