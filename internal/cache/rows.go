package cache

import (
	"encoding/binary"
	"hash/maphash"

	"garret/internal/archive"
	"garret/repository"
)

// rowSize is the length of a row: id [32] | size u32 | csize u32.
const rowSize = 40

// A rowList is the list of rows as they lie on disk. Those that were loaded and those that were added are apart, lest the
// first of many million are copied for the sake of the second.
type rowList struct {
	loaded, added []byte
}

func (l *rowList) len() int { return (len(l.loaded) + len(l.added)) / rowSize }

func (l *rowList) at(row uint32) []byte {
	off := int(row) * rowSize
	if off < len(l.loaded) {
		return l.loaded[off : off+rowSize]
	}
	off -= len(l.loaded)
	return l.added[off : off+rowSize]
}

// from returns the rows behind the first n, of which there are at least as many as were loaded.
func (l *rowList) from(n int) []byte { return l.added[n*rowSize-len(l.loaded):] }

func (l *rowList) append(c archive.Chunk) uint32 {
	l.added = append(l.added, c.ID[:]...)
	l.added = binary.LittleEndian.AppendUint32(l.added, c.Size)
	l.added = binary.LittleEndian.AppendUint32(l.added, c.CSize)
	return uint32(l.len() - 1)
}

func (l *rowList) id(row uint32) repository.ID { return repository.ID(l.at(row)[:32]) }

func (l *rowList) csize(row uint32) uint32 { return binary.LittleEndian.Uint32(l.at(row)[36:]) }

func (l *rowList) chunk(row uint32) archive.Chunk {
	b := l.at(row)
	return archive.Chunk{
		ID:    repository.ID(b[:32]),
		Size:  binary.LittleEndian.Uint32(b[32:]),
		CSize: binary.LittleEndian.Uint32(b[36:]),
	}
}

// A rowIndex finds rows by their id: a hash table with linear probing, of row numbers plus one.
type rowIndex struct {
	slots []uint32 // a power of two of them
	used  int
}

func newRowIndex(l *rowList) rowIndex {
	size := 1024
	for size*3/4 <= l.len() {
		size *= 2
	}
	x := rowIndex{slots: make([]uint32, size)}
	for row := range l.len() {
		x.add(l, uint32(row))
	}
	return x
}

func (x *rowIndex) isEmpty() bool { return x.slots == nil }

// find returns the row with an id.
func (x *rowIndex) find(l *rowList, id repository.ID) (uint32, bool) {
	for i := maphash.Bytes(hashSeed, id[:]); ; i++ {
		n := x.slots[i&uint64(len(x.slots)-1)]
		if n == 0 {
			return 0, false
		}
		if l.id(n-1) == id {
			return n - 1, true
		}
	}
}

// add adds a row that is in the list and not in the index.
func (x *rowIndex) add(l *rowList, row uint32) {
	if x.used >= len(x.slots)*3/4 {
		old := x.slots
		*x = rowIndex{slots: make([]uint32, 2*len(old))}
		for _, n := range old {
			if n != 0 {
				x.insert(l, n-1)
			}
		}
	}
	x.insert(l, row)
}

func (x *rowIndex) insert(l *rowList, row uint32) {
	i := maphash.Bytes(hashSeed, l.at(row)[:32])
	for ; x.slots[i&uint64(len(x.slots)-1)] != 0; i++ {
	}
	x.slots[i&uint64(len(x.slots)-1)] = row + 1
	x.used++
}
