// Package rawpack reads and writes msgpack as it was before its types for text (str8) and bytes (bin) existed. The records
// of archives, the manifest and the key files are in that form.
//
// Text and bytes alike are "raw":
//
//	fixraw   | 0xa0+n u8             | n bytes |     up to 31
//	raw16    | 0xda u8 | n u16       | n bytes |     up to 65,535; all integers are big-endian
//	raw32    | 0xdb u8 | n u32       | n bytes |
//
// Only these are written, and integers in the shortest form, unsigned where they are not negative. A [Reader] takes the
// newer types too.
package rawpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tinylib/msgp/msgp"
)

// AppendRaw appends text or bytes, which must be shorter than 4 GiB.
func AppendRaw[T ~string | ~[]byte](dst []byte, s T) []byte {
	switch n := len(s); {
	case n <= 31:
		dst = append(dst, 0xa0|byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
	}
	return append(dst, s...)
}

// AppendInt appends an integer.
func AppendInt(dst []byte, v int64) []byte {
	if v >= 0 {
		return msgp.AppendUint64(dst, uint64(v))
	}
	return msgp.AppendInt64(dst, v)
}

// AppendUint appends an integer.
func AppendUint(dst []byte, v uint64) []byte { return msgp.AppendUint64(dst, v) }

// AppendNil appends a nil.
func AppendNil(dst []byte) []byte { return msgp.AppendNil(dst) }

// AppendMapHeader appends the beginning of a map: the keys and values of n pairs must follow.
func AppendMapHeader(dst []byte, n int) []byte { return msgp.AppendMapHeader(dst, uint32(n)) }

// AppendArrayHeader appends the beginning of an array: n values must follow.
func AppendArrayHeader(dst []byte, n int) []byte { return msgp.AppendArrayHeader(dst, uint32(n)) }

// errShort is what the methods of a Reader fail with at the end of the data.
var errShort = errors.New("it ends too early")

// A Reader reads values one after another from data that may be anything. After the first error all methods return zero
// values, and Err tells it. No method allocates more than a small multiple of the data's length.
type Reader struct {
	rest  []byte
	total int
	err   error
}

// NewReader returns a Reader of the data, which must not be changed while what the Reader returns is in use.
func NewReader(data []byte) *Reader { return &Reader{rest: data, total: len(data)} }

// Err returns the first error, with the position in the data.
func (r *Reader) Err() error { return r.err }

// Len returns the number of bytes not yet read.
func (r *Reader) Len() int { return len(r.rest) }

// Failf makes the Reader fail at the present position, if it has not failed yet.
func (r *Reader) Failf(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("byte %d: "+format, append([]any{r.total - len(r.rest)}, args...)...)
	}
}

// End fails if anything is left.
func (r *Reader) End() {
	if len(r.rest) > 0 {
		r.Failf("something follows")
	}
}

// step takes the rest and error of a msgp function.
func (r *Reader) step(rest []byte, err error) bool {
	if err != nil {
		r.Failf("%w", err)
		return false
	}
	r.rest = rest
	return true
}

// MapLen reads the beginning of a map and returns how many pairs follow. There are at least twice as many bytes.
func (r *Reader) MapLen() int {
	if r.err != nil {
		return 0
	}
	n, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	return r.count(uint64(n), 2, rest, err)
}

// ArrayLen reads the beginning of an array and returns how many values follow. There are at least as many bytes.
func (r *Reader) ArrayLen() int {
	if r.err != nil {
		return 0
	}
	n, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	return r.count(uint64(n), 1, rest, err)
}

func (r *Reader) count(n, each uint64, rest []byte, err error) int {
	if err == nil && n*each > uint64(len(rest)) {
		err = errShort
	}
	if !r.step(rest, err) {
		return 0
	}
	return int(n)
}

// Map reads a map. For each pair it reads the key, which must be raw, and calls value to read the value.
func (r *Reader) Map(value func(key string)) {
	for range r.MapLen() {
		key := r.Raw()
		if r.err != nil {
			return
		}
		value(string(key))
	}
}

// Raw reads text or bytes. The slice is a part of the data.
func (r *Reader) Raw() []byte {
	if r.err != nil {
		return nil
	}
	size, children, err := header(r.rest)
	if err != nil || children != 0 || !isRaw(r.rest[0]) {
		if err == nil {
			err = errors.New("it is not raw")
		}
		r.Failf("%w", err)
		return nil
	}
	if size > uint64(len(r.rest)) {
		r.Failf("%w", errShort)
		return nil
	}
	// The length stands before the bytes, in 0 to 4 bytes after the first.
	prefix := 1
	switch r.rest[0] {
	case 0xc4, 0xd9:
		prefix = 2
	case 0xc5, 0xda:
		prefix = 3
	case 0xc6, 0xdb:
		prefix = 5
	}
	raw := r.rest[prefix:size:size]
	r.rest = r.rest[size:]
	return raw
}

// isRaw reports whether a value with the first byte is text or bytes.
func isRaw(lead byte) bool {
	return lead>>5 == 0xa0>>5 || lead >= 0xc4 && lead <= 0xc6 || lead >= 0xd9 && lead <= 0xdb
}

// Text reads text or bytes into a string.
func (r *Reader) Text() string { return string(r.Raw()) }

// Nil reads a nil if the next value is one, and reports whether it was.
func (r *Reader) Nil() bool {
	if r.err != nil || len(r.rest) == 0 || !msgp.IsNil(r.rest) {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// NextIsRaw reports whether the next value is text or bytes.
func (r *Reader) NextIsRaw() bool { return r.err == nil && len(r.rest) > 0 && isRaw(r.rest[0]) }

// Int reads an integer from least to most.
func (r *Reader) Int(least, most int64) int64 {
	if r.err != nil {
		return 0
	}
	v, rest, err := msgp.ReadInt64Bytes(r.rest)
	if err == nil && (v < least || v > most) {
		err = fmt.Errorf("%d is not within %d and %d", v, least, most)
	}
	if !r.step(rest, err) {
		return 0
	}
	return v
}

// Uint reads an integer from 0 to most.
func (r *Reader) Uint(most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, rest, err := msgp.ReadUint64Bytes(r.rest)
	if err == nil && v > most {
		err = fmt.Errorf("%d is more than %d", v, most)
	}
	if !r.step(rest, err) {
		return 0
	}
	return v
}

// Value reads any value, with all that is in it, and returns its encoding, which is a part of the data.
func (r *Reader) Value() []byte {
	if r.err != nil {
		return nil
	}
	var s Scanner
	n, done, err := s.Scan(r.rest)
	if err == nil && !done {
		err = errShort
	}
	if err != nil {
		r.Failf("%w", err)
		return nil
	}
	value := r.rest[:n:n]
	r.rest = r.rest[n:]
	return value
}

// A Scanner finds the end of a value in data that comes bit by bit. It needs no memory, however deep the value is. The
// zero value is ready to use.
type Scanner struct {
	begun   bool
	pending uint64 // values that are yet to begin
	skip    uint64 // bytes of the last one that are yet to come
}

// Scan goes on with data that follows that of the calls before, and returns how many bytes of it belong to the value or
// are sure to; of a value that is not done, the remaining bytes, fewer than 10, must come again before what follows
// them. After an error, and once it is done, the Scanner must not be used again.
func (s *Scanner) Scan(data []byte) (n int, done bool, err error) {
	if !s.begun {
		s.begun, s.pending = true, 1
	}
	for {
		step := min(s.skip, uint64(len(data)-n))
		n += int(step)
		s.skip -= step
		if s.skip > 0 {
			return n, false, nil
		}
		if s.pending == 0 {
			return n, true, nil
		}
		size, children, err := header(data[n:])
		if errors.Is(err, errShort) {
			return n, false, nil
		}
		if err != nil {
			return n, false, err
		}
		s.skip = size
		s.pending += children - 1
	}
}

// Pending returns a number of bytes that the value needs at least before it is done.
func (s *Scanner) Pending() uint64 { return s.skip + s.pending }

// header returns the length in bytes of the value that data begins with, without the values in it, and how many those
// are. It fails with errShort if that is not to be known yet.
func header(data []byte) (size, children uint64, err error) {
	if len(data) == 0 {
		return 0, 0, errShort
	}
	lead := data[0]
	switch {
	case lead < 0x80, lead >= 0xe0: // integers
		return 1, 0, nil
	case lead < 0x90: // maps
		return 1, 2 * uint64(lead&0x0f), nil
	case lead < 0xa0: // arrays
		return 1, uint64(lead & 0x0f), nil
	case lead < 0xc0: // raw
		return 1 + uint64(lead&0x1f), 0, nil
	}
	length := func(width int) uint64 {
		if len(data) <= width {
			err = errShort
			return 0
		}
		var n uint64
		for _, b := range data[1 : 1+width] {
			n = n<<8 | uint64(b)
		}
		return n
	}
	switch lead {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		size = 1
	case 0xcc, 0xd0: // integers and floats of 1, 2, 4 and 8 bytes
		size = 2
	case 0xcd, 0xd1:
		size = 3
	case 0xca, 0xce, 0xd2:
		size = 5
	case 0xcb, 0xcf, 0xd3:
		size = 9
	case 0xc4, 0xd9: // raw, str and bin
		size = 2 + length(1)
	case 0xc5, 0xda:
		size = 3 + length(2)
	case 0xc6, 0xdb:
		size = 5 + length(4)
	case 0xdc: // arrays
		size, children = 3, length(2)
	case 0xdd:
		size, children = 5, length(4)
	case 0xde: // maps
		size, children = 3, 2*length(2)
	case 0xdf:
		size, children = 5, 2*length(4)
	default: // extensions, which the old specification does not have
		return 0, 0, fmt.Errorf("%#02x begins no value", lead)
	}
	return size, children, err
}
