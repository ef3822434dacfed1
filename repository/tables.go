package repository

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"garret/repository/hashindex"
	"garret/repository/storage"
)

// The file garret.tables says which files make up the index as of a transaction, with a checksum of each one's checksums,
// and what in the segments is dead. All integers are little-endian.
//
//	"GARRETIX" | version u32 = 1 | transaction u32 | size u64 | tail crc u32 | objects u64 |
//	    tables u32  | { base u8, number u32, size u64, crc u32 of garret.sums.<number> } ... newest first
//	    dead u32    | { segment u32, bytes u64 of dead PUTs, tombstones u32 } ...
//	    crc u32 of all before (CRC-32C)
//
// Size and tail crc (CRC-32C of its last 4 KiB) are those of the transaction's last segment: with other segments than it
// was written for, the file is void.
const (
	tablesMagic   = "GARRETIX"
	tablesVersion = 1
	tablesLimit   = 1 << 30
	tailLength    = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// state is the content of garret.tables.
type state struct {
	transaction uint32
	size        int64
	tail        uint32
	objects     int
	base        int64 // the N of index.N, if it is one of the tables, or -1
	tables      []*table
	garbage     map[uint32]garbage
}

func (st *state) close() {
	(&index{tables: st.tables}).close()
	st.tables = nil
}

// isForeign reports whether another program wrote the index.
func (st *state) isForeign() bool { return len(st.tables) == 1 && st.tables[0].foreign }

// hasDelta reports whether the index is more than an index.N.
func (st *state) hasDelta() bool { return len(st.tables) != 1 || !st.tables[0].base }

func (st *state) encode() []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), tablesMagic...)
	b = le.AppendUint32(b, tablesVersion)
	b = le.AppendUint32(b, st.transaction)
	b = le.AppendUint64(b, uint64(st.size))
	b = le.AppendUint32(b, st.tail)
	b = le.AppendUint64(b, uint64(st.objects))
	b = le.AppendUint32(b, uint32(len(st.tables)))
	for _, t := range st.tables {
		kind := byte(0)
		if t.base {
			kind = 1
		}
		if t.adopted {
			kind = 2
		}
		b = append(b, kind)
		b = le.AppendUint32(b, t.number)
		b = le.AppendUint64(b, uint64(t.size))
		b = le.AppendUint32(b, crc32.Checksum(t.sums.Bytes(), castagnoli))
	}
	b = le.AppendUint32(b, uint32(len(st.garbage)))
	for _, n := range slices.Sorted(maps.Keys(st.garbage)) {
		b = le.AppendUint32(b, n)
		b = le.AppendUint64(b, uint64(st.garbage[n].bytes))
		b = le.AppendUint32(b, uint32(st.garbage[n].tombstones))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readState reads garret.tables and opens the tables that it names. An error says why it cannot be used; if the file
// itself is sound, the state is returned with it, without tables, to tell what it was about.
func readState(s storage.Storage) (st *state, err error) {
	b, err := storage.ReadFile(s, tablesName, tablesLimit)
	if err != nil {
		return nil, err
	}
	void := fmt.Errorf("file %q: %w", tablesName, ErrIntegrity)
	const fixed, perTable, perGarbage = 40, 17, 16
	if len(b) < fixed+8 || string(b[:8]) != tablesMagic {
		return nil, void
	}
	le := binary.LittleEndian
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != le.Uint32(b[len(body):]) {
		return nil, void
	}
	if v := le.Uint32(b[8:]); v != tablesVersion { // that they are made anew costs the newer one no more than time
		return nil, fmt.Errorf("file %q: %w: it has version %d", tablesName, ErrNewer, v)
	}
	st = &state{
		transaction: le.Uint32(b[12:]), size: int64(le.Uint64(b[16:])), tail: le.Uint32(b[24:]),
		objects: int(le.Uint64(b[28:])), base: -1, garbage: map[uint32]garbage{},
	}
	n := int(le.Uint32(b[36:]))
	b = body[fixed:]
	if n > len(b)/perTable {
		return nil, void
	}
	defer func() {
		if err != nil && st != nil {
			st.close()
		}
	}()
	for range n {
		t := &table{base: b[0] > 0, adopted: b[0] == 2, number: le.Uint32(b[1:])}
		if t.base {
			st.base = int64(t.number)
		}
		size, sum := int64(le.Uint64(b[5:])), le.Uint32(b[13:])
		sums, err := storage.ReadFile(s, t.sumsName(), size/hashindex.BlockSize*4+4)
		if err != nil {
			return st, err
		}
		if crc32.Checksum(sums, castagnoli) != sum {
			return st, fmt.Errorf("file %q: %w", t.sumsName(), ErrIntegrity)
		}
		if t.sums, err = hashindex.ParseSums(sums); err != nil {
			return st, err
		}
		if err := openTable(s, t); err != nil {
			return st, err
		}
		st.tables = append(st.tables, t)
		if t.size != size {
			return st, fmt.Errorf("file %q has %d bytes, want %d: %w", t.name(), t.size, size, ErrIntegrity)
		}
		b = b[perTable:]
	}
	entries := 0
	for _, t := range st.tables {
		entries += t.file.Len()
	}
	if st.objects < 0 || st.objects > entries || st.size < 0 {
		return st, void
	}
	if len(b) < 4 || int(le.Uint32(b)) > (len(b)-4)/perGarbage {
		return st, void
	}
	n, b = int(le.Uint32(b)), b[4:]
	for ; n > 0; n, b = n-1, b[perGarbage:] {
		g := garbage{int64(le.Uint64(b[4:])), int(le.Uint32(b[12:]))}
		if g.bytes < 0 {
			return st, void
		}
		st.garbage[le.Uint32(b)] = g
	}
	return st, nil
}

// fingerprint returns the size of a segment and the checksum of its end.
func fingerprint(r storage.Reader) (int64, uint32, error) {
	size := r.Size()
	b := make([]byte, min(size, tailLength))
	if n, err := r.ReadAt(b, size-int64(len(b))); n < len(b) {
		return 0, 0, err
	}
	return size, crc32.Checksum(b, castagnoli), nil
}
