// Package chunker cuts data into chunks where its content says so, so that the same content gives the same chunks
// wherever it lies in a file.
//
// The cuts are part of the archive format: chunks that are cut elsewhere do not deduplicate against those already in a
// repository. With h the table of 256 words, each XORed with the seed, and rotl the 32-bit left rotation, the hash of a
// window of n bytes and its update by one byte are
//
//	hash(w[0..n))       = XOR over i of rotl(h[w[i]], (n-1-i) mod 32)
//	roll(sum, out, in)  = rotl(sum, 1) ^ rotl(h[out], n mod 32) ^ h[in]
//
// The window lies after the position that is judged: a cut at pos depends on data[pos:pos+window]. From one cut to the
// next the position moves by at least the minimum size, on to the first place where the hash of the window has all mask
// bits zero. Where no more than a window is left, all of it belongs to the last chunk. A chunk also ends where it and
// the window behind it fill the buffer of [BufferSize] bytes: that whole buffer is then one chunk.
package chunker

import (
	"io"
	"math/bits"
)

// The parameters of an archive. They are wire format.
const (
	// WindowSize is the number of bytes that decide about a cut.
	WindowSize = 4095
	// MaskBits is the number of low bits of the hash that are zero at a cut: a chunk has 64 KiB or so on average.
	MaskBits = 16
	// MinSize is the least distance in bytes between two cuts.
	MinSize = 1024
	// BufferSize is the length in bytes of the longest chunk.
	BufferSize = 10 << 20
)

// readSize is how much is read at once: enough to make calls cheap, little enough to be in the processor's cache still
// when it is hashed. It has no influence on the cuts.
const readSize = 256 << 10

// maxEmptyReads is how often in succession a reader may return neither data nor an error.
const maxEmptyReads = 100

// A Chunker cuts one stream after another. It has a buffer of BufferSize bytes, so it should be kept and reset. It is not
// safe for concurrent use.
type Chunker struct {
	in, out [256]uint32 // the words of a byte that enters the window and of one that leaves it
	window  int
	mask    uint32
	min     int

	r    io.Reader
	err  error // what the reader ended with; io.EOF for a proper end
	buf  []byte
	last int // in buf: the previous cut, where the next chunk begins
	end  int // in buf: the end of what was read

	sum      uint32 // the hash of the window after last
	sumKnown bool
}

// New returns a Chunker with the parameters of an archive and the seed of a key. It must be reset to a reader before it is
// used.
func New(seed uint32) *Chunker { return NewCustom(WindowSize, 1<<MaskBits-1, MinSize, seed) }

// NewCustom returns a Chunker with other parameters: the size of the window in bytes, the bits of the hash that must be
// zero at a cut, and the least distance of two cuts in bytes. It panics unless window is within 1 and BufferSize-1, and
// minSize at least 1.
func NewCustom(window int, mask uint32, minSize int, seed uint32) *Chunker {
	if window < 1 || window >= BufferSize || minSize < 1 {
		panic("chunker: parameters out of range")
	}
	c := &Chunker{window: window, mask: mask, min: minSize, err: io.EOF}
	for i, w := range baseTable {
		c.in[i] = w ^ seed
		c.out[i] = bits.RotateLeft32(w^seed, window%32)
	}
	return c
}

// Reset makes the Chunker cut the stream of r, and keeps its buffer.
func (c *Chunker) Reset(r io.Reader) {
	c.r, c.err = r, nil
	c.last, c.end, c.sumKnown = 0, 0, false
}

// Next returns the next chunk. It is valid until the next call of Next or Reset; the caller must not change it. After the
// last chunk the error is io.EOF. Any other error is the reader's; what it had read since the last cut is not returned.
func (c *Chunker) Next() ([]byte, error) {
	pos := c.last
	pos, more := c.fill(pos)
	if !more && c.end-pos < c.window {
		if c.err != io.EOF {
			return nil, c.err
		}
		if pos == c.end {
			return nil, io.EOF
		}
		return c.cut(c.end), nil
	}
	sum := c.sum
	if !c.sumKnown { // otherwise the cut was at the window's start, and its hash is still right
		sum = c.hash(c.buf[pos : pos+c.window])
	}
	found := false
	for skip := c.min; more && !found; {
		// With at least one byte after the window at pos, the window can move by as many bytes as there are.
		n := c.end - pos - c.window
		if skip > 0 {
			n = min(n, skip)
			sum = c.roll(sum, c.buf[pos:pos+n], c.buf[pos+c.window:])
			skip -= n
		} else {
			sum, n = c.search(sum, c.buf[pos:pos+n], c.buf[pos+c.window:])
		}
		found = skip == 0 && sum&c.mask == 0
		pos, more = c.fill(pos + n)
	}
	if !more { // even where a cut was found: the rest is no longer than a window
		if c.err != nil && c.err != io.EOF {
			return nil, c.err
		}
		c.sumKnown = false
		return c.cut(c.end), nil
	}
	c.sum, c.sumKnown = sum, true
	return c.cut(pos), nil
}

// cut returns the chunk up to the position.
func (c *Chunker) cut(pos int) []byte {
	chunk := c.buf[c.last:pos:pos]
	c.last = pos
	return chunk
}

// fill reads until more than a window follows pos, and reports whether that is so: it is not at the stream's end, after
// an error, and when the chunk fills the buffer. It may move the data in the buffer, and returns where pos is then.
func (c *Chunker) fill(pos int) (int, bool) {
	if c.buf == nil {
		c.buf = make([]byte, BufferSize)
	}
	empty := 0
	for c.end-pos <= c.window && c.err == nil {
		if c.end == len(c.buf) {
			if c.last == 0 {
				return pos, false
			}
			copy(c.buf, c.buf[c.last:c.end])
			pos, c.end, c.last = pos-c.last, c.end-c.last, 0
		}
		n, err := c.r.Read(c.buf[c.end:min(len(c.buf), c.end+readSize)])
		c.end += n
		c.err = err
		if n > 0 {
			empty = 0
		} else if empty++; empty >= maxEmptyReads && err == nil {
			c.err = io.ErrNoProgress
		}
	}
	return pos, c.end-pos > c.window
}

// The three loops below read nothing but the Chunker's own buffer and tables, every byte of every file: the race detector
// would find nothing in them and take most of its time there.

// hash returns the hash of a window.
//
//go:norace
func (c *Chunker) hash(w []byte) uint32 {
	var sum uint32
	for _, b := range w {
		sum = bits.RotateLeft32(sum, 1) ^ c.in[b]
	}
	return sum
}

// roll moves the window past the bytes of out, while as many bytes of in enter it.
//
//go:norace
func (c *Chunker) roll(sum uint32, out, in []byte) uint32 {
	in = in[:len(out)]
	for i, b := range out {
		sum = bits.RotateLeft32(sum, 1) ^ c.out[b] ^ c.in[in[i]]
	}
	return sum
}

// search is roll, but stops where the hash has all bits of the mask zero. It returns the hash and the number of bytes that
// the window was moved, which is at least 1 if out is not empty.
//
//go:norace
func (c *Chunker) search(sum uint32, out, in []byte) (uint32, int) {
	in = in[:len(out)]
	mask := c.mask
	for i, b := range out {
		sum = bits.RotateLeft32(sum, 1) ^ c.out[b] ^ c.in[in[i]]
		if sum&mask == 0 {
			return sum, i + 1
		}
	}
	return sum, len(out)
}
