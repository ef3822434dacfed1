package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"garret/internal/chunker"
	"garret/internal/rawpack"
	"garret/repository"
)

// MaxItemSize is the length in bytes of the longest item that an ItemDecoder takes. A file needs 45 bytes or so for each
// chunk, so it may have 1.5 TiB of chunks of the usual size.
const MaxItemSize = 1 << 30

// An ItemDecoder reads items from the chunks of an item stream. It holds no more than one chunk and one item. The zero value
// is ready to use, by one goroutine.
type ItemDecoder struct {
	buf     []byte
	start   int   // in buf: where the next item begins
	pos     int64 // the same in the stream
	scan    rawpack.Scanner
	scanned int // how far scan has come in the item
	err     error
}

// Feed adds the next chunk's data, which is copied. It should be called once Next has returned false.
func (d *ItemDecoder) Feed(chunk []byte) {
	if d.start > 0 { // else an item of many chunks would be moved for each
		d.buf = d.buf[:copy(d.buf, d.buf[d.start:])]
		d.start = 0
	}
	d.buf = append(d.buf, chunk...)
}

// Next returns the next item, which the caller owns, or false when more data is needed. Errors match
// repository.ErrIntegrity, tell the position in the stream, and are final.
func (d *ItemDecoder) Next() (*Item, bool, error) {
	if d.err != nil || d.start == len(d.buf) {
		return nil, false, d.err
	}
	data := d.buf[d.start:]
	if !isMap(data[0]) {
		return d.fail(fmt.Errorf("%#02x begins no item", data[0]))
	}
	n, done, err := d.scan.Scan(data[d.scanned:])
	if err != nil {
		return d.fail(err)
	}
	d.scanned += n
	if !done {
		if need := uint64(d.scanned) + d.scan.Pending(); need > MaxItemSize {
			return d.fail(fmt.Errorf("an item has at least %d bytes", need))
		}
		return nil, false, nil
	}
	it, err := DecodeItem(data[:d.scanned])
	if err != nil {
		return d.fail(err)
	}
	d.start += d.scanned
	d.pos += int64(d.scanned)
	d.scan, d.scanned = rawpack.Scanner{}, 0
	return it, true, nil
}

func isMap(lead byte) bool { return lead&0xf0 == 0x80 || lead == 0xde || lead == 0xdf }

func (d *ItemDecoder) fail(err error) (*Item, bool, error) {
	if !errors.Is(err, repository.ErrIntegrity) {
		err = fmt.Errorf("%w: %w", err, repository.ErrIntegrity)
	}
	d.err = fmt.Errorf("item at byte %d of the stream: %w", d.pos, err)
	return nil, false, d.err
}

// Close returns an error that matches repository.ErrIntegrity if the stream ended inside an item, or the error that Next
// returned.
func (d *ItemDecoder) Close() error {
	if d.err == nil && d.start < len(d.buf) {
		d.fail(errors.New("the stream ends inside it"))
	}
	return d.err
}

// flushSize is the number of bytes of items that are gathered before they are cut. It is wire format: it has influence on
// the cuts.
const flushSize = 1 << 20

// An ItemWriter encodes items and cuts their stream into chunks. Once more than 1 MiB is gathered, the chunker of the
// repository's key cuts all of it, as a stream of its own; all chunks but the last are stored, and the last is where the
// gathering begins again. If there is only one, it is stored. At the end all chunks are. This way a stream that did not change
// much has mostly the chunks that it had.
//
// An ItemWriter is not safe for concurrent use.
type ItemWriter struct {
	store   func(data []byte) (repository.ID, error)
	chunker *chunker.Chunker
	src     bytes.Reader
	buf     []byte
	sizes   []int
	ids     []repository.ID
	err     error
}

// NewItemWriter returns a writer that cuts with the seed of a key and hands each chunk to store, in order. store returns
// the chunk's id and must not keep the data.
func NewItemWriter(seed uint32, store func(data []byte) (repository.ID, error)) *ItemWriter {
	return &ItemWriter{store: store, chunker: chunker.New(seed)}
}

// Add appends an item. An error is that of store, and final.
func (w *ItemWriter) Add(it *Item) error {
	if w.err != nil {
		return w.err
	}
	w.buf = AppendItem(w.buf, it)
	if len(w.buf) > flushSize {
		w.err = w.flush(false)
	}
	return w.err
}

// Flush stores what is left and returns the ids of all chunks, in order. Nothing may be added after it.
func (w *ItemWriter) Flush() ([]repository.ID, error) {
	if w.err == nil {
		w.err = w.flush(true)
	}
	return w.ids, w.err
}

func (w *ItemWriter) flush(all bool) error {
	w.src.Reset(w.buf)
	w.chunker.Reset(&w.src)
	w.sizes = w.sizes[:0]
	for {
		chunk, err := w.chunker.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		w.sizes = append(w.sizes, len(chunk))
	}
	sizes := w.sizes
	if !all && len(sizes) > 1 {
		sizes = sizes[:len(sizes)-1]
	}
	rest := w.buf
	for _, n := range sizes {
		id, err := w.store(rest[:n:n])
		if err != nil {
			return err
		}
		w.ids = append(w.ids, id)
		rest = rest[n:]
	}
	w.buf = w.buf[:copy(w.buf, rest)]
	return nil
}
