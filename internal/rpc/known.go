package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"garret/internal/rawpack"
	"garret/repository"
)

// known is what objects there are, so that nobody needs to ask for each. It takes about 100 bytes for one. A nil *known
// knows nothing.
type known struct {
	mu    sync.Mutex
	sizes map[repository.ID]uint32 // none: there is no such object; unsized: there is, of some size
}

const unsized = math.MaxUint32 - 1

// size returns the size of an object, and whether it is known.
func (k *known) size(id repository.ID) (uint32, bool) {
	if k == nil {
		return 0, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sizes == nil {
		return 0, false
	}
	size, ok := k.sizes[id]
	if !ok {
		return none, true
	}
	return size, size != unsized
}

// has reports whether there is an object, and whether that is known.
func (k *known) has(id repository.ID) (has, ok bool) {
	if k == nil {
		return false, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sizes == nil {
		return false, false
	}
	size, ok := k.sizes[id]
	return ok && size != none, true
}

// set takes a change of our own into account.
func (k *known) set(id repository.ID, size uint32) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.sizes == nil:
	case size == none:
		delete(k.sizes, id)
	default:
		k.sizes[id] = size
	}
}

// forget is for when it is not certain any more.
func (k *known) forget() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sizes = nil
}

func (k *known) digest() (d repository.Digest) {
	for id := range k.sizes {
		d.Add(id)
	}
	return d
}

// Follow finds out which objects there are, so that Has and Size need not ask any more. Nobody else may write meanwhile:
// the repository must be open exclusively. What was known before, and since when, is read from a file, which is written
// anew if much has changed; that it cannot be is told to warn. With version 1 all ids are listed each time.
func (c *Client) Follow(ctx context.Context, file string, warn func(error)) error {
	k := &known{}
	if c.version < 2 {
		k.sizes = map[repository.ID]uint32{}
		for id, err := range c.All(ctx) {
			if err != nil {
				return err
			}
			if _, twice := k.sizes[id]; twice { // or it could go on for ever
				return fmt.Errorf("%w: the server lists object %v twice", ErrConnection, id)
			}
			k.sizes[id] = unsized
		}
		c.known = k
		return nil
	}
	want, err := c.digest(ctx)
	if err != nil {
		return err
	}
	since, err := k.load(file)
	if err != nil {
		since = repository.Mark{} // and all is told
	}
	for {
		now, changed, err := c.changes(ctx, since, k, want.Count)
		if err != nil {
			return err
		}
		if k.digest() != want {
			if since == (repository.Mark{}) {
				return fmt.Errorf("%w: the objects that it tells of are not those that it has", ErrConnection)
			}
			since = repository.Mark{}
			continue
		}
		c.known = k
		if changed > len(k.sizes)/50 {
			if err := k.save(file, now); err != nil {
				warn(err)
			}
		}
		return nil
	}
}

func (c *Client) digest(ctx context.Context) (d repository.Digest, err error) {
	r, err := c.call(ctx, methodDigest, 0, nil)
	if err != nil {
		return d, err
	}
	if n := r.ArrayLen(); n != 3 {
		r.Failf("a digest has %d parts", n)
	}
	d.Count, d.Low, d.High = r.Uint(math.MaxUint64), r.Uint(math.MaxUint64), r.Uint(math.MaxUint64)
	return d, c.answered(methodDigest, r)
}

// changes takes into account what has changed since a state, and returns the state now and the number of changes. There
// are count objects now.
func (c *Client) changes(
	ctx context.Context, since repository.Mark, k *known, count uint64,
) (now repository.Mark, n int, err error) {
	r, err := c.call(ctx, methodChanges, 3, func(b []byte) []byte {
		b = rawpack.AppendUint(b, uint64(since.Transaction))
		b = rawpack.AppendInt(b, since.Size)
		return rawpack.AppendUint(b, uint64(since.Tail))
	})
	if err != nil {
		return now, 0, err
	}
	if n := r.ArrayLen(); n != 4 {
		r.Failf("a state has %d parts", n)
	}
	now = repository.Mark{
		Transaction: uint32(r.Uint(math.MaxUint32)), Size: r.Int(0, math.MaxInt64), Tail: uint32(r.Uint(math.MaxUint32)),
	}
	all := readBool(r)
	if err := c.answered(methodChanges, r); err != nil {
		return now, 0, err
	}
	if all || k.sizes == nil {
		k.sizes = map[repository.ID]uint32{}
	}
	most := uint64(len(k.sizes)) + count
	for {
		r, err := c.call(ctx, methodNextChanges, 0, nil)
		if err != nil {
			return now, n, err
		}
		packed := r.Raw()
		if err := c.answered(methodNextChanges, r); err != nil || len(packed) == 0 {
			return now, n, err
		}
		page, err := decompress(packed, changesPage*changeSize)
		if err == nil && (len(page) == 0 || len(page)%changeSize != 0) {
			err = fmt.Errorf("it has %d bytes", len(page))
		}
		if err != nil {
			err = fmt.Errorf("%w: a list of changes makes no sense: %w", ErrConnection, err)
			c.fail(err)
			return now, n, err
		}
		for ; len(page) > 0; page = page[changeSize:] {
			k.set(repository.ID(page), binary.LittleEndian.Uint32(page[idSize:]))
			n++
		}
		if uint64(len(k.sizes)) > most {
			err := fmt.Errorf("%w: the server tells of more objects than it has", ErrConnection)
			c.fail(err)
			return now, n, err
		}
	}
}

// changeSize is the length of an id and its size.
const changeSize = idSize + 4

// The file of what is known is
//
//	"garret objects 1\n" | transaction u32 | size i64 | tail u32 | (id [32] | size u32) ... | crc32 u32
//
// Integers are little-endian; the CRC-32C is of all before it.
const knownMagic = "garret objects 1\n"

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func (k *known) load(file string) (since repository.Mark, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return since, nil
	}
	if err != nil {
		return since, err
	}
	const header = len(knownMagic) + 16
	end := len(data) - 4
	if end < header || string(data[:len(knownMagic)]) != knownMagic || (end-header)%changeSize != 0 ||
		crc32.Checksum(data[:end], crcTable) != binary.LittleEndian.Uint32(data[end:]) {
		return since, fmt.Errorf("%q is damaged", file)
	}
	b := data[len(knownMagic):]
	since.Transaction = binary.LittleEndian.Uint32(b)
	since.Size = int64(binary.LittleEndian.Uint64(b[4:]))
	since.Tail = binary.LittleEndian.Uint32(b[12:])
	k.sizes = make(map[repository.ID]uint32, (end-header)/changeSize)
	for b = data[header:end]; len(b) > 0; b = b[changeSize:] {
		k.sizes[repository.ID(b)] = binary.LittleEndian.Uint32(b[idSize:])
	}
	return since, nil
}

// save writes the file as a whole or not at all. It need not outlive a power failure.
func (k *known) save(file string, now repository.Mark) error {
	b := make([]byte, 0, len(knownMagic)+16+len(k.sizes)*changeSize+4)
	b = append(b, knownMagic...)
	b = binary.LittleEndian.AppendUint32(b, now.Transaction)
	b = binary.LittleEndian.AppendUint64(b, uint64(now.Size))
	b = binary.LittleEndian.AppendUint32(b, now.Tail)
	for id, size := range k.sizes {
		b = append(b, id[:]...)
		b = binary.LittleEndian.AppendUint32(b, size)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err != nil {
		return fmt.Errorf("remember the objects: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("remember the objects: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("remember the objects: %w", err)
	}
	return nil
}
