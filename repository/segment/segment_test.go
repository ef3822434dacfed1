package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// build returns a segment with a PUT for each value, a DELETE after every second one, and a COMMIT.
func build(values ...string) ([]byte, []Entry) {
	b := []byte(Magic)
	var entries []Entry
	for i, v := range values {
		id := ID{byte(i + 1)}
		h := PutHeader(id, []byte(v))
		entries = append(entries, Entry{Put, id, int64(len(b)), KeyedSize + len(v)})
		b = append(append(b, h[:]...), v...)
		if i%2 == 1 {
			e := DeleteEntry(id)
			entries = append(entries, Entry{Delete, id, int64(len(b)), KeyedSize})
			b = append(b, e[:]...)
		}
	}
	entries = append(entries, Entry{Commit, ID{}, int64(len(b)), HeaderSize})
	return append(b, CommitEntry[:]...), entries
}

func scan(b []byte) ([]Entry, []string, error) {
	var entries []Entry
	var values []string
	s := NewScanner(bytes.NewReader(b), int64(len(b)))
	for s.Scan() {
		entries = append(entries, s.Entry())
		if s.Entry().Tag == Put {
			values = append(values, string(s.Value()))
		}
	}
	return entries, values, s.Err()
}

func salvage(b []byte, known []int64) ([]Entry, []Range, error) {
	var entries []Entry
	bad, err := Salvage(bytes.NewReader(b), int64(len(b)), known, func(e Entry, raw []byte) error {
		if !VerifyChecksum(raw) || len(raw) != e.Size {
			return fmt.Errorf("entry at %d is not sound", e.Offset)
		}
		entries = append(entries, e)
		return nil
	})
	return entries, bad, err
}

func TestScanReturnsWhatWasWritten(t *testing.T) {
	values := []string{"", "one", string(make([]byte, 300_000)), "three", string(bytes.Repeat([]byte("x"), windowSize))}
	b, want := build(values...)
	entries, got, err := scan(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(values, got); diff != "" {
		t.Errorf("values differ")
	}
	if end, err := End(bytes.NewReader(b), int64(len(b))); err != nil || end != EndsCommitted {
		t.Errorf("it ends %v, %v", end, err)
	}
}

// TestEveryFlippedBitIsNoticed also holds salvage to keep all entries but the damaged one.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	b, want := build("", "one", "two hundred", "three")
	for i := range len(b) * 8 {
		damaged := bytes.Clone(b)
		damaged[i/8] ^= 1 << (i % 8)
		if _, _, err := scan(damaged); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d: scan gives %v", i, err)
		}
		entries, bad, err := salvage(damaged, nil)
		if err != nil || len(bad) != 1 {
			t.Fatalf("bit %d: salvage gives %v, %v", i, bad, err)
		}
		var expected []Entry
		for _, e := range want {
			if at := int64(i / 8); at < e.Offset || at >= e.Offset+int64(e.Size) {
				expected = append(expected, e)
			}
		}
		if diff := cmp.Diff(expected, entries); diff != "" {
			t.Fatalf("bit %d: salvaged (-want +got):\n%s", i, diff)
		}
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	b, want := build("", "one", "two")
	ends := map[int]bool{MagicSize: true}
	for _, e := range want {
		ends[int(e.Offset)+e.Size] = true
	}
	for n := range b {
		_, _, err := scan(b[:n])
		if (err == nil) != ends[n] && n > 0 {
			t.Errorf("cut off at %d: %v", n, err)
		}
		if end, err := End(bytes.NewReader(b[:n]), int64(n)); end != EndsOpen || err != nil {
			t.Errorf("cut off at %d: it ends %v, %v", n, end, err)
		}
		if _, _, err := salvage(b[:n], nil); err != nil {
			t.Errorf("cut off at %d: salvage gives %v", n, err)
		}
	}
}

func TestDamagedCommitIsToldFromTornOne(t *testing.T) {
	b, _ := build("one")
	for bit := range HeaderSize * 8 {
		damaged := bytes.Clone(b)
		at := len(b) - HeaderSize + bit/8
		damaged[at] ^= 1 << (bit % 8)
		want := EndsDamaged
		if len(bytes.Trim(damaged[at:], "\x00")) == 0 {
			want = EndsOpen // as a write leaves it that was cut short
		}
		if end, err := End(bytes.NewReader(damaged), int64(len(b))); err != nil || end != want {
			t.Errorf("bit %d: it ends %v, %v, want %v", bit, end, err, want)
		}
	}
	for torn := 1; torn <= HeaderSize; torn++ {
		zeroed := bytes.Clone(b)
		clear(zeroed[len(b)-torn:])
		if end, err := End(bytes.NewReader(zeroed), int64(len(b))); err != nil || end != EndsOpen {
			t.Errorf("last %d bytes zeroed: it ends %v, %v", torn, end, err)
		}
	}
}

// TestCommitAcrossSectorsMayBeTorn has garbage in one of the two sectors that hold a COMMIT, as a crash can leave it.
func TestCommitAcrossSectorsMayBeTorn(t *testing.T) {
	for first := 1; first < HeaderSize; first++ { // bytes in the first of the sectors
		size := 2*sectorSize + HeaderSize - first
		b, _ := build(string(make([]byte, size-MagicSize-KeyedSize-HeaderSize)))
		if len(b) != size {
			t.Fatal(len(b))
		}
		for at := size - HeaderSize; at < size; at++ {
			torn := bytes.Clone(b)
			torn[at] ^= 0x11
			if end, err := End(bytes.NewReader(torn), int64(size)); err != nil || end != EndsOpen {
				t.Errorf("%d bytes in the first sector, garbage at %d: it ends %v, %v", first, at, end, err)
			}
		}
		damaged := bytes.Clone(b)
		damaged[size-HeaderSize] ^= 0x11
		damaged[size-1] ^= 0x11
		if end, err := End(bytes.NewReader(damaged), int64(size)); err != nil || end != EndsDamaged {
			t.Errorf("%d bytes in the first sector, both wrong: it ends %v, %v", first, end, err)
		}
	}
}

func TestSalvageUsesKnownOffsets(t *testing.T) {
	inner, _ := build("an object of another repository", "and one more")
	b, want := build("first", string(inner), "last")
	// The header is gone, so the value is searched byte by byte, and holds what looks like entries. The first one found
	// there leads on, but the known offset behind must be reached too.
	second := want[1].Offset
	clear(b[second : second+HeaderSize])
	entries, bad, err := salvage(b, []int64{want[0].Offset, want[3].Offset})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("damaged: %v", bad)
	found := map[int64]bool{}
	for _, e := range entries {
		found[e.Offset] = true
	}
	for _, i := range []int{0, 3, 4} {
		if !found[want[i].Offset] {
			t.Errorf("entry at %d was not salvaged", want[i].Offset)
		}
	}
}

// TestSalvageIsBounded gives it a content of which every byte looks like the beginning of a large entry.
func TestSalvageIsBounded(t *testing.T) {
	b := []byte(Magic)
	pattern := []byte{0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00} // sizes of 3 MiB
	for len(b) < 8<<20 {
		b = append(b, pattern...)
	}
	entries, bad, err := salvage(b, nil)
	if err != nil || len(entries) != 0 || len(bad) != 1 {
		t.Fatal(len(entries), bad, err)
	}
}

func FuzzScanAndSalvage(f *testing.F) {
	b, _ := build("", "one", "two")
	f.Add(b, int64(0))
	f.Add(b[:50], int64(8))
	f.Add(append([]byte("ATTICSEG"), make([]byte, 100)...), int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, known int64) {
		scanned, _, scanErr := scan(data)
		kept, bad, err := salvage(data, []int64{known})
		if err != nil {
			t.Fatal(err)
		}
		if scanErr == nil && len(data) > 0 && (len(bad) > 0 || len(kept) != len(scanned)) {
			t.Fatalf("scan gives %d entries, salvage %d and %v", len(scanned), len(kept), bad)
		}
		// What is kept and what is bad make up the whole.
		var sum int64
		for _, e := range kept {
			sum += int64(e.Size)
		}
		for _, r := range bad {
			sum += r.Length
		}
		if len(data) >= MagicSize && string(data[:MagicSize]) == Magic {
			sum += int64(MagicSize)
		}
		if sum != int64(len(data)) {
			t.Fatalf("%d bytes are accounted for, of %d", sum, len(data))
		}
	})
}

func BenchmarkScan(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 64<<10)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	seg := []byte(Magic)
	for len(seg) < 5<<20 {
		h := PutHeader(ID{1}, value)
		seg = append(append(seg, h[:]...), value...)
	}
	b.SetBytes(int64(len(seg)))
	s := new(Scanner)
	for b.Loop() {
		s.Reset(bytes.NewReader(seg), int64(len(seg)))
		for s.Scan() {
		}
		if s.Err() != nil {
			b.Fatal(s.Err())
		}
	}
}

// TestNewerEntriesAreNoDamage is about entries that a later version has written.
func TestNewerEntriesAreNoDamage(t *testing.T) {
	entry := func(tag byte, size int) []byte {
		b := binary.LittleEndian.AppendUint32(make([]byte, 4), uint32(size))
		b = append(b, tag)
		for len(b) < size {
			b = append(b, byte(len(b)))
		}
		binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[4:]))
		return b
	}
	flipped := entry(3, 100)
	flipped[50] ^= 1
	put := PutHeader(ID{1}, nil)
	for name, c := range map[string]struct {
		entry []byte
		want  error
	}{
		"tag 3":               {entry(3, 100), ErrNewer},
		"tag 255":             {entry(255, HeaderSize), ErrNewer},
		"a longer COMMIT":     {entry(byte(Commit), 20), ErrNewer},
		"a longer DELETE":     {entry(byte(Delete), 100), ErrNewer},
		"too short":           {entry(3, HeaderSize)[:8], ErrDamaged},
		"a wrong checksum":    {flipped, ErrDamaged},
		"cut off":             {entry(3, 100)[:99], ErrDamaged},
		"zeros":               {make([]byte, 100), ErrDamaged},
		"longer than allowed": {binary.LittleEndian.AppendUint32(make([]byte, 4), MaxEntrySize+1), ErrDamaged},
	} {
		seg := append(append([]byte(Magic), put[:]...), c.entry...)
		s := NewScanner(bytes.NewReader(seg), int64(len(seg)))
		n := 0
		for s.Scan() {
			n++
		}
		if n != 1 || !errors.Is(s.Err(), c.want) || errors.Is(s.Err(), ErrDamaged) && errors.Is(s.Err(), ErrNewer) {
			t.Errorf("%s: %d entries, %v, want %v", name, n, s.Err(), c.want)
		}
		_, err := Salvage(bytes.NewReader(seg), int64(len(seg)), nil, func(Entry, []byte) error { return nil })
		if isNewer := c.want == ErrNewer; isNewer != errors.Is(err, ErrNewer) || !isNewer && err != nil {
			t.Errorf("%s: salvage: %v", name, err)
		}
	}
	foreign := BorgMagic + string(CommitEntry[:])
	s := NewScanner(strings.NewReader(foreign), int64(len(foreign)))
	if s.Scan() || !errors.Is(s.Err(), ErrForeign) || errors.Is(s.Err(), ErrDamaged) {
		t.Errorf("a segment of Borg's: %v", s.Err())
	}
}
