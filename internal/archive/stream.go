package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

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
	item    int64 // in the stream: where the item began that was returned last
	scan    rawpack.Scanner
	scanned int   // how far scan has come in the item
	lost    bool  // a part of the stream is missing before start, where perhaps no item begins
	ended   bool  // nothing follows
	vain    int64 // how many bytes were scanned for what only looked like items
	err     error
}

// Skip says that a part of the stream is missing after what was fed. The item that it is in the midst of is lost; the
// next one is the first thing after the gap that looks like an item and is one.
func (d *ItemDecoder) Skip() {
	d.pos += int64(len(d.buf) - d.start)
	d.buf, d.start = d.buf[:0], 0
	d.scan, d.scanned = rawpack.Scanner{}, 0
	d.lost = true
}

// Recover goes on after an error of Next: the next item is the first thing behind where that one began that looks like an
// item and is one.
func (d *ItemDecoder) Recover() {
	if d.err == nil {
		return
	}
	d.err = nil
	if d.start < len(d.buf) {
		d.start, d.pos = d.start+1, d.pos+1
	}
	d.scan, d.scanned = rawpack.Scanner{}, 0
	d.lost = true
}

// Buffered returns how many of the bytes that were fed belong to no item yet. InSync reports whether the next item begins
// with the first of them, as it does unless a part of the stream is missing before.
func (d *ItemDecoder) Buffered() int { return len(d.buf) - d.start }

// InSync is explained with Buffered.
func (d *ItemDecoder) InSync() bool { return !d.lost && d.err == nil }

// seek moves start to where an item may begin, and reports whether there is such a place. If not, it leaves what may be
// the beginning of one.
func (d *ItemDecoder) seek() bool {
	for ; d.start < len(d.buf); d.start, d.pos = d.start+1, d.pos+1 {
		switch begins, known := beginsItem(d.buf[d.start:]); {
		case !known:
			return false
		case begins:
			return true
		}
	}
	return false
}

// How many keys an item has, and how it can go on after their number. Each is followed by a test of the next byte. A number
// is followed by the next key, as there are more.
const (
	minItemKeys = 7
	maxItemKeys = 15
)

var itemHeads = []struct {
	head string
	next func(lead byte) bool
}{
	{"\xaa" + keyACLAccess, isRawOrNil},
	{"\xab" + keyACLDefault, isRawOrNil},
	{"\xa8" + keyBSDFlags, isInt},
	{"\xa6" + keyChunks + "\x90\xa3" + keyGID, isInt},
	{"\xa6" + keyChunks + "\x90\xae" + keyHealthy, isArray},
	{"\xa3" + keyGID, isInt},
}

// beginsItem reports whether data looks like the beginning of an item, and whether there is enough of it to know.
func beginsItem(data []byte) (begins, known bool) {
	if n := int(data[0]) - 0x80; n < minItemKeys || n > maxItemKeys { // the header of a short map
		return false, true
	}
	data = data[1:]
	known = true
	for _, h := range itemHeads {
		switch n := min(len(data), len(h.head)); {
		case string(data[:n]) != h.head[:n]:
		case len(data) <= len(h.head):
			known = false
		case h.next(data[len(h.head)]):
			after := data[len(h.head):]
			size := intSize(after[0])
			if size == 0 || len(after) > size {
				return size == 0 || isKey(after[size]), true
			}
			known = false
		}
	}
	const chunks = "\xa6" + keyChunks
	switch n := min(len(data), len(chunks)); {
	case string(data[:n]) != chunks[:n]:
	case len(data) < len(chunks)+7: // the longest header of an array, and those of a chunk and of its id
		known = false
	default:
		data = data[n:]
		switch lead := data[0]; {
		case lead > 0x90 && lead < 0xa0:
			data = data[1:]
		case lead == 0xdc:
			data = data[3:]
		case lead == 0xdd:
			data = data[5:]
		default:
			return false, known
		}
		return data[0] == 0x93 && isRawOrNil(data[1]) && data[1] != 0xc0, true
	}
	return false, known
}

func isArray(lead byte) bool { return lead&0xf0 == 0x90 || lead == 0xdc || lead == 0xdd }

func isInt(lead byte) bool { return lead < 0x80 || lead >= 0xe0 || lead >= 0xcc && lead <= 0xd3 }

// intSize returns the length of a number with its first byte, 0 of anything else.
func intSize(lead byte) int {
	switch {
	case !isInt(lead):
		return 0
	case lead < 0x80 || lead >= 0xe0:
		return 1
	}
	return 1 + 1<<(lead&3)
}

func isKey(lead byte) bool { return lead > 0xa0 && lead < 0xc0 }

func isRawOrNil(lead byte) bool {
	return lead == 0xc0 || lead>>5 == 0xa0>>5 || lead >= 0xc4 && lead <= 0xc6 || lead >= 0xd9 && lead <= 0xdb
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
// repository.ErrIntegrity, or repository.ErrNewer as those of DecodeItem do, tell the position in the part of the stream that was fed, and are final.
func (d *ItemDecoder) Next() (*Item, bool, error) {
	for d.err == nil {
		it, ok, err := d.next()
		if err == nil {
			d.lost = d.lost && !ok
			return it, ok, nil
		}
		if !d.lost {
			return d.fail(err)
		}
		// It only looked like an item. What looks like many long ones is not gone through from every byte, lest that takes forever.
		n := 1
		if d.vain += int64(d.scanned); d.vain > patience {
			n = max(1, d.scanned/8)
		}
		d.start, d.pos = d.start+n, d.pos+int64(n)
		d.scan, d.scanned = rawpack.Scanner{}, 0
	}
	return nil, false, d.err
}

// patience is how many bytes are scanned in vain before something may be missed.
const patience = 1 << 29

// Offset returns where the item that Next returned last begins, in bytes of all that was fed.
func (d *ItemDecoder) Offset() int64 { return d.item }

func (d *ItemDecoder) next() (*Item, bool, error) {
	if d.start == len(d.buf) || d.lost && d.scanned == 0 && !d.seek() {
		return nil, false, nil
	}
	data := d.buf[d.start:]
	if !isMap(data[0]) {
		return nil, false, fmt.Errorf("%#02x begins no item", data[0])
	}
	n, done, err := d.scan.Scan(data[d.scanned:])
	if err != nil {
		return nil, false, err
	}
	d.scanned += n
	if !done {
		if d.ended {
			return nil, false, errEndsInside
		}
		if need := uint64(d.scanned) + d.scan.Pending(); need > MaxItemSize {
			return nil, false, fmt.Errorf("an item has at least %d bytes", need)
		}
		return nil, false, nil
	}
	it, err := DecodeItem(data[:d.scanned])
	if err != nil {
		return nil, false, err
	}
	d.item = d.pos
	d.start += d.scanned
	d.pos += int64(d.scanned)
	d.scan, d.scanned = rawpack.Scanner{}, 0
	return it, true, nil
}

func isMap(lead byte) bool { return lead&0xf0 == 0x80 || lead == 0xde || lead == 0xdf }

func (d *ItemDecoder) fail(err error) (*Item, bool, error) {
	if !errors.Is(err, repository.ErrIntegrity) && !errors.Is(err, repository.ErrNewer) {
		err = fmt.Errorf("%w: %w", err, repository.ErrIntegrity)
	}
	d.err = fmt.Errorf("item at byte %d of the stream: %w", d.pos, err)
	return nil, false, d.err
}

// Rest returns what has been fed and belongs to no item yet. It is valid until the next Feed. ok is false while items may
// be lost, when the rest alone does not tell how the stream goes on.
func (d *ItemDecoder) Rest() (rest []byte, ok bool) { return d.buf[d.start:], !d.lost && d.err == nil }

var errEndsInside = errors.New("the stream ends inside it")

// Close says that nothing follows. It returns an error that matches repository.ErrIntegrity if the stream ended inside an
// item, or the error that Next returned. What seemed to be an item that is longer than the stream may have been garbage:
// after Recover, and also if there is no error because a part of the stream is missing, Next returns the items behind it.
func (d *ItemDecoder) Close() error {
	d.ended = true
	if d.err == nil && d.start < len(d.buf) && !d.lost {
		d.fail(errEndsInside)
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

// Snapshot returns the ids of a stream that has everything added so far in it, and further items at its end. What of it
// has not been stored yet is handed to store; the writer goes on as if nothing had been asked.
func (w *ItemWriter) Snapshot(store func(data []byte) (repository.ID, error), more ...*Item) ([]repository.ID, error) {
	if w.err != nil {
		return nil, w.err
	}
	last := ItemWriter{store: store, chunker: w.chunker, buf: slices.Clone(w.buf)}
	for _, it := range more {
		last.buf = AppendItem(last.buf, it)
	}
	ids, err := last.Flush()
	if err != nil {
		return nil, err
	}
	return slices.Concat(w.ids, ids), nil
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
