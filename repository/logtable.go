package repository

import (
	"hash/maphash"
	"math"
)

// logTable is where objects are, as the segments say: what a check compares with the index. It takes 40 bytes for each of
// its buckets, which are at least a quarter more than the objects that the segments mention, so 160 MB for 3 million; a
// map takes more than twice as much. Nobody can choose ids such that it becomes slow.
type logTable struct {
	seed maphash.Seed
	ids  []ID
	locs []location // freeBucket: none; removed: the object was deleted
	used int        // buckets
	live int        // objects
}

var freeBucket = location{segment: math.MaxUint32}

// newLogTable returns a table that takes so many objects without growing.
func newLogTable(objects int) *logTable {
	t := &logTable{seed: maphash.MakeSeed()}
	n := 1024
	for n/4*3 < objects {
		n *= 2
	}
	t.reset(n)
	return t
}

func (t *logTable) reset(n int) {
	t.ids, t.locs, t.used, t.live = make([]ID, n), make([]location, n), 0, 0
	for i := range t.locs {
		t.locs[i] = freeBucket
	}
}

// bucket returns the bucket that an object has, or would get.
func (t *logTable) bucket(id ID) int {
	mask := len(t.ids) - 1
	for i := int(maphash.Bytes(t.seed, id[:])) & mask; ; i = (i + 1) & mask {
		if t.locs[i] == freeBucket || t.ids[i] == id {
			return i
		}
	}
}

func (t *logTable) get(id ID) (location, bool) {
	loc := t.locs[t.bucket(id)]
	if loc == freeBucket || loc == removed {
		return location{}, false
	}
	return loc, true
}

func (t *logTable) set(id ID, loc location) {
	i := t.bucket(id)
	if t.locs[i] == freeBucket {
		if t.used >= len(t.ids)/4*3 {
			t.grow()
			i = t.bucket(id)
		}
		t.used++
		t.ids[i], t.locs[i] = id, removed
	}
	if t.locs[i] == removed {
		t.live++
	}
	t.locs[i] = loc
}

func (t *logTable) remove(id ID) {
	if i := t.bucket(id); t.locs[i] != freeBucket && t.locs[i] != removed {
		t.locs[i] = removed
		t.live--
	}
}

// grow makes room, by forgetting what was deleted, and with more buckets if that is not much.
func (t *logTable) grow() {
	old := *t
	n := len(old.ids)
	if old.live > n/2 {
		n *= 2
	}
	t.reset(n)
	for id, loc := range old.all {
		t.set(id, loc)
	}
}

// all calls yield with each object.
func (t *logTable) all(yield func(ID, location) bool) {
	for i, loc := range t.locs {
		if loc != freeBucket && loc != removed && !yield(t.ids[i], loc) {
			return
		}
	}
}
