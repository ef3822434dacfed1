package archive

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tinylib/msgp/msgp"

	"garret/internal/chunker"
	"garret/internal/rawpack"
	"garret/repository"
)

func TestTimesOfAnyCenturyAreKept(t *testing.T) {
	for _, n := range []Nanos{
		{},
		{0, 999_999_999},
		{-1, 999_999_999},
		{-2, 499_999_999},
		{math.MaxInt64 / 1_000_000_000, 854_775_807}, // the greatest of 63 bits
		{math.MaxInt64 / 1_000_000_000, 854_775_808}, // and the next
		{math.MinInt64/1_000_000_000 - 1, 145_224_193},
		{math.MinInt64/1_000_000_000 - 1, 145_224_192},
		{math.MinInt64/1_000_000_000 - 1, 145_224_191},
		{math.MaxInt64, 999_999_999},
		{math.MinInt64, 0},
		NanosOf(time.Date(2400, 1, 1, 0, 0, 0, 123456789, time.UTC)),
	} {
		data := appendNanos(nil, n)
		r := rawpack.NewReader(data)
		if got := readNanos(r); got != n || r.Err() != nil || r.Len() != 0 {
			t.Errorf("%v is read back from %x as %v, %v", n, data, got, r.Err())
		}
		// The rule of the format, in its own words.
		v := new(big.Int).Add(new(big.Int).Mul(big.NewInt(n.Sec), big.NewInt(1_000_000_000)), big.NewInt(int64(n.Nsec)))
		fits := v.BitLen() <= 63
		if isRaw := rawpack.NewReader(data).NextIsRaw(); isRaw == fits {
			t.Errorf("%v has %d bits, and is written as %x", n, v.BitLen(), data)
		}
		if !fits && len(data) != 1+(v.BitLen()+9)/8 {
			t.Errorf("%v has %d bits, and is written in %d bytes", n, v.BitLen(), len(data)-1)
		}
	}
}

func TestTimeThatIsTooLargeIsRefused(t *testing.T) {
	for _, raw := range []string{strings.Repeat("\x7f", 13), strings.Repeat("x", 17), strings.Repeat("\x80", 16)} {
		r := rawpack.NewReader(rawpack.AppendRaw(nil, raw))
		if n := readNanos(r); r.Err() == nil {
			t.Errorf("%x is read as %v", raw, n)
		}
	}
}

// fullItem has something in every field.
func fullItem() *Item {
	return &Item{
		Path: "a/b\xff", Mode: 0o100644, UID: 1, GID: math.MaxUint32, User: new("root"), MTime: Nanos{1, 2}, HasChunks: true,
		Chunks: []Chunk{{repository.ID{1}, 2, 3}, {repository.ID{4}, math.MaxUint32, 0}}, Source: "x", Rdev: new(uint64(7)),
		ChunksHealthy: []Chunk{{repository.ID{1}, 2, 3}, {repository.ID{5}, 1, 1}},
		Xattrs:        map[string][]byte{"user.a": []byte("b"), "user.empty": nil},
		ACLAccess:     new("user::rw-"), ACLDefault: new(""), BSDFlags: new(uint64(1 << 40)),
	}
}

func TestItemIsReadBack(t *testing.T) {
	for _, it := range []*Item{fullItem(), {Path: "p", HasChunks: true, Chunks: []Chunk{}}, {Path: ""}} {
		got, err := DecodeItem(AppendItem(nil, it))
		if diff := cmp.Diff(it, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestItemOfTheNewerTypesAndWithUnknownKeysIsRead(t *testing.T) {
	b := msgp.AppendMapHeader(nil, 5)
	b = msgp.AppendString(msgp.AppendString(b, "path"), strings.Repeat("p", 40)) // str8
	b = msgp.AppendInt(msgp.AppendBytes(b, []byte("mode")), 0o100644)
	b = msgp.AppendArrayHeader(msgp.AppendString(b, "chunks"), 1)
	b = msgp.AppendArrayHeader(b, 3)
	b = msgp.AppendInt(msgp.AppendInt(msgp.AppendBytes(b, make([]byte, 32)), 5), 6) // bin8
	b = msgp.AppendFloat64(msgp.AppendString(b, "unknown"), 1)
	b, _ = msgp.AppendIntf(msgp.AppendString(b, "another"), map[string]any{"a": []any{1, nil}})
	it, err := DecodeItem(b)
	want := &Item{Path: strings.Repeat("p", 40), Mode: 0o100644, HasChunks: true, Chunks: []Chunk{{Size: 5, CSize: 6}}}
	another, _ := msgp.AppendIntf(nil, map[string]any{"a": []any{1, nil}})
	want.Unknown = Unknown(msgp.AppendFloat64([]byte("\xa7unknown"), 1)) + "\xa7another" + Unknown(another)
	if diff := cmp.Diff(want, it); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if again, err := DecodeItem(AppendItem(nil, it)); err != nil || !cmp.Equal(it, again) {
		t.Errorf("written and read again it is %+v, %v", again, err)
	}
}

func TestTimesAreWrittenAsTheReferenceDoes(t *testing.T) {
	for want, at := range map[string]time.Time{
		"2014-05-13T16:53:20.123456": time.Date(2014, 5, 13, 16, 53, 20, 123456789, time.UTC),
		"2014-05-13T16:53:20.000001": time.Date(2014, 5, 13, 18, 53, 20, 1999, time.FixedZone("", 7200)),
		"2014-05-13T16:53:20":        time.Date(2014, 5, 13, 16, 53, 20, 999, time.UTC),
	} {
		r := rawpack.NewReader(appendTime(nil, at))
		if got := r.Text(); got != want {
			t.Errorf("%v is written as %q, want %q", at, got, want)
		}
	}
}

func TestManifestIsReadBack(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	m := &Manifest{
		Archives:  map[string]ArchiveRef{"b": {ID: repository.ID{1}, Time: at}, "a": {ID: repository.ID{2}, Time: at}},
		Timestamp: at, Config: []byte("\x81\xa1k\x92\x01\x02"),
	}
	got, err := DecodeManifest(m.Encode())
	if diff := cmp.Diff(m, got, cmpopts.IgnoreUnexported(Manifest{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	delete(got.Archives, "a")
	got.Archives["c"] = ArchiveRef{ID: repository.ID{3}, Time: at}
	again, err := DecodeManifest(got.Encode())
	if diff := cmp.Diff(got, again, cmpopts.IgnoreUnexported(Manifest{})); err != nil || diff != "" {
		t.Errorf("changed: %v\n%s", err, diff)
	}
	if got, err := DecodeManifest(new(Manifest).Encode()); err != nil || len(got.Archives) != 0 || !got.Timestamp.IsZero() {
		t.Errorf("empty: %+v, %v", got, err)
	}
}

func TestArchiveIsReadBack(t *testing.T) {
	a := &Archive{
		Name: "n", Items: []repository.ID{{1}, {2}}, Cmdline: []string{"garret", "\xff"}, Hostname: "h", Username: "u",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	got, err := DecodeArchive(a.Encode())
	if diff := cmp.Diff(a, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestMalformedRecordsAreRefused(t *testing.T) {
	manifest, arch, item := new(Manifest).Encode(), new(Archive).Encode(), AppendItem(nil, fullItem())
	for i := range manifest {
		if _, err := DecodeManifest(manifest[:i]); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("manifest of %d bytes: %v", i, err)
		}
	}
	for i := range arch {
		if _, err := DecodeArchive(arch[:i]); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("archive of %d bytes: %v", i, err)
		}
	}
	for i := range item {
		if _, err := DecodeItem(item[:i]); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("item of %d bytes: %v", i, err)
		}
	}
	for name, data := range map[string]string{
		"something follows":   string(manifest) + "\x00",
		"no map":              "\x90",
		"no version":          "\x80",
		"config is no map":    "\x82\xa6config\x01\xa7version\x01",
		"an archive is null":  "\x82\xa8archives\x81\xa1a\xc0\xa7version\x01",
		"an id of 31 bytes":   "\x82\xa8archives\x81\xa1a\x81\xa2id\xbf" + strings.Repeat("x", 31) + "\xa7version\x01",
		"a time that is none": "\x82\xa9timestamp\xa4soon\xa7version\x01",
	} {
		if _, err := DecodeManifest([]byte(data)); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, data := range map[string]string{
		"no path":              "\x81\xa4mode\x01",
		"a key that is no raw": "\x81\x01\x01",
		"many chunks":          "\x83\xa4mode\x01\xa4path\xa0\xa6chunks\xdd\x7f\xff\xff\xff",
		"a chunk of two parts": "\x83\xa4mode\x01\xa4path\xa0\xa6chunks\x91\x92\xc0\xc0" + strings.Repeat("\xc0", 60),
	} {
		if _, err := DecodeItem([]byte(data)); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewerRecordsAreNoDamage is about what a later version may write.
func TestNewerRecordsAreNoDamage(t *testing.T) {
	for name, data := range map[string]string{
		"version 2":      "\x81\xa7version\x02",
		"another form":   "\x82\xa8archives\x93\x01\x02\x03\xa7version\x02",
		"other times":    "\x82\xa9timestamp\x07\xa7version\x05",
		"a key behind":   "\x82\xa7version\x02\xa3zoo\xc0",
		"cmdline a text": "\x82\xa7cmdline\xa1x\xa7version\x02",
	} {
		_, manifest := DecodeManifest([]byte(data))
		_, record := DecodeArchive([]byte(data))
		for _, err := range []error{manifest, record} {
			if !errors.Is(err, repository.ErrNewer) || errors.Is(err, repository.ErrIntegrity) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if a := LooksNewer([]byte(data)); a != nil {
			t.Errorf("%s: it looks like an archive", name)
		}
		if _, err := DecodeArchive([]byte(data[:len(data)-1])); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("%s, cut off: %v", name, err)
		}
	}
	a := LooksNewer([]byte("\x84\xa5items\xc0\xa4name\xa1a\xa4time\xb32014-05-13T16:53:20\xa7version\x02"))
	if a == nil || a.Name != "a" || a.Time.Year() != 2014 {
		t.Errorf("found %+v", a)
	}
	const head = "\x83\xa4mode\x01\xa4path\xa1p"
	for name, data := range map[string]string{
		"a chunk of four parts": head + "\xa6chunks\x91\x94\xd9\x20" + strings.Repeat("i", 32) + "\x01\x02\x03",
		"times of seconds":      head + "\xa5mtime\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if _, err := DecodeItem([]byte(data)); !errors.Is(err, repository.ErrNewer) || errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownKeysAreWrittenAgain reads and writes what has keys that are not known at each place.
func TestUnknownKeysAreWrittenAgain(t *testing.T) {
	ref := ArchiveRef{ID: repository.ID{1}, Time: time.Unix(7, 0).UTC(), Unknown: "\xa4tags\x91\xa1x"}
	m := &Manifest{Archives: map[string]ArchiveRef{"a": ref}, Timestamp: time.Unix(9, 0).UTC(), Unknown: "\xa4zoom\x01\xa5zooms\xc0"}
	again, err := DecodeManifest(m.Encode())
	if err != nil || again.Unknown != m.Unknown || again.Archives["a"] != ref {
		t.Errorf("%+v, %v", again, err)
	}
	a := &Archive{Name: "a", Time: time.Unix(7, 0).UTC(), Unknown: "\xa6hidden\xa2hi"}
	if again, err := DecodeArchive(a.Encode()); err != nil || again.Unknown != a.Unknown {
		t.Errorf("%+v, %v", again, err)
	}
	it := &Item{Path: "p", Mode: 1}
	for i := range 300 {
		it.Unknown += Unknown(msgp.AppendInt(msgp.AppendString(nil, fmt.Sprintf("key %d", i)), i))
	}
	if again, err := DecodeItem(AppendItem(nil, it)); err != nil || again.Unknown != it.Unknown {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestItemStreamInPiecesGivesTheItems(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var stream []byte
	var want []*Item
	for i := range 300 {
		it := fullItem()
		it.Path = strings.Repeat("x", i)
		want = append(want, it)
		stream = AppendItem(stream, it)
	}
	var got []*Item
	var d ItemDecoder
	for len(stream) > 0 {
		n := min(len(stream), 1+rnd.IntN(400))
		piece := bytes.Clone(stream[:n])
		d.Feed(piece)
		clear(piece)
		stream = stream[n:]
		for {
			it, ok, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got = append(got, it)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMalformedItemStreamIsRefusedAtItsPosition(t *testing.T) {
	good := AppendItem(nil, fullItem())
	for name, bad := range map[string]string{
		"no map":    "\x01",
		"cut off":   string(good[:len(good)-1]),
		"no item":   "\x81\xa4path\xa1p",
		"too large": "\x81\xdd\xff\xff\xff\xff",
		"extension": "\x81\xc7\x01",
		"very long": "\x82\xa4path\xdb\xff\xff\xff\xff",
	} {
		var d ItemDecoder
		d.Feed(append(bytes.Clone(good), bad...))
		if _, ok, err := d.Next(); !ok || err != nil {
			t.Fatalf("%s: the first item: %v", name, err)
		}
		d.Next()
		err := d.Close()
		if !errors.Is(err, repository.ErrIntegrity) || !strings.Contains(err.Error(), "byte "+big.NewInt(int64(len(good))).String()+" ") {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok, again := d.Next(); ok || !errors.Is(again, err) {
			t.Errorf("%s: then %v", name, again)
		}
	}
}

func TestItemWriterKeepsLittleInMemoryAndLosesNothing(t *testing.T) {
	var stored []byte
	var sizes []int
	w := NewItemWriter(5, func(data []byte) (repository.ID, error) {
		stored = append(stored, data...)
		sizes = append(sizes, len(data))
		return repository.ID{byte(len(sizes))}, nil
	})
	var want []byte
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		it := fullItem()
		for range rnd.IntN(5) {
			it.Chunks = append(it.Chunks, Chunk{repository.ID{byte(rnd.Uint32()), byte(rnd.Uint32())}, 1, 1})
		}
		if i == 10_000 {
			it.Chunks = make([]Chunk, 400_000) // longer than the chunker's buffer
		}
		want = AppendItem(want, it)
		if err := w.Add(it); err != nil {
			t.Fatal(err)
		}
		if len(w.buf) > chunker.BufferSize {
			t.Fatalf("%d bytes are gathered", len(w.buf))
		}
	}
	ids, err := w.Flush()
	if err != nil || len(ids) != len(sizes) || !bytes.Equal(stored, want) {
		t.Errorf("%d ids of %d chunks, %d bytes of %d, %v", len(ids), len(sizes), len(stored), len(want), err)
	}
	full := errors.New("full")
	w = NewItemWriter(5, func([]byte) (repository.ID, error) { return repository.ID{}, full })
	w.Add(fullItem())
	for range 2 {
		if _, err := w.Flush(); !errors.Is(err, full) {
			t.Error(err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	m := &Manifest{Archives: map[string]ArchiveRef{"a": {Time: time.Unix(1, 0)}}, Timestamp: time.Unix(2, 3000)}
	f.Add(m.Encode())
	f.Add([]byte("\x82\xa8archives\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data)
		if err != nil {
			return
		}
		if m.Config == nil {
			m.Config = []byte{0x80} // which is written for it
		}
		again, err := DecodeManifest(m.Encode())
		if diff := cmp.Diff(m, again, cmpopts.IgnoreUnexported(Manifest{})); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func FuzzArchive(f *testing.F) {
	f.Add((&Archive{Name: "n", Items: []repository.ID{{1}}, Cmdline: []string{"x"}, Time: time.Unix(1, 0)}).Encode())
	f.Add((&Archive{Comment: "c", Tags: []string{"t"}, Unknown: "\xa1u\xc0"}).Encode())
	f.Add([]byte("\x82\xa5items\xdd\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeArchive(data)
		if err != nil {
			return
		}
		if again, err := DecodeArchive(a.Encode()); err != nil || !cmp.Equal(a, again, cmpopts.EquateEmpty()) {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzItem(f *testing.F) {
	f.Add(AppendItem(nil, fullItem()), uint8(3))
	f.Add([]byte("\x83\xa4mode\x01\xa4path\xa0\xa6chunks\xdd\x7f\xff\xff\xff"), uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		it, err := DecodeItem(data)
		if err == nil {
			again, err := DecodeItem(AppendItem(nil, it))
			if err != nil || !cmp.Equal(it, again, cmpopts.EquateEmpty()) {
				t.Errorf("%+v became %+v, %v", it, again, err)
			}
		}
		var d ItemDecoder
		first := true
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			d.Feed(rest[:n])
			rest = rest[n:]
			for {
				got, ok, streamErr := d.Next()
				if !ok || streamErr != nil {
					break
				}
				if first && err == nil && !cmp.Equal(it, got) {
					t.Errorf("%+v in the stream, %+v alone", got, it)
				}
				first = false
			}
		}
		if streamErr := d.Close(); err == nil && streamErr != nil {
			t.Errorf("alone it is read, in the stream: %v", streamErr)
		}
	})
}

func TestItemOfManyChunksIsReadAtOnce(t *testing.T) {
	want := &Item{Path: "large", HasChunks: true, Chunks: make([]Chunk, 500_000)}
	stream := AppendItem(nil, want)
	var d ItemDecoder
	for len(stream) > 0 {
		if _, ok, err := d.Next(); ok || err != nil {
			t.Fatal("too early", err)
		}
		n := min(len(stream), 1000)
		d.Feed(stream[:n])
		stream = stream[n:]
	}
	it, ok, err := d.Next()
	if !ok || err != nil || !slices.Equal(it.Chunks, want.Chunks) || d.Close() != nil {
		t.Errorf("%v, %v, %d chunks", ok, err, len(it.Chunks))
	}
}

func TestAfterGarbageTheItemsGoOn(t *testing.T) {
	item := func(path string) []byte { return AppendItem(nil, &Item{Path: path, Mode: 0o100644}) }
	for _, garbage := range []string{
		"\x05garbage\xff\x00", "\x87\xdb\x1f\xff\xff\xff", "\x87\xa3gid\xdb\x1f\xff\xff\xff", "\x05\x87\xa3gid\x01\xdb\x00\xff\xff\xff",
		"\x87\xa3gid\x01\xdd\x00\xff\xff\xff", "\x8a", "\xdf\x00\x00\xff\xff",
	} {
		itemsGoOnAfter(t, slices.Concat(item("a"), item("b"), []byte(garbage), item("c"), item("d")))
	}
}

// itemsGoOnAfter reads a stream with garbage between the items b and c.
func itemsGoOnAfter(t *testing.T, stream []byte) {
	t.Helper()
	for size := 1; size <= len(stream); size++ {
		var dec ItemDecoder
		var got []string
		failures := 0
		drain := func() {
			for {
				it, ok, err := dec.Next()
				switch {
				case err != nil:
					if failures++; dec.InSync() {
						t.Fatal("in sync after an error")
					}
					dec.Recover()
				case !ok:
					return
				default:
					got = append(got, it.Path)
				}
			}
		}
		for data := stream; len(data) > 0; data = data[min(size, len(data)):] {
			dec.Feed(data[:min(size, len(data))])
			drain()
		}
		if err := dec.Close(); err != nil {
			failures++
			dec.Recover()
		}
		drain()
		if failures != 1 || !slices.Equal(got, []string{"a", "b", "c", "d"}) || dec.Buffered() > 0 {
			t.Fatalf("%q in pieces of %d: %q, %d failures, %d bytes left", stream, size, got, failures, dec.Buffered())
		}
	}
}

func TestAfterAGapTheItemsGoOn(t *testing.T) {
	var stream []byte
	var starts []int
	for i := range 200 {
		starts = append(starts, len(stream))
		it := &Item{
			Path: fmt.Sprintf("dir/%d \x87\xa3gid\x87\xa6chunks\xdd\x00\x0f\xff\xff", i), Mode: 0o100644, HasChunks: i%3 == 0,
			Chunks: make([]Chunk, i%3),
		}
		stream = AppendItem(stream, it)
	}
	for size := 1; size < 400; size += 7 { // of the pieces in which the stream comes
		const from, to = 3000, 5001 // what is missing
		var dec ItemDecoder
		var got []string
		feed := func(data []byte) {
			for ; len(data) > 0; data = data[min(size, len(data)):] {
				dec.Feed(data[:min(size, len(data))])
				for {
					it, ok, err := dec.Next()
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						break
					}
					got = append(got, it.Path)
				}
			}
		}
		feed(stream[:from])
		dec.Skip()
		feed(stream[to:])
		if err := dec.Close(); err != nil {
			t.Fatal(err)
		}
		whole := 0
		for i, start := range starts {
			end := len(stream)
			if i+1 < len(starts) {
				end = starts[i+1]
			}
			if end <= from || start >= to+200 { // names that look like items may cost one or two more
				whole++
			}
		}
		if len(got) < whole {
			t.Fatalf("in pieces of %d: %d items, want %d", size, len(got), whole)
		}
	}
}

func TestOffsetsTellWhereItemsAre(t *testing.T) {
	var stream []byte
	var want []int64
	for i := range 50 {
		want = append(want, int64(len(stream)))
		stream = AppendItem(stream, &Item{Path: strings.Repeat("p", i+1), Mode: 0o100644, HasChunks: true})
	}
	// A part in the midst of the stream is missing: what was fed has the offsets, up to the gap and after it.
	gapFrom, gapTo := int(want[20])+5, int(want[30])+5
	fed := append(slices.Clone(stream[:gapFrom]), stream[gapTo:]...)
	var dec ItemDecoder
	var got []string
	next := func() {
		for {
			it, ok, err := dec.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			var again ItemDecoder
			again.Feed(fed[dec.Offset():])
			if same, ok, err := again.Next(); !ok || err != nil || same.Path != it.Path {
				t.Fatalf("at %d is %v, %v, want %q", dec.Offset(), same, err, it.Path)
			}
			got = append(got, it.Path)
		}
	}
	for chunk := range slices.Chunk(stream[:gapFrom], 17) {
		dec.Feed(chunk)
		next()
	}
	dec.Skip()
	for chunk := range slices.Chunk(stream[gapTo:], 17) {
		dec.Feed(chunk)
		next()
	}
	if len(got) != 39 || len(got[20]) != 32 {
		t.Errorf("%d items: %q", len(got), got)
	}
}
