package cache

import (
	"encoding/binary"
	"maps"
	"slices"

	"garret/internal/archive"
	"garret/repository"
)

// Uses gathers what an archive uses. It is void once the table has been synced, or Retain has been called.
type Uses struct {
	Files int64 // regular files

	chunks               *Chunks
	original, compressed int64
	used                 []uint64 // one bit for each row

	// Chunks whose rows are not known yet, in the order of their first use.
	pending []archive.Chunk
	waiting map[repository.ID]bool // whether they are
}

// To index all rows takes longer than anything else where an archive uses few of them: so these are looked for together, all
// rows being looked through once. It is worth it for one row in so many, and so often.
const (
	rowsForEach = 16
	maxScans    = 8
	minPending  = 1024 // as many may wait in any case
)

// NewUses returns an empty set of uses.
func (c *Chunks) NewUses() *Uses { return &Uses{chunks: c, waiting: map[repository.ID]bool{}} }

func (u *Uses) clone() *Uses {
	c := *u
	c.used, c.pending, c.waiting = slices.Clone(u.used), slices.Clone(u.pending), maps.Clone(u.waiting)
	return &c
}

// Add takes note of one use of a chunk, be it content of a file or a part of the stream of items. The archive's own record
// is not among them.
func (u *Uses) Add(chunk archive.Chunk) {
	u.use(chunk)
	u.original += int64(chunk.Size)
	u.compressed += int64(chunk.CSize)
}

func (u *Uses) use(chunk archive.Chunk) {
	c := u.chunks
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.index.isEmpty() {
		u.set(c.rowLocked(chunk))
		return
	}
	if u.waiting[chunk.ID] {
		return
	}
	u.waiting[chunk.ID] = true
	u.pending = append(u.pending, chunk)
	if len(u.pending) > max(minPending, c.rows.len()/rowsForEach) {
		c.makeIndexLocked()
		u.settleLocked()
	}
}

func (u *Uses) set(row uint32) {
	for int(row/64) >= len(u.used) {
		u.used = append(u.used, 0)
	}
	u.used[row/64] |= 1 << (row % 64)
}

// settle finds or makes the rows of the chunks that wait for it.
func (u *Uses) settle() {
	u.chunks.mu.Lock()
	defer u.chunks.mu.Unlock()
	u.settleLocked()
}

func (u *Uses) settleLocked() {
	c := u.chunks
	switch {
	case len(u.pending) == 0:
		return
	case c.index.isEmpty() && c.scans < maxScans:
		c.scans++
		for _, row := range c.scanLocked(u.pending) {
			u.set(row)
		}
	default:
		c.makeIndexLocked()
		for _, chunk := range u.pending {
			u.set(c.rowLocked(chunk))
		}
	}
	u.pending = nil
	clear(u.waiting)
}

// rowLocked returns the row of a chunk, which it adds if need be. The index must have been made.
func (c *Chunks) rowLocked(chunk archive.Chunk) uint32 {
	row, ok := c.index.find(&c.rows, chunk.ID)
	if !ok {
		row = c.rows.append(chunk)
		c.index.add(&c.rows, row)
	}
	return row
}

// scanLocked returns the rows of chunks, of which no two are the same, and adds those that there are not. It is for a table
// without an index.
func (c *Chunks) scanLocked(chunks []archive.Chunk) []uint32 {
	wanted := make(map[repository.ID]int, len(chunks))
	size := uint32(1024)
	for int(size) < 16*len(chunks) {
		size *= 2
	}
	// Few ids have the beginning of one that is wanted, so that few are looked up.
	filter := make([]uint64, size/64)
	at := func(id []byte) (word int, bit uint64) {
		n := binary.LittleEndian.Uint32(id) & (size - 1)
		return int(n / 64), 1 << (n % 64)
	}
	const missing = ^uint32(0)
	rows := make([]uint32, len(chunks))
	for i := range chunks {
		wanted[chunks[i].ID], rows[i] = i, missing
		word, bit := at(chunks[i].ID[:])
		filter[word] |= bit
	}
	for row := range uint32(c.rows.len()) {
		id := c.rows.at(row)[:len(repository.ID{})]
		word, bit := at(id)
		if filter[word]&bit == 0 {
			continue
		}
		if i, ok := wanted[repository.ID(id)]; ok && rows[i] == missing {
			rows[i] = row
		}
	}
	for i := range chunks {
		if rows[i] == missing {
			rows[i] = c.rows.append(chunks[i])
		}
	}
	return rows
}
