package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"garret/internal/rawpack"
)

// errTooLong is the error about a message that is longer than it may be.
var errTooLong = errors.New("a message is too long")

// errNoMessage is the error about what is not even the beginning of a message.
var errNoMessage = errors.New("it is no message of the protocol")

// beginsMessage reports whether a message can begin with a byte: it is an array. No text begins so.
func beginsMessage(lead byte) bool { return lead&0xf0 == 0x90 || lead == 0xdc || lead == 0xdd }

// A frameReader reads messages from a stream. It holds no more than one message and what was read ahead, whatever
// lengths the message states.
type frameReader struct {
	r     io.Reader
	limit int // bytes of a message
	buf   []byte
	start int // where in buf the next message begins
}

const readSize = 256 << 10

// next returns the next message, which is valid until the next call. At the end of the stream it returns io.EOF, and in
// the midst of a message an error that matches io.ErrUnexpectedEOF.
func (f *frameReader) next() ([]byte, error) {
	var scan rawpack.Scanner
	scanned := 0
	for {
		if f.buffered() && !beginsMessage(f.buf[f.start]) {
			return nil, fmt.Errorf("malformed message: %w: %q", errNoMessage, f.line())
		}
		n, done, err := scan.Scan(f.buf[f.start+scanned:])
		if err != nil {
			return nil, fmt.Errorf("malformed message: byte %d: %w", scanned+n, err)
		}
		scanned += n
		if done {
			msg := f.buf[f.start:][:scanned:scanned]
			f.start += scanned
			return msg, nil
		}
		if uint64(scanned)+scan.Pending() > uint64(f.limit) {
			return nil, fmt.Errorf("%w: more than %d bytes", errTooLong, f.limit)
		}
		if err := f.fill(); err != nil {
			if err == io.EOF && len(f.buf) > f.start {
				err = fmt.Errorf("the connection ended in the midst of a message: %w", io.ErrUnexpectedEOF)
			}
			return nil, err
		}
	}
}

// buffered reports whether something has been read that no message has had yet.
func (f *frameReader) buffered() bool { return f.start < len(f.buf) }

// line returns the first line of what has been read and is no message, shortened.
func (f *frameReader) line() []byte {
	line := f.buf[f.start:min(len(f.buf), f.start+80)]
	if i := bytes.IndexByte(line, '\n'); i > 0 {
		line = line[:i]
	}
	return bytes.TrimRight(line, "\r")
}

// fill reads some more. The buffer grows with what has come, not with what is said to come.
func (f *frameReader) fill() error {
	if f.start > 0 {
		f.buf = f.buf[:copy(f.buf, f.buf[f.start:])]
		f.start = 0
	}
	if cap(f.buf)-len(f.buf) < readSize/4 {
		grown := make([]byte, len(f.buf), max(readSize, 2*cap(f.buf)))
		copy(grown, f.buf)
		f.buf = grown
	}
	for range 100 {
		n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
