package hashindex

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"garret/repository/segment"
)

// TestReferenceBytes holds the files against those of the reference implementation after the same operations.
func TestReferenceBytes(t *testing.T) {
	for _, c := range []struct {
		values int
		sum    string
	}{
		{2, "369a18ae6a52524eb2884a3c0fdc2824947edd017a2688c5d4d7b3510c245ab9"},
		{3, "ed22e8a883400453c0ee79a06c54df72c994a54eeefdc6c0989efdc5ee6d07b7"},
	} {
		table := New(c.values)
		set := func(x, v int) {
			vs := []uint32{uint32(v), uint32(v), uint32(v)}
			table.Set(segment.ID([]byte(fmt.Sprintf("%-32d", x))), vs[:c.values]...)
		}
		for x := range 100 {
			set(x, x)
		}
		for x := range 100 {
			set(x, 2*x)
		}
		for x := range 50 {
			if !table.Delete(segment.ID([]byte(fmt.Sprintf("%-32d", x)))) {
				t.Fatalf("key %d is not there", x)
			}
		}
		var b bytes.Buffer
		if _, err := table.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(b.Bytes()); hex.EncodeToString(got[:]) != c.sum {
			t.Errorf("%d values: file has SHA-256 %x, want %s", c.values, got, c.sum)
		}
	}
}

func randomID(rng *rand.Rand) (id segment.ID) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	return id
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestTableAndFileAgreeWithMap grows and shrinks a table and compares it, and its file, with a map.
func TestTableAndFileAgreeWithMap(t *testing.T) {
	rng := seeded(t)
	table, model := New(2), map[segment.ID][2]uint32{}
	var ids []segment.ID
	for range 30000 {
		switch {
		case len(ids) > 0 && rng.IntN(3) == 0:
			id := ids[rng.IntN(len(ids))]
			_, want := model[id]
			if got := table.Delete(id); got != want {
				t.Fatalf("Delete(%v) = %v", id, got)
			}
			delete(model, id)
		default:
			id := randomID(rng)
			ids = append(ids, id)
			v := [2]uint32{rng.Uint32() % MaxValue, rng.Uint32()}
			table.Set(id, v[:]...)
			model[id] = v
		}
	}
	var b bytes.Buffer
	var sums Sums
	if _, err := table.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := sums.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseSums(sums.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, sums := range []*Sums{nil, parsed} {
		f, err := OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()), 2, sums)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Verify(); err != nil {
			t.Fatal(err)
		}
		if f.Len() != len(model) || table.Len() != len(model) {
			t.Fatalf("%d and %d entries, want %d", f.Len(), table.Len(), len(model))
		}
		for _, id := range ids {
			want, ok := model[id]
			var got, inFile [2]uint32
			found := table.Get(id, got[:])
			foundInFile, err := f.Lookup(id, inFile[:])
			if err != nil || found != ok || foundInFile != ok || got != want || inFile != want {
				t.Fatalf("%v: table %v %v, file %v %v %v, want %v %v", id, got, found, inFile, foundInFile, err, want, ok)
			}
		}
		var listed []segment.ID
		if err := f.Scan(0, func(id segment.ID, v []uint32) bool {
			if want := model[id]; want != [2]uint32(v) {
				t.Errorf("scan gives %v for %v, want %v", v, id, want)
			}
			listed = append(listed, id)
			return true
		}); err != nil || len(listed) != len(model) {
			t.Fatalf("scan gives %d entries and %v", len(listed), err)
		}
		mid := len(listed) / 2
		pos, err := f.Position(listed[mid])
		if err != nil || pos < 0 {
			t.Fatalf("position %d, %v", pos, err)
		}
		rest := 0
		_ = f.Scan(pos+1, func(id segment.ID, _ []uint32) bool {
			rest++
			return id == listed[mid+rest]
		})
		if rest != len(listed)-mid-1 {
			t.Fatalf("scan behind entry %d of %d gives %d", mid, len(listed), rest)
		}
	}
}

// TestFlippedBitIsNoticed flips bits anywhere: with checksums no lookup may give a wrong answer, and without them Verify
// finds what makes an entry unfindable.
func TestFlippedBitIsNoticed(t *testing.T) {
	rng := seeded(t)
	table := New(2)
	var ids []segment.ID
	for i := range 700 {
		id := randomID(rng)
		ids = append(ids, id)
		table.Set(id, uint32(i), uint32(2*i))
	}
	var b bytes.Buffer
	var sums Sums
	_, _ = table.WriteTo(&b)
	_, _ = sums.Write(b.Bytes())
	for range 300 {
		damaged := bytes.Clone(b.Bytes())
		damaged[rng.IntN(len(damaged))] ^= 1 << rng.IntN(8)
		f, err := OpenFile(bytes.NewReader(damaged), int64(len(damaged)), 2, &sums)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			continue
		}
		failed := false
		for i, id := range ids {
			var v [2]uint32
			ok, err := f.Lookup(id, v[:])
			if err != nil {
				if !errors.Is(err, ErrDamaged) {
					t.Fatal(err)
				}
				failed = true
			} else if !ok || v != [2]uint32{uint32(i), uint32(2 * i)} {
				t.Fatalf("lookup of %v gives %v %v", id, v, ok)
			}
		}
		if err := f.Verify(); err == nil {
			t.Fatal("damage is not noticed")
		} else if !failed && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
}

func FuzzFile(f *testing.F) {
	var b bytes.Buffer
	table := New(2)
	table.Set(segment.ID{1}, 2, 3)
	_, _ = table.WriteTo(&b)
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:100])
	f.Add([]byte("ATTICIDX\x01\x00\x00\x00\x01\x00\x00\x00\x20\x08" + string(make([]byte, 40))))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := OpenFile(bytes.NewReader(data), int64(len(data)), 2, nil)
		if err != nil {
			return
		}
		var v [2]uint32
		_, _ = file.Lookup(segment.ID{1}, v[:])
		if file.Verify() != nil {
			return
		}
		// In a sound one a search and the map of a crowd give the same.
		_ = file.Scan(0, func(id segment.ID, want []uint32) bool {
			if ok, err := file.Lookup(id, v[:]); !ok || err != nil || v != [2]uint32(want) {
				t.Errorf("%v: %v %v %v", id, v, ok, err)
			}
			at, err := file.Position(id)
			if err != nil || at < 0 {
				t.Fatal(at, err)
			}
			c, err := file.crowd(at)
			if err != nil || !c.lookup(id, v[:]) || v != [2]uint32(want) {
				t.Errorf("%v in its crowd: %v %v", id, v, err)
			}
			return true
		})
	})
}
