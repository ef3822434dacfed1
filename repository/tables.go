package repository

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/tinylib/msgp/msgp"

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

// garbage is what a segment holds that is no longer needed.
type garbage struct {
	bytes      int64 // of PUT entries that were replaced or deleted
	tombstones int   // DELETE entries
}

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
	if crc32.Checksum(body, castagnoli) != le.Uint32(b[len(body):]) || le.Uint32(b[8:]) != tablesVersion {
		return nil, void
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
		t := &table{base: b[0] == 1, number: le.Uint32(b[1:])}
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

// hints is the content of hints.N: msgpack {version: 1, segments: {N: live PUTs}, compact: [N, ...]}.
type hints struct {
	live    map[uint32]int
	compact []uint32
}

func (h *hints) encode() []byte {
	b := msgp.AppendMapHeader(nil, 3)
	b = msgp.AppendInt(msgp.AppendString(b, "version"), 1)
	b = msgp.AppendMapHeader(msgp.AppendString(b, "segments"), uint32(len(h.live)))
	for _, n := range slices.Sorted(maps.Keys(h.live)) {
		b = msgp.AppendInt(msgp.AppendUint32(b, n), h.live[n])
	}
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "compact"), uint32(len(h.compact)))
	for _, n := range h.compact {
		b = msgp.AppendUint32(b, n)
	}
	return b
}

func parseHints(b []byte) (h *hints, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: hints: %w", ErrIntegrity, err)
		}
	}()
	h = &hints{live: map[uint32]int{}}
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for range n {
		var key []byte
		if key, b, err = readRaw(b); err != nil {
			return nil, err
		}
		seen[string(key)] = true
		switch string(key) {
		case "version":
			var v int64
			if v, b, err = msgp.ReadInt64Bytes(b); err == nil && v != 1 {
				err = fmt.Errorf("version %d", v)
			}
		case "segments":
			var m uint32
			m, b, err = msgp.ReadMapHeaderBytes(b)
			for ; m > 0 && err == nil; m-- {
				var n uint32
				var live int64
				if n, b, err = msgp.ReadUint32Bytes(b); err == nil {
					live, b, err = msgp.ReadInt64Bytes(b)
				}
				if err == nil && (live < 0 || live > 1<<31) {
					err = fmt.Errorf("segment %d has %d objects", n, live)
				}
				h.live[n] = int(live)
			}
		case "compact":
			var m uint32
			m, b, err = msgp.ReadArrayHeaderBytes(b)
			for ; m > 0 && err == nil; m-- {
				var n uint32
				n, b, err = msgp.ReadUint32Bytes(b)
				h.compact = append(h.compact, n)
			}
		default:
			b, err = msgp.Skip(b)
		}
		if err != nil {
			return nil, err
		}
	}
	if !seen["version"] || !seen["segments"] || !seen["compact"] || len(b) > 0 {
		return nil, fmt.Errorf("they are incomplete")
	}
	return h, nil
}

// readRaw reads a string of either specification.
func readRaw(b []byte) (v, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		return msgp.ReadBytesZC(b)
	}
	return msgp.ReadStringZC(b)
}

// flush writes the tail as a table, together with the layers below it that are not much larger, so that it need not be
// replayed. After an error the tail is still there and what is on disk is as good as before.
func (r *Repository) flush() error { return r.flushAs(false) }

// flushBase is flush of all layers into a new base, unless the base is all there is.
func (r *Repository) flushBase() error {
	if x := &r.index; len(x.tail) == 0 && len(x.tables) == 1 && x.tables[0].base {
		return nil
	}
	return r.flushAs(true)
}

func (r *Repository) flushAs(base bool) error {
	x := &r.index
	if r.committed < 0 || len(x.txn) > 0 {
		return nil
	}
	st := &state{transaction: uint32(r.committed), objects: x.count, garbage: r.garbage}
	last, err := r.segments.acquire(st.transaction)
	if err != nil {
		return err
	}
	defer last.release()
	if st.size, st.tail, err = fingerprint(last); err != nil {
		return fmt.Errorf("read the end of segment %d: %w", st.transaction, err)
	}
	if st.tables, err = r.layers(st.transaction, base); err != nil {
		return err
	}
	if err := r.writeState(st); err != nil {
		return err
	}
	r.flushed = st
	old := x.tables
	r.mu.Lock()
	x.tables, x.tail = st.tables, nil
	r.mu.Unlock()
	r.tail = tail{}
	for _, t := range old {
		if !slices.Contains(st.tables, t) {
			t.r.Close()
		}
	}
	r.removeStaleFiles()
	return nil
}

func (r *Repository) writeState(st *state) error {
	if err := storage.WriteFile(r.store, tablesName, st.encode()); err != nil {
		return fmt.Errorf("write file %q: %w", tablesName, err)
	}
	return nil
}

// growth is how many times as large as what is to be written a layer must be to be left as it is.
const growth = 4

// layers writes what has to be written and returns the layers then.
func (r *Repository) layers(transaction uint32, base bool) ([]*table, error) {
	x := &r.index
	if len(x.tail) == 0 && len(x.tables) > 0 && !base {
		return x.tables, r.ensureSums(x.tables)
	}
	n, merged := len(x.tail), 0
	for merged < len(x.tables) && (base || x.tables[merged].file.Len() < max(growth*n, r.opts.tuning.layer)) {
		n += x.tables[merged].file.Len()
		merged++
	}
	isBase := merged == len(x.tables)
	if err := r.ensureSums(x.tables[merged:]); err != nil {
		return nil, err
	}
	if isBase {
		n = x.count
	}
	h := hashindex.NewSized(2, n)
	live := map[uint32]int{}
	add := func(id ID, loc location) {
		if isBase {
			if loc == removed {
				return
			}
			live[loc.segment]++
		}
		h.Set(id, loc.segment, loc.offset)
	}
	for id, loc := range x.tail {
		add(id, loc)
	}
	for i, t := range x.tables[:merged] {
		var inner error
		err := t.file.Scan(0, func(id ID, v []uint32) bool {
			if _, newer := x.tail[id]; newer {
				return true
			}
			for _, upper := range x.tables[:i] {
				var newer bool
				if _, newer, inner = upper.lookup(id); newer || inner != nil {
					return inner == nil
				}
			}
			add(id, location{v[0], v[1]})
			return true
		})
		if err == nil {
			err = inner
		}
		if err != nil {
			return nil, fmt.Errorf("merge %q: %w", t.name(), err)
		}
	}
	t := &table{base: isBase, number: transaction}
	if isBase {
		if err := r.writeHints(transaction, live); err != nil {
			return nil, err
		}
	}
	if err := writeTable(r.store, t, h); err != nil {
		return nil, err
	}
	return append([]*table{t}, x.tables[merged:]...), nil
}

// ensureSums writes the checksums of a base that another program wrote and that was verified when it was opened.
func (r *Repository) ensureSums(tables []*table) error {
	for _, t := range tables {
		if !t.foreign {
			continue
		}
		if err := storage.WriteFile(r.store, t.sumsName(), t.sums.Bytes()); err != nil {
			return fmt.Errorf("write file %q: %w", t.sumsName(), err)
		}
		t.foreign = false
	}
	return nil
}

// writeHints writes what the reference needs beside the index: how many objects each segment has, and all segments with
// something dead in them.
func (r *Repository) writeHints(transaction uint32, live map[uint32]int) error {
	all, err := r.store.Segments(-1)
	if err != nil {
		return err
	}
	h := &hints{live: live}
	for _, n := range all {
		if n > transaction {
			break
		}
		if _, dirty := r.garbage[n]; dirty || live[n] == 0 {
			live[n] += 0
			h.compact = append(h.compact, n)
		}
	}
	name := fmt.Sprintf("%s%d", hintsPrefix, transaction)
	if err := storage.WriteFile(r.store, name, h.encode()); err != nil {
		return fmt.Errorf("write file %q: %w", name, err)
	}
	return nil
}

// removeStaleFiles removes the index files that are no longer part of the index. What remains of them costs only room.
func (r *Repository) removeStaleFiles() {
	keep := map[string]bool{tablesName: true}
	for _, t := range r.index.tables {
		keep[t.name()], keep[t.sumsName()] = true, true
		if t.base {
			keep[fmt.Sprintf("%s%d", hintsPrefix, t.number)] = true
		}
	}
	files, err := r.store.Files()
	if err != nil {
		return
	}
	for _, name := range files {
		for _, prefix := range []string{indexPrefix, hintsPrefix, deltaPrefix, sumsPrefix} {
			if _, ok := numberOf(name, prefix); ok && !keep[name] {
				_ = r.store.RemoveFile(name)
			}
		}
	}
}
