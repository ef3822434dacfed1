package restore

import (
	"bytes"
	"io"
	"os"
)

// An output is where the content of a file goes.
type output interface {
	io.Writer
	zeros(n int64) error // in place of what is lost
}

// A fileOutput writes a new file from its beginning.
type fileOutput struct {
	f      *os.File
	sparse bool
	offset int64
	end    int64 // of what has been written
}

func (r *run) newOutput(f *os.File) *fileOutput { return &fileOutput{f: f, sparse: r.Sparse} }

// holeSize is the length in bytes of the shortest hole. Few file systems have smaller blocks.
const holeSize = 4096

var zeroBlock [holeSize]byte

// Write writes p, in sparse files without the blocks of the file that are all zeros.
func (o *fileOutput) Write(p []byte) (int, error) {
	if !o.sparse {
		return len(p), o.write(p)
	}
	rest := p
	for len(rest) > 0 {
		data := o.dataLen(rest)
		if err := o.write(rest[:data]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[data:]
		for len(rest) > 0 {
			n := o.blockLen(rest)
			if !isZero(rest[:n]) {
				break
			}
			o.offset += int64(n)
			rest = rest[n:]
		}
	}
	return len(p), nil
}

// dataLen returns how many bytes there are before the first block of zeros.
func (o *fileOutput) dataLen(p []byte) int {
	ahead := fileOutput{offset: o.offset}
	n := 0
	for n < len(p) {
		block := ahead.blockLen(p[n:])
		if isZero(p[n : n+block]) {
			break
		}
		n += block
		ahead.offset += int64(block)
	}
	return n
}

// blockLen returns how much of p belongs to the block at hand.
func (o *fileOutput) blockLen(p []byte) int { return min(len(p), holeSize-int(o.offset%holeSize)) }

func isZero(p []byte) bool { return bytes.Equal(p, zeroBlock[:len(p)]) }

func (o *fileOutput) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := o.f.WriteAt(p, o.offset)
	o.offset += int64(n)
	o.end = o.offset
	return err
}

func (o *fileOutput) zeros(n int64) error {
	o.offset += n
	return nil
}

// finish gives the file its length if it ends in zeros that were not written.
func (o *fileOutput) finish() error {
	if o.offset == o.end {
		return nil
	}
	return o.f.Truncate(o.offset)
}

// A stream is an output that cannot have holes.
type stream struct{ io.Writer }

func (s stream) zeros(n int64) error {
	for n > 0 {
		part := zeroBlock[:min(n, holeSize)]
		if _, err := s.Write(part); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

// nothing is an output that forgets.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }
func (nothing) zeros(int64) error           { return nil }
