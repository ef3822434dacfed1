// Package segment is the format of the log: how the entries of a segment lie in a file. It does no file access of its
// own.
//
// A segment is a magic and then entries, one after another, to the end of the file. All integers are little-endian.
//
//	segment   "ATTICSEG" | entry | entry | ...
//
//	entry     +-----------+----------+--------+----------------------+---------------------+
//	          | crc32 u32 | size u32 | tag u8 | key [32]             | value [size-41]     |
//	          +-----------+----------+--------+----------------------+---------------------+
//	           0           4          8        9 (PUT, DELETE only)   41 (PUT only)
//
//	tag       0 PUT      size = 41 + length of the value
//	          1 DELETE   size = 41
//	          2 COMMIT   size = 9
//
//	crc32     IEEE polynomial, over everything after the crc32 field: size, tag, key and value
//	limit     size <= 20 MiB (20*1024*1024)
//
// A segment is committed if its last 9 bytes are a COMMIT entry.
//
// The format is that of Attic's repository, version 1.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
)

// The wire format.
const (
	Magic        = "ATTICSEG"
	MagicSize    = len(Magic)
	HeaderSize   = 9                    // crc32, size and tag: a whole COMMIT
	KeyedSize    = HeaderSize + KeySize // with the key: a whole DELETE, and a PUT before its value
	MaxEntrySize = 20 << 20             // the largest size an entry may state
	MaxValueSize = MaxEntrySize - KeyedSize
)

// Tag is an entry's kind.
type Tag uint8

// The tags of the wire format.
const (
	Put    Tag = 0
	Delete Tag = 1
	Commit Tag = 2
)

func (t Tag) String() string {
	switch t {
	case Put:
		return "PUT"
	case Delete:
		return "DELETE"
	case Commit:
		return "COMMIT"
	}
	return fmt.Sprintf("tag %d", uint8(t))
}

// CommitEntry is the one form that a COMMIT entry has.
var CommitEntry = func() (e [HeaderSize]byte) {
	binary.LittleEndian.PutUint32(e[4:], HeaderSize)
	e[8] = byte(Commit)
	binary.LittleEndian.PutUint32(e[:], crc32.ChecksumIEEE(e[4:]))
	return e
}()

var (
	// ErrDamaged is matched by every error about an entry or a segment that is not as the format demands.
	ErrDamaged = errors.New("segment is damaged")
	// ErrNewer is matched by every error about an entry whose checksum is right and whose tag is not known: a later version
	// of this program has written it.
	ErrNewer = errors.New("made by a newer garret")
	// ErrForeign is matched by every error about a segment that begins as those of another program do.
	ErrForeign = errors.New("made by another program")
)

// BorgMagic is what segments of Borg's repositories, of version 1, begin with. The entries behind it are not all the same.
const BorgMagic = "BORG_SEG"

// CheckMagic returns an error if a segment, of which b are the first MagicSize bytes or all there are, does not begin as it
// must. It matches ErrForeign if it begins as another program's, else ErrDamaged.
func CheckMagic(b []byte) error {
	switch string(b) {
	case Magic:
		return nil
	case BorgMagic:
		return fmt.Errorf("%w: it is a segment of Borg's", ErrForeign)
	}
	return fmt.Errorf("%w: it does not begin with %q", ErrDamaged, Magic)
}

// An Entry is one record of a segment. Its value, if it has one, is not part of it.
type Entry struct {
	Tag    Tag
	ID     ID    // zero for a COMMIT
	Offset int64 // of the entry's first byte in the segment
	Size   int   // of the whole entry, in bytes
}

// PutHeader returns the first KeyedSize bytes of a PUT entry, to be followed by the value. The value must not be longer
// than MaxValueSize.
func PutHeader(id ID, value []byte) (h [KeyedSize]byte) {
	binary.LittleEndian.PutUint32(h[4:], uint32(KeyedSize+len(value)))
	h[8] = byte(Put)
	copy(h[9:], id[:])
	binary.LittleEndian.PutUint32(h[:], crc32.Update(crc32.ChecksumIEEE(h[4:]), crc32.IEEETable, value))
	return h
}

// DeleteEntry returns a whole DELETE entry.
func DeleteEntry(id ID) (e [KeyedSize]byte) {
	binary.LittleEndian.PutUint32(e[4:], KeyedSize)
	e[8] = byte(Delete)
	copy(e[9:], id[:])
	binary.LittleEndian.PutUint32(e[:], crc32.ChecksumIEEE(e[4:]))
	return e
}

// ParseHeader reads the fixed part of an entry, and its key if the entry has one and b is long enough to hold it. It
// checks that tag and size belong together; the checksum is not looked at, so what it returns is not to be trusted
// beyond that.
func ParseHeader(b []byte) (Entry, error) {
	if len(b) < HeaderSize {
		return Entry{}, fmt.Errorf("%w: entry header is cut off after %d bytes", ErrDamaged, len(b))
	}
	size := binary.LittleEndian.Uint32(b[4:])
	e := Entry{Tag: Tag(b[8])}
	var ok bool
	switch e.Tag {
	case Put:
		ok = size >= KeyedSize && size <= MaxEntrySize
	case Delete:
		ok = size == KeyedSize
	case Commit:
		ok = size == HeaderSize
	default:
		return Entry{}, fmt.Errorf("%w: entry has unknown tag %d", ErrDamaged, b[8])
	}
	if !ok {
		return Entry{}, fmt.Errorf("%w: %v entry states a size of %d bytes", ErrDamaged, e.Tag, size)
	}
	e.Size = int(size)
	if e.Tag != Commit && len(b) >= KeyedSize {
		e.ID = ID(b[HeaderSize:KeyedSize])
	}
	return e, nil
}

// VerifyChecksum reports whether the checksum of the whole entry b is right.
func VerifyChecksum(b []byte) bool {
	return len(b) >= HeaderSize && crc32.ChecksumIEEE(b[4:]) == binary.LittleEndian.Uint32(b)
}

// VerifyParts is VerifyChecksum of an entry whose header and value lie apart.
func VerifyParts(header *[KeyedSize]byte, value []byte) bool {
	crc := crc32.Update(crc32.ChecksumIEEE(header[4:]), crc32.IEEETable, value)
	return crc == binary.LittleEndian.Uint32(header[:])
}

// Ending is how a segment ends.
type Ending int

// The endings.
const (
	EndsOpen      Ending = iota // without a COMMIT
	EndsCommitted               // with a COMMIT
	EndsDamaged                 // with a COMMIT of which some bits are wrong, and not as an interrupted write leaves it
)

// End returns how a segment of the given size ends. A COMMIT that was cut short by a crash is EndsOpen: its beginning, or
// zeros in place of the rest, or anything in place of the part of it that lies in another sector of the disk.
func End(r io.ReaderAt, size int64) (Ending, error) {
	if size < int64(MagicSize+HeaderSize) {
		return EndsOpen, nil
	}
	var tail [HeaderSize]byte
	if n, err := r.ReadAt(tail[:], size-HeaderSize); n < len(tail) {
		if err == io.EOF {
			return EndsOpen, nil
		}
		return EndsOpen, err
	}
	if tail == CommitEntry {
		return EndsCommitted, nil
	}
	wrong, right := 0, 0 // bits; bytes at the beginning
	for i, b := range tail {
		wrong += bits.OnesCount8(b ^ CommitEntry[i])
		if wrong == 0 {
			right++
		}
	}
	if wrong > maxWrongBits || isZero(tail[right:]) {
		return EndsOpen, nil
	}
	// A sector is written whole or not at all; of two, each may be.
	if split := int(sectorSize - (size-HeaderSize)%sectorSize); split < HeaderSize {
		if right >= split || [HeaderSize]byte(append(tail[:split:split], CommitEntry[split:]...)) == tail {
			return EndsOpen, nil
		}
	}
	return EndsDamaged, nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// sectorSize is the least that a disk writes at a time.
const sectorSize = 512

// maxWrongBits of the 72 of a COMMIT let it still be taken for one: nine random bytes are with a probability of 1 in 10^12.
const maxWrongBits = 6

func isDamage(err error) bool { return errors.Is(err, ErrDamaged) }
