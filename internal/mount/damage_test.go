package mount

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/archive"
	"garret/repository"
)

// random returns a generator with the seed in GARRET_TEST_SEED, or else a new one, which is logged.
func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("GARRET_TEST_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// contentOf stores random data in chunks of random sizes, some of them empty.
func (r *testRepo) contentOf(rng *rand.Rand, chunks, most int) (list []archive.Chunk, data []byte) {
	for range chunks {
		c := make([]byte, rng.IntN(most))
		for i := range c {
			c[i] = byte(rng.Uint32())
		}
		list = append(list, archive.Chunk{ID: r.put(c), Size: uint32(len(c))})
		data = append(data, c...)
	}
	return list, data
}

func TestReadsGiveWhatIsThereAtAnyOffset(t *testing.T) {
	rng := random(t)
	r := newTestRepo(t)
	chunks, data := r.contentOf(rng, 500, 100)
	r.add("x", r.stream(regular("a", chunks...)))
	fs, _ := r.open(Options{ChunkBytes: 1000}, "x")
	header := fuse.InHeader{NodeId: look(t, fs, fuse.FUSE_ROOT_ID, "a").NodeId}
	var open fuse.OpenOut
	if code := fs.Open(nil, &fuse.OpenIn{InHeader: header}, &open); !code.Ok() {
		t.Fatal(code)
	}
	for range 3000 {
		offset, buf := rng.IntN(len(data)+100), make([]byte, rng.IntN(1000))
		res, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh, Offset: uint64(offset)}, buf)
		if !code.Ok() {
			t.Fatalf("%d bytes at %d: %v", len(buf), offset, code)
		}
		got, _ := res.Bytes(buf)
		if want := data[min(offset, len(data)):min(offset+len(buf), len(data))]; !bytes.Equal(got, want) {
			t.Fatalf("%d bytes at %d are %x, want %x", len(buf), offset, got, want)
		}
	}
	for _, offset := range []uint64{1 << 63, 1<<63 - 1, 1<<64 - 1} {
		res, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh, Offset: offset}, make([]byte, 10))
		if code.Ok() && res.Size() != 0 {
			t.Errorf("there are %d bytes at %d", res.Size(), offset)
		}
	}
	if _, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh + 1}, make([]byte, 10)); code != fuse.EBADF {
		t.Errorf("a handle that is none: %v", code)
	}
	if code := fs.Open(nil, &fuse.OpenIn{InHeader: header, Flags: 1}, &open); code != fuse.EROFS {
		t.Errorf("open for writing: %v", code)
	}
}

func TestLostChunksAreErrorsWhereTheyWereOrZeros(t *testing.T) {
	r := newTestRepo(t)
	chunks := r.chunks([]byte(strings.Repeat("abcdefghij", 30)), 100)
	chunks[1].ID = repository.ID{1}                                    // missing
	chunks = append(chunks, archive.Chunk{ID: chunks[0].ID, Size: 50}) // of another size
	r.add("x", r.stream(regular("d/a", chunks...)))
	for _, allow := range []bool{false, true} {
		fs, warned := r.open(Options{AllowDamaged: allow}, "")
		header := fuse.InHeader{NodeId: look(t, fs, look(t, fs, look(t, fs, fuse.FUSE_ROOT_ID, "x").NodeId, "d").NodeId, "a").NodeId}
		var open fuse.OpenOut
		if code := fs.Open(nil, &fuse.OpenIn{InHeader: header}, &open); !code.Ok() {
			t.Fatal(code)
		}
		var bad []int
		for offset := 0; offset < 350; offset += 10 {
			buf := make([]byte, 10)
			res, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh, Offset: uint64(offset)}, buf)
			if !code.Ok() {
				bad = append(bad, offset)
				continue
			}
			got, _ := res.Bytes(buf)
			want := "abcdefghij"
			if offset/100 == 1 || offset >= 300 {
				want = strings.Repeat("\x00", 10)
			}
			if string(got) != want {
				t.Errorf("at %d is %q", offset, got)
			}
		}
		if n := len(bad); allow && n != 0 || !allow && (n != 15 || bad[0] != 100 || bad[9] != 190 || bad[10] != 300) {
			t.Errorf("errors at %d", bad)
		}
		// Beyond the damage there is no short read, which would mean the end of the file.
		res, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh, Offset: 50}, make([]byte, 100))
		if !allow && code != fuse.EIO || allow && res.Size() != 100 {
			t.Errorf("a read that reaches into the damage: %v", code)
		}
		if told := warned.of("x/d/a"); len(warned.paths()) != 1 || len(told) != 1 || !strings.HasPrefix(told[0], "bytes 100 to 199 are lost: ") {
			t.Errorf("told of %q", warned.paths())
		}
	}
}

func TestWhatComesAfterLostItemsIsShown(t *testing.T) {
	r := newTestRepo(t)
	content := r.chunks([]byte("content"), 7)
	var items []*archive.Item
	for i := range 5000 {
		items = append(items, regular(fmt.Sprintf("%04d", i), content...))
	}
	items = append(items, link("link to lost", "2500"))
	ids := r.stream(items...)
	if len(ids) < 3 {
		t.Fatalf("%d chunks", len(ids))
	}
	kept := map[repository.ID][]byte{}
	for _, id := range ids[1 : len(ids)-1] {
		kept[id] = r.objects[id]
		delete(r.objects, id)
	}
	r.add("x", ids)
	fs, warned := r.open(Options{TreeBytes: 1}, "x")
	list := readDir(t, fs, fuse.FUSE_ROOT_ID, false, 4096)
	if n := len(list); n < 20 || n > 4990 || list[0].Name != "0000" || list[n-1].Name != "4999" {
		t.Errorf("%d files from %v to %v", n, list[0], list[n-1])
	}
	for _, e := range []fuse.DirEntry{list[0], list[len(list)-1]} {
		if got, code := readFile(t, fs, e.Ino); !code.Ok() || got != "content" {
			t.Errorf("%v is %q, %v", e, got, code)
		}
	}
	if len(warned.of("")) != len(kept) || len(warned.of("link to lost")) != 1 {
		t.Errorf("told of %q", warned.paths())
	}

	// The kernel remembers files by where they are in the tree, so that a tree that is read again must be the same.
	again := func() (*tree, error) { return fs.load(t.Context(), 0) }
	first, err := fs.trees.value(0)
	if err != nil {
		t.Fatal(err)
	}
	for id, env := range kept {
		r.objects[id] = env
	}
	if tr, err := again(); err != nil || !slices.Equal(tr.entries, first.entries) {
		t.Errorf("when the chunks are there again: %v", err)
	}
	delete(r.objects, ids[0])
	if _, err := again(); err == nil || !strings.Contains(err.Error(), "no longer") {
		t.Errorf("when another chunk is missing: %v", err)
	}
}

func TestArchivesThatCannotBeReadAreErrorsAlone(t *testing.T) {
	r := newTestRepo(t)
	r.add("fine", r.stream(regular("a")))
	r.add("garbage", append([]repository.ID{r.put([]byte("\x87\xa3gid\xdb\x1f\xff\xff\xff")), r.put([]byte("garbage"))}, r.stream(regular("a"))...))
	r.add("cut off", []repository.ID{r.put(archive.AppendItem(archive.AppendItem(nil, regular("a")), regular("b"))[:60])})
	r.add("lost", nil)
	delete(r.objects, r.cat.Manifest.Archives["lost"].ID)
	fs, warned := r.open(Options{}, "")
	for _, name := range []string{"fine", "garbage", "cut off"} {
		if list := readDir(t, fs, look(t, fs, fuse.FUSE_ROOT_ID, name).NodeId, false, 4096); len(list) != 1 || list[0].Name != "a" {
			t.Errorf("%s has %v", name, list)
		}
	}
	if code := fs.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: look(t, fs, fuse.FUSE_ROOT_ID, "lost").NodeId}}, new(fuse.OpenOut)); code != fuse.EIO {
		t.Errorf("lost: %v", code)
	}
	if got := warned.paths(); !slices.Equal(got, []string{"cut off", "garbage", "lost"}) {
		t.Errorf("told of %q", warned.paths())
	}
}

func TestWarningsEnd(t *testing.T) {
	r := newTestRepo(t)
	var items []*archive.Item
	for i := range 3 * maxWarnings {
		items = append(items, link(fmt.Sprint(i), "gone"))
	}
	r.add("x", r.stream(items...))
	fs, warned := r.open(Options{}, "x")
	readDir(t, fs, fuse.FUSE_ROOT_ID, false, 4096)
	if n := len(warned.paths()); n != maxWarnings+1 || len(warned.of("")) != 1 {
		t.Errorf("%d warnings, and %q", n, warned.of(""))
	}
}

func TestWhatIsReadInOrderIsFetchedAhead(t *testing.T) {
	rng := random(t)
	r := newTestRepo(t)
	chunks, data := r.contentOf(rng, 200, 200_000)
	c := newContent(0, "a", chunks)
	reading := &reading{content: c}
	fetched := map[repository.ID]bool{}
	fetch := func(id repository.ID) bool { fetched[id] = true; return true }
	// The kernel's requests overtake each other.
	const step = 128 << 10
	for at := int64(0); at < c.size; at += 2 * step {
		reading.advance(at+step, step, fetch)
		reading.advance(at, step, fetch)
		// What is read next is on its way, and not much more.
		if next := at + 2*step; next < c.size {
			if i, _ := c.find(next); !fetched[c.chunks[i].ID] {
				t.Fatalf("chunk %d at %d is not fetched ahead", i, next)
			}
		}
		if far := at + 2*step + lastWindow + 200_000; far < c.size {
			if i, _ := c.find(far); fetched[c.chunks[i].ID] {
				t.Fatalf("chunk %d at %d is fetched already, at %d", i, far, at)
			}
		}
	}
	if len(fetched) < len(c.chunks)-5 {
		t.Errorf("%d of %d chunks were fetched", len(fetched), len(c.chunks))
	}
	clear(fetched)
	for range 100 {
		at := rng.Int64N(int64(len(data)))
		if skew := at - reading.next; skew >= -maxSkew && skew <= maxSkew {
			continue // which is no jump
		}
		if reading.advance(at, 4096, fetch); reading.window != 0 {
			t.Fatalf("a window of %d bytes after a jump", reading.window)
		}
	}
	if len(fetched) > 0 {
		t.Errorf("%d chunks were fetched ahead of jumps", len(fetched))
	}
}

func TestChunksAreFetchedOnceAndBounded(t *testing.T) {
	release := make(chan struct{})
	var calls [10]int
	get := func(_ context.Context, k int) ([]byte, error) {
		<-release
		calls[k]++
		if k == 9 {
			return nil, repository.ErrNotFound
		}
		return make([]byte, 100), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := newCache(ctx, get, func(data []byte) int64 { return int64(len(data)) }, 350, 1, 2)
	for i, k := range []int{0, 0, 1, 2} {
		if got := c.ahead(k); got != (k < 2) {
			t.Errorf("call %d, to fetch %d ahead: %t; two, and not more, can be", i, k, got)
		}
	}
	done := make(chan error)
	for range 5 {
		go func() { _, err := c.value(0); done <- err }()
	}
	close(release)
	for range 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	c.tasks.Wait()
	if calls[0] != 1 || calls[1] != 1 {
		t.Errorf("fetched %v times", calls)
	}
	for k := range 9 {
		if _, err := c.value(k); err != nil {
			t.Error(err)
		}
		if c.size > 350 {
			t.Errorf("%d bytes", c.size)
		}
	}
	for range 2 {
		if _, err := c.value(9); err == nil {
			t.Error("got what is not there")
		}
	}
	if calls[9] != 2 {
		t.Errorf("an error was kept: %v", calls)
	}
	if cancel(); c.ahead(0) {
		t.Error("begun after the end")
	}
}

func TestWhoWaitsForARequestThatPanicsDoesNotWaitForEver(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	calls := 0
	get := func(context.Context, int) (string, error) {
		if calls++; calls == 1 {
			close(begun)
			<-release
			panic("mistake")
		}
		return "value", nil
	}
	c := newCache(t.Context(), get, func(s string) int64 { return int64(len(s)) }, 100, 1, 0)
	panicked := make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		c.value(1)
	}()
	<-begun
	waited := make(chan error)
	go func() { _, err := c.value(1); waited <- err }()
	close(release)
	if v := <-panicked; v != "mistake" {
		t.Errorf("recovered %v", v)
	}
	if err := <-waited; err != nil && err != errPanic { // it may have come too late to wait
		t.Error(err)
	}
	if v, err := c.value(1); v != "value" || err != nil {
		t.Errorf("afterwards: %q, %v", v, err)
	}
}
