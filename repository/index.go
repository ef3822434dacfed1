package repository

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"garret/repository/hashindex"
	"garret/repository/storage"
)

// location is where an object's PUT entry begins.
type location struct{ segment, offset uint32 }

// removed stands in a layer of the index for an object that a lower layer has and that is no more.
var removed = location{segment: hashindex.MaxValue}

// The index is in layers. What an upper one says of a key goes before what a lower one says.
//
//	txn      what the open transaction has changed                              memory
//	tail     what was committed since the last table was written                memory, rebuilt by replay
//	deltas   what was committed between two tables, newest first                garret.delta.N
//	base     the index in the reference's format                                index.N
//
// A commit only moves txn to tail. When the tail has grown to its budget it becomes a delta, together with the deltas
// that are not much larger; when that is not much smaller than the base, all become a new base. So what a commit writes
// follows what it changes, and the number of layers follows the logarithm of the number of objects.
type index struct {
	txn, tail map[ID]location
	tables    []*table // newest first; the base, if there is one, is the last
	count     int      // objects
	txnCount  int      // of these, by how many the open transaction has changed the number
}

// table is a layer in a file.
type table struct {
	base   bool
	number uint32 // the transaction whose state it completes
	size   int64
	sums   *hashindex.Sums
	// foreign: written by another program, the sums are not in a file yet
	foreign bool
	// adopted: what is in it comes from another program, without checksums, or some of it does
	adopted bool
	file    *hashindex.File
	r       storage.Reader
}

func (t *table) name() string {
	if t.base {
		return fmt.Sprintf("%s%d", indexPrefix, t.number)
	}
	return fmt.Sprintf("%s%d", deltaPrefix, t.number)
}

func (t *table) sumsName() string { return fmt.Sprintf("%s%d", sumsPrefix, t.number) }

// openTable opens the table that t names. Without sums it must be verified by the caller.
func openTable(s storage.Storage, t *table) error {
	r, err := s.OpenFile(t.name())
	if err != nil {
		return err
	}
	f, err := hashindex.OpenFile(r, r.Size(), 2, t.sums)
	if err != nil {
		r.Close()
		return fmt.Errorf("open %q: %w", t.name(), err)
	}
	t.r, t.file, t.size = r, f, r.Size()
	return nil
}

func (x *index) close() {
	for _, t := range x.tables {
		t.r.Close()
	}
	x.tables = nil
}

func (t *table) lookup(id ID) (location, bool, error) {
	var v [2]uint32
	ok, err := t.file.Lookup(id, v[:])
	if err != nil {
		err = fmt.Errorf("look up %v in %q: %w", id, t.name(), err)
	}
	return location{v[0], v[1]}, ok, err
}

// lookupTables is lookup in the layers that are files.
func (x *index) lookupTables(id ID) (location, bool, error) {
	for _, t := range x.tables {
		if loc, ok, err := t.lookup(id); ok || err != nil {
			return loc, loc != removed && err == nil, err
		}
	}
	return location{}, false, nil
}

// lookupMemory is lookup in the layers that are in memory. It also reports whether they know anything of the key.
func (x *index) lookupMemory(id ID) (loc location, ok, known bool) {
	loc, known = x.txn[id]
	if !known {
		loc, known = x.tail[id]
	}
	return loc, known && loc != removed, known
}

// lookup returns where an object is.
func (x *index) lookup(id ID) (location, bool, error) {
	if loc, ok, known := x.lookupMemory(id); known {
		return loc, ok, nil
	}
	return x.lookupTables(id)
}

// base returns the base, or nil.
func (x *index) base() *table {
	if n := len(x.tables); n > 0 && x.tables[n-1].base {
		return x.tables[n-1]
	}
	return nil
}

// hasOwnIndex reports whether the index has checksums that were made when it was written. The caller holds tx in any way.
func (r *Repository) hasOwnIndex() bool {
	base := r.index.base()
	return base != nil && !base.adopted
}

// set notes a change of the open transaction; existed says whether the object was there.
func (x *index) set(id ID, loc location, existed bool) {
	if x.txn == nil {
		x.txn = map[ID]location{}
	}
	x.txn[id] = loc
	exists := loc != removed
	if exists && !existed {
		x.txnCount++
	} else if existed && !exists {
		x.txnCount--
	}
}

// commit makes what the open transaction has changed part of the tail.
func (x *index) commit() {
	if len(x.tail) == 0 {
		x.tail = x.txn
	} else {
		for id, loc := range x.txn {
			x.tail[id] = loc
		}
	}
	x.count += x.txnCount
	x.txn, x.txnCount = nil, 0
}

func (x *index) rollback() { x.txn, x.txnCount = nil, 0 }

// walk calls yield with the keys of all objects: first the base's in the order of its buckets, then, layer by layer,
// those that no lower layer has, at last those in memory, in the order of their keys. It begins behind marker, if that is
// not nil. An object that is replaced keeps its place until a layer is written.
func (x *index) walk(marker *ID, yield func(ID) bool) error {
	start, from, err := x.find(marker)
	if err != nil {
		return err
	}
	done := false
	for level := start; level >= 0 && !done; level-- {
		t := x.tables[level]
		var inner error
		err := t.file.Scan(from, func(id ID, v []uint32) bool {
			var emit bool
			if emit, inner = x.belongs(level, id, location{v[0], v[1]}); inner != nil {
				return false
			}
			if emit && !yield(id) {
				done = true
			}
			return !done
		})
		if err == nil {
			err = inner
		}
		if err != nil {
			return fmt.Errorf("list %q: %w", t.name(), err)
		}
		from = 0
	}
	if done {
		return nil
	}
	return x.walkMemory(start < 0 && marker != nil, marker, yield)
}

// find returns the lowest layer that knows the marker, as a position in tables and the bucket to go on from; -1 stands
// for memory.
func (x *index) find(marker *ID) (level int, from int64, err error) {
	level = len(x.tables) - 1
	if marker == nil {
		return level, 0, nil
	}
	for ; level >= 0; level-- {
		pos, err := x.tables[level].file.Position(*marker)
		if err != nil {
			return 0, 0, err
		}
		if pos >= 0 {
			return level, pos + 1, nil
		}
	}
	if _, _, known := x.lookupMemory(*marker); !known {
		return 0, 0, fmt.Errorf("list behind %v: %w", *marker, ErrNotFound)
	}
	return -1, 0, nil
}

// belongs reports whether the object at an entry of a table is listed there: it exists, and no lower layer has it.
func (x *index) belongs(level int, id ID, loc location) (bool, error) {
	if mem, ok, known := x.lookupMemory(id); known {
		if !ok {
			return false, nil
		}
		loc = mem
	} else {
		for _, t := range x.tables[:level] {
			upper, ok, err := t.lookup(id)
			if err != nil {
				return false, err
			}
			if ok {
				loc = upper
				break
			}
		}
	}
	if loc == removed {
		return false, nil
	}
	return x.absentBelow(level, id)
}

func (x *index) absentBelow(level int, id ID) (bool, error) {
	for _, t := range x.tables[level+1:] {
		if _, ok, err := t.lookup(id); ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (x *index) walkMemory(fromMarker bool, marker *ID, yield func(ID) bool) error {
	var ids []ID
	for id, loc := range x.txn {
		if loc != removed {
			ids = append(ids, id)
		}
	}
	for id, loc := range x.tail {
		if _, changed := x.txn[id]; loc != removed && !changed {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	for _, id := range ids {
		if fromMarker && compareIDs(id, *marker) <= 0 {
			continue
		}
		absent, err := x.absentBelow(-1, id)
		if err != nil {
			return err
		}
		if absent && !yield(id) {
			return nil
		}
	}
	return nil
}

// compareIDs puts ids in the order of the buckets of the smallest table: as long as there are few, the reference lists
// them so.
func compareIDs(a, b ID) int {
	return cmp.Or(cmp.Compare(smallestSlot(a), smallestSlot(b)), slices.Compare(a[:], b[:]))
}

func smallestSlot(id ID) uint32 { return binary.LittleEndian.Uint32(id[:]) % hashindex.MinBuckets }

// writeTable writes a layer from the entries that fill adds, and opens it. Its name must not be in use by another table
// that is still needed.
func writeTable(s storage.Storage, t *table, h *hashindex.Table) error {
	t.sums = new(hashindex.Sums)
	err := s.WriteFile(t.name(), func(w io.Writer) error {
		_, err := h.WriteTo(io.MultiWriter(w, t.sums))
		return err
	})
	if err == nil {
		err = storage.WriteFile(s, t.sumsName(), t.sums.Bytes())
	}
	if err == nil {
		err = openTable(s, t)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", t.name(), err)
	}
	return nil
}
