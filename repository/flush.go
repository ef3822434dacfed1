package repository

import (
	"fmt"
	"slices"

	"garret/repository/hashindex"
	"garret/repository/storage"
)

// merging is how many of the tables are written anew together with the tail.
type merging int

const (
	mergeSmall merging = iota // those that are not much larger than what is above them
	mergeNone                 // none: what is written is small
	mergeAll                  // all, into a new base
)

// flush writes the tail as a table, together with the layers below it that are not much larger, so that it need not be
// replayed. After an error the tail is still there and what is on disk is as good as before.
func (r *Repository) flush() error { return r.flushAs(mergeSmall) }

// flushFull is flush on a full disk, with the help of the reserve. If there is no room for more, the tail alone is written,
// and what is there of an index that is not in use has to go first.
func (r *Repository) flushFull() error {
	err := r.withReserve(r.flush)
	if storage.IsFull(err) {
		r.removeStaleFiles()
		err = r.flushAs(mergeNone)
	}
	return err
}

// flushBase is flush of all layers into a new base, unless the base is all there is.
func (r *Repository) flushBase() error {
	if x := &r.index; len(x.tail) == 0 && len(x.tables) == 1 && x.tables[0].base {
		return nil
	}
	return r.flushAs(mergeAll)
}

func (r *Repository) flushAs(m merging) error {
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
	st.tables, err = r.layers(st.transaction, m)
	if err == nil {
		err = r.writeState(st)
	}
	if err != nil {
		r.dropUnused(st, storage.IsFull(err))
		return err
	}
	r.flushed, r.indexedAt = st, r.committed
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

// dropUnused closes the tables of a state that could not be written, but for those that are in use, and removes what was
// to become its files, if there is no room for what nobody needs.
func (r *Repository) dropUnused(st *state, remove bool) {
	used := map[string]bool{}
	for _, t := range r.index.tables {
		used[t.name()], used[t.sumsName()] = true, true
		used[fmt.Sprintf("%s%d", hintsPrefix, t.number)] = true
	}
	for _, t := range st.tables {
		if !slices.Contains(r.index.tables, t) {
			t.r.Close()
		}
	}
	for _, prefix := range []string{indexPrefix, hintsPrefix, deltaPrefix, sumsPrefix} {
		if name := fmt.Sprintf("%s%d", prefix, st.transaction); remove && !used[name] {
			_ = r.store.RemoveFile(name)
		}
	}
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
func (r *Repository) layers(transaction uint32, m merging) ([]*table, error) {
	x := &r.index
	if len(x.tail) == 0 && len(x.tables) > 0 && m != mergeAll {
		return x.tables, r.ensureSums(x.tables)
	}
	n, merged := len(x.tail), 0
	isSmall := func(t *table) bool { return m == mergeSmall && t.file.Len() < max(growth*n, r.opts.tuning.layer) }
	for merged < len(x.tables) && (m == mergeAll || isSmall(x.tables[merged])) {
		n += x.tables[merged].file.Len()
		merged++
	}
	isBase := merged == len(x.tables)
	if err := r.ensureSums(x.tables[merged:]); err != nil {
		return nil, err
	}
	h := hashindex.NewSmall(2, n)
	if isBase {
		h = hashindex.NewSized(2, x.count)
	}
	live := map[uint32]int{}
	add := func(id ID, loc location) {
		if isBase {
			if loc == removed {
				return
			}
			live[loc.segment]++
		}
		h.Add(id, loc.segment, loc.offset)
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
	for _, lower := range x.tables[:merged] {
		t.adopted = t.adopted || lower.adopted
	}
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
