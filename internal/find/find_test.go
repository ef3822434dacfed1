package find_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/find"
	"garret/internal/fsmeta"
	"garret/repository"
)

// repo is a repository in memory.
type repo struct {
	objects map[repository.ID][]byte
	cat     *catalog.Catalog
}

func newRepo(t testing.TB) *repo {
	t.Helper()
	r := &repo{objects: map[repository.ID][]byte{}}
	var err error
	if r.cat, err = catalog.New(r, envelope.NewPlaintext(), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// Get may be called by several goroutines.
func (r *repo) Get(_ context.Context, id repository.ID) ([]byte, error) {
	if data, ok := r.objects[id]; ok {
		return data, nil
	}
	return nil, repository.ErrNotFound
}

func (r *repo) put(t testing.TB, data []byte) repository.ID {
	t.Helper()
	env, err := r.cat.Key.Seal(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	id := r.cat.Key.ID(data)
	r.objects[id] = env
	return id
}

// add makes an archive.
func (r *repo) add(t testing.TB, name string, items []*archive.Item) *archive.Archive {
	t.Helper()
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) { return r.put(t, data), nil })
	for _, it := range items {
		if err := w.Add(it); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := w.Flush()
	if err != nil {
		t.Fatal(err)
	}
	a := &archive.Archive{Name: name, Items: ids}
	r.cat.Manifest.Archives[name] = archive.ArchiveRef{ID: r.put(t, a.Encode())}
	return a
}

func file(path string, content uint32) *archive.Item {
	return &archive.Item{
		Path: path, Mode: fsmeta.TypeRegular | 0o644, HasChunks: true,
		Chunks: []archive.Chunk{{ID: repository.ID{byte(content), byte(content >> 8)}, Size: content}},
	}
}

func (r *repo) find(t testing.TB, names []string, o find.Options) []string {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(err error) { t.Error(err) }
	}
	versions, err := find.Versions(t.Context(), r.cat, names, o)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range versions {
		line := fmt.Sprintf("%s %d:", v.Path, v.Size)
		for _, run := range v.Runs {
			line += fmt.Sprintf(" %d-%d", run.First, run.Last)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestVersionsAreTold(t *testing.T) {
	r := newRepo(t)
	later := file("x", 1)
	later.MTime.Sec = 9
	mode := file("x", 1)
	mode.Mode |= 0o111
	r.add(t, "a", []*archive.Item{file("x", 1), file("y", 1)})
	r.add(t, "b", []*archive.Item{file("x", 1)})
	r.add(t, "c", []*archive.Item{file("x", 2), file("y", 1)})
	r.add(t, "d", []*archive.Item{mode, file("z/x", 1)})
	r.add(t, "e", []*archive.Item{later, {Path: "x", Mode: fsmeta.TypeSymlink, Source: "y"}})
	all := func(path string) bool { return path != "z/x" }
	want := []string{"x 1: 0-1 3-3", "x 2: 2-2", "x 0: 4-4", "x 1: 4-4", "y 1: 0-0 2-2"}
	if d := cmp.Diff(want, r.find(t, []string{"a", "b", "c", "d", "e"}, find.Options{Match: all})); d != "" {
		t.Error(d)
	}
}

func TestWhatComesAfterGarbageIsFound(t *testing.T) {
	r := newRepo(t)
	a := r.add(t, "a", []*archive.Item{file("x", 1)})
	long, short := r.put(t, []byte("\x87\xa3gid\xdb\x1f\xff\xff\xff")), r.put(t, []byte("garbage"))
	a.Items = append([]repository.ID{long, short}, a.Items...)
	for _, name := range []string{"b", "c"} {
		a.Name = name
		r.cat.Manifest.Archives[name] = archive.ArchiveRef{ID: r.put(t, a.Encode())}
	}
	told := 0
	o := find.Options{Match: func(string) bool { return true }, Warn: func(error) { told++ }}
	if d := cmp.Diff([]string{"x 1: 0-2"}, r.find(t, []string{"a", "b", "c"}, o)); d != "" || told != 2 {
		t.Errorf("told of %d archives, %s", told, d)
	}
}

// TestWhatIsFoundFollowsTheModel searches archives that have most chunks in common, and compares with what is in them.
func TestWhatIsFoundFollowsTheModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRepo(t)
	var items []*archive.Item
	for i := range 4000 {
		it := file(fmt.Sprintf("%05d", i), uint32(rng.IntN(1000)))
		if i%1000 == 3 { // larger than what is remembered of a rest
			for range 2000 {
				it.Chunks = append(it.Chunks, archive.Chunk{ID: repository.ID{byte(rng.Uint32()), 7}})
			}
		}
		items = append(items, it)
	}
	match := func(path string) bool { return strings.HasSuffix(path, "3") || path < "00100" }
	var names, order []string
	want := map[string][]int{}
	total, different := 0, map[repository.ID]bool{}
	for n := range 12 {
		for range rng.IntN(4) {
			i := rng.IntN(len(items))
			switch rng.IntN(3) {
			case 0:
				items[i] = file(items[i].Path, uint32(rng.IntN(1000)))
			case 1:
				items = slices.Delete(items, i, i+1)
			case 2:
				items = slices.Insert(items, i, file(items[i].Path+"x3", 5))
			}
		}
		name := fmt.Sprint(n)
		names = append(names, name)
		a := r.add(t, name, items)
		for _, id := range a.Items {
			total++
			different[id] = true
		}
		for _, it := range items {
			if match(it.Path) {
				var size int64
				for _, c := range it.Chunks {
					size += int64(c.Size)
				}
				key := fmt.Sprintf("%s %d:", it.Path, size)
				if want[key] == nil {
					order = append(order, key)
				}
				if l := len(want[key]); l == 0 || want[key][l-1] != n {
					want[key] = append(want[key], n)
				}
			}
		}
	}
	var lines []string
	for _, key := range order {
		line, runs := key, want[key]
		for i := 0; i < len(runs); {
			j := i
			for j+1 < len(runs) && runs[j+1] == runs[j]+1 {
				j++
			}
			line += fmt.Sprintf(" %d-%d", runs[i], runs[j])
			i = j + 1
		}
		lines = append(lines, line)
	}
	got := r.find(t, names, find.Options{Match: match})
	slices.Sort(lines)
	slices.Sort(got)
	if d := cmp.Diff(lines, got); d != "" {
		t.Error(d)
	}
	t.Logf("%d chunks, %d different", total, len(different))

	// What is missing is told, and the rest is found.
	last := r.add(t, "last", items)
	delete(r.objects, last.Items[len(last.Items)/2])
	warned := 0
	again := r.find(t, append(names, "last"), find.Options{Match: match, Warn: func(error) { warned++ }})
	if warned == 0 || len(again) < len(got)/3 {
		t.Errorf("%d warnings, %d of %d versions", warned, len(again), len(got))
	}
}

func TestEqualChunksAreReadOnce(t *testing.T) {
	r := newRepo(t)
	var items []*archive.Item
	for i := range 20_000 {
		items = append(items, file(fmt.Sprintf("%05d", i), uint32(i)))
	}
	first := r.add(t, "first", items)
	if len(first.Items) < 5 {
		t.Fatalf("%d chunks of items", len(first.Items))
	}
	items[10_000] = file("10000", 1)
	r.add(t, "second", items)
	counting := &counter{repo: r}
	cat, err := catalog.New(counting, envelope.NewPlaintext(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cat.Manifest = r.cat.Manifest
	for n, limit := range []int{0, len(first.Items) + 1, len(first.Items) + 2 + 3, len(first.Items) + 3 + 3} {
		if n == 0 {
			continue
		}
		counting.gets = make(chan repository.ID, 1000)
		names := []string{"first", "second", "first"}[:n]
		versions, err := find.Versions(t.Context(), cat, names, find.Options{Match: func(string) bool { return true }})
		if err != nil || len(versions) != min(20_000+n-1, 20_001) {
			t.Fatalf("%d versions, %v", len(versions), err)
		}
		if gets := len(counting.gets); gets > limit {
			t.Errorf("%d archives: %d objects are read, not %d", n, gets, limit)
		}
	}
}

// counter counts what is read.
type counter struct {
	*repo
	gets chan repository.ID
}

func (c *counter) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	c.gets <- id
	return c.repo.Get(ctx, id)
}
