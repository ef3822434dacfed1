package hashindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"garret/repository/segment"
)

// Keys that somebody has chosen, who controls what is stored.

// written returns the file of a table.
func written(t *testing.T, table *Table) *File {
	t.Helper()
	var b bytes.Buffer
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()), 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// withPrefix returns a key that begins with four chosen bytes.
func withPrefix(rng *rand.Rand, prefix uint32) segment.ID {
	id := randomID(rng)
	binary.LittleEndian.PutUint32(id[:], prefix)
	return id
}

// cost looks up keys that are there and keys that are not, and returns how many buckets that took for each on the average.
func cost(t *testing.T, f *File, there, absent []segment.ID) float64 {
	t.Helper()
	total := int64(0)
	var v [2]uint32
	for i, id := range there {
		found, probed, err := f.lookup(id, v[:])
		if err != nil || !found || v != [2]uint32{uint32(i), uint32(2 * i)} {
			t.Fatalf("lookup of %v: %v %v %v", id, v, found, err)
		}
		total += probed
	}
	for _, id := range absent {
		found, probed, err := f.lookup(id, v[:])
		if err != nil || found {
			t.Fatalf("lookup of what is not there: %v %v", found, err)
		}
		total += probed
	}
	return float64(total) / float64(len(there)+len(absent))
}

// TestChosenKeysAreNoCrowd has keys that would all belong in one bucket of a table whose size is a power of two.
func TestChosenKeysAreNoCrowd(t *testing.T) {
	rng := seeded(t)
	const n = 20_000
	table := NewSized(2, n)
	var there, absent []segment.ID
	for i := range n {
		there = append(there, withPrefix(rng, uint32(i)<<16|7)) // the same modulo 65536
		table.Add(there[i], uint32(i), uint32(2*i))
		absent = append(absent, withPrefix(rng, rng.Uint32()<<16|7))
	}
	if got := cost(t, written(t, table), there, absent); got > 20 {
		t.Errorf("a lookup looks at %.1f buckets", got)
	}
}

// TestEqualPrefixesAreNoSearch has keys that belong in one bucket of any table.
func TestEqualPrefixesAreNoSearch(t *testing.T) {
	rng := seeded(t)
	const n = 100_000
	table := NewSized(2, 2*n)
	var there, absent []segment.ID
	for i := range 2 * n {
		prefix := rng.Uint32()
		if i < n {
			prefix = 0xffffffff // around the end, or nearly
		}
		there = append(there, withPrefix(rng, prefix))
		table.Add(there[i], uint32(i), uint32(2*i))
		absent = append(absent, withPrefix(rng, prefix))
	}
	f := written(t, table)
	if got := cost(t, f, there, absent); got > 20 {
		t.Errorf("a lookup looks at %.1f buckets", got)
	}
	if err := f.Verify(); err != nil {
		t.Error(err)
	}
	for i := 0; i < 2*n; i += 997 {
		at, err := f.Position(there[i])
		if err != nil || at < 0 {
			t.Fatalf("position of key %d: %d %v", i, at, err)
		}
		found := false
		_ = f.Scan(at, func(id segment.ID, _ []uint32) bool { found = id == there[i]; return false })
		if !found {
			t.Fatalf("key %d is not at its position", i)
		}
		if at, err := f.Position(absent[i]); err != nil || at >= 0 {
			t.Fatalf("position of what is not there: %d %v", at, err)
		}
	}
}

// TestDeletedBucketsAreNoSearch has a table, as the reference leaves it, in which no bucket was ever made empty again.
func TestDeletedBucketsAreNoSearch(t *testing.T) {
	rng := seeded(t)
	const n = 1 << 17
	table := newTable(2, n)
	for i := range n {
		table.setFirst(i, deleted)
	}
	var there, absent []segment.ID
	for i := range 20_000 {
		there = append(there, randomID(rng))
		absent = append(absent, randomID(rng))
		at := slot(there[i], n)
		for table.first(at) < deleted {
			at = (at + 1) % n
		}
		copy(table.bucket(at), there[i][:])
		table.setFirst(at, uint32(i))
		binary.LittleEndian.PutUint32(table.bucket(at)[segment.KeySize+4:], uint32(2*i))
		table.entries++
	}
	f := written(t, table)
	if got := cost(t, f, there, absent); got > 20 {
		t.Errorf("a lookup looks at %.1f buckets", got)
	}
	if err := f.Verify(); err != nil {
		t.Error(err)
	}
}

// TestCrowdsGiveWhatASearchGives holds lookups in tables with long runs of full buckets against a plain search, where keys
// are misplaced, there twice, and deleted.
func TestCrowdsGiveWhatASearchGives(t *testing.T) {
	rng := seeded(t)
	for range 40 {
		n := 1500 + rng.IntN(3000)
		table := newTable(2, n)
		var ids []segment.ID
		for range 300 {
			ids = append(ids, randomID(rng))
		}
		gaps := rng.IntN(6)
		for i := range n {
			id := ids[rng.IntN(len(ids))]
			copy(table.bucket(i), id[:])
			table.setFirst(i, uint32(i))
			if rng.IntN(3) == 0 {
				table.setFirst(i, deleted)
			} else {
				table.entries++
			}
		}
		for range gaps {
			table.setFirst(rng.IntN(n), empty)
		}
		table.entries = min(table.entries, n)
		f := written(t, table)
		rng.Shuffle(len(ids), func(i, k int) { ids[i], ids[k] = ids[k], ids[i] })
		for _, id := range ids {
			want := -1
			for k := range n {
				i := (slot(id, n) + k) % n
				first := table.first(i)
				if first == empty {
					break
				}
				if first != deleted && segment.ID(table.bucket(i)) == id {
					want = i
					break
				}
			}
			var v [2]uint32
			found, err := f.Lookup(id, v[:])
			if err != nil || found != (want >= 0) || found && int(v[0]) != want {
				t.Fatalf("%d buckets, %d gaps: found %v at %d, %v; a search finds %d", n, gaps, found, v[0], err, want)
			}
			if at, err := f.Position(id); err != nil || int(at) != want {
				t.Fatalf("position %d, %v; a search finds %d", at, err, want)
			}
		}
	}
}

// TestVerifyFindsAKeyThatIsThereTwice has a bucket written over another, as a write in the wrong place does it: the number of
// entries is right, and all that a lookup gives.
func TestVerifyFindsAKeyThatIsThereTwice(t *testing.T) {
	rng := seeded(t)
	table := newTable(2, 1500)
	id := randomID(rng)
	for i := range 2 {
		at := (slot(id, table.n) + i) % table.n
		copy(table.bucket(at), id[:])
		table.setFirst(at, 7)
		binary.LittleEndian.PutUint32(table.bucket(at)[segment.KeySize+4:], 8)
		table.entries++
	}
	if err := written(t, table).Verify(); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
