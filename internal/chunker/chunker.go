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
	last int    // in buf: the previous cut, where the next chunk begins
	end  int    // in buf: the end of what was read
	sum  uint32 // the hash of the window at last, if known
	have bool   // whether sum is known
}

// New returns a Chunker with the parameters of an archive and the seed of a key. It must be reset to a reader before it is
// used.
func New(seed uint32) *Chunker { return NewCustom(WindowSize, 1<<MaskBits-1, MinSize, seed) }

// NewCustom returns a Chunker with other parameters: the size of the window in bytes, the bits of the hash that must be
// zero at a cut, and the least distance of two cuts in bytes. It panics if window is not within 1 and BufferSize-1, or
// minSize is negative.
func NewCustom(window int, mask uint32, minSize int, seed uint32) *Chunker {
	if window < 1 || window >= BufferSize || minSize < 0 {
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
	c.last, c.end, c.have = 0, 0, false
}

// Next returns the next chunk. It is valid until the next call of Next or Reset; the caller must not change it. After the
// last chunk the error is io.EOF. Any other error is the reader's; what it had read since the last cut is not returned.
func (c *Chunker) Next() ([]byte, error) {
	panic("not yet")
}
