package diff_test

import (
	"context"
	"fmt"
	"maps"
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
	"garret/internal/diff"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/repository"
)

// objects is a repository in memory.
type objects map[repository.ID][]byte

func (o objects) Get(_ context.Context, id repository.ID) ([]byte, error) {
	if data, ok := o[id]; ok {
		return data, nil
	}
	return nil, repository.ErrNotFound
}

type repo struct {
	objects
	cat *catalog.Catalog
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	r := &repo{objects: objects{}}
	var err error
	if r.cat, err = catalog.New(r, envelope.NewPlaintext(), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// archive makes an archive of items in their order.
func (r *repo) archive(t *testing.T, items ...*archive.Item) *archive.Archive {
	t.Helper()
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) {
		env, err := r.cat.Key.Seal(nil, data)
		id := r.cat.Key.ID(data)
		r.objects[id] = env
		return id, err
	})
	for _, it := range items {
		if err := w.Add(it); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := w.Flush()
	if err != nil {
		t.Fatal(err)
	}
	return &archive.Archive{Name: "x", Items: ids}
}

// file has chunks of the sizes given, of which the size is the content.
func file(path string, sizes ...uint32) *archive.Item {
	it := &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, HasChunks: true}
	for _, n := range sizes {
		it.Chunks = append(it.Chunks, archive.Chunk{ID: repository.ID{byte(n), byte(n >> 8), byte(n >> 16)}, Size: n})
	}
	return it
}

func link(path, source string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, Source: source}
}

func symlink(path, target string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeSymlink | 0o777, Source: target}
}

func dir(path string) *archive.Item { return &archive.Item{Path: path, Mode: fsmeta.TypeDir | 0o755} }

// with changes an item.
func with(it *archive.Item, change func(*archive.Item)) *archive.Item {
	change(it)
	return it
}

// describe writes a change on a line.
func describe(c *diff.Change) string {
	text := fmt.Sprintf("%s %s", c.Kind, c.Path)
	if c.Content || c.Kind != diff.Changed {
		text += fmt.Sprintf(" +%d -%d", c.BytesAdded, c.BytesRemoved)
	}
	if c.Attrs != (diff.Attrs{}) {
		for _, field := range strings.Fields(strings.Trim(fmt.Sprintf("%+v", c.Attrs), "{}")) {
			if name, ok := strings.CutSuffix(field, ":true"); ok {
				text += " " + name
			}
		}
	}
	if len(c.XattrsChanged) > 0 {
		text += " " + strings.Join(c.XattrsChanged, ",")
	}
	return text
}

func (r *repo) diff(t *testing.T, from, to *archive.Archive, o diff.Options) []string {
	t.Helper()
	if o.Warn == nil {
		o.Warn = func(err error) { t.Error(err) }
	}
	changes, err := diff.Archives(t.Context(), r.cat, from, to, o)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, describe(c))
	}
	return lines
}

func TestDifferences(t *testing.T) {
	r := newRepo(t)
	from := []*archive.Item{
		dir("d"), file("d/a", 1, 2, 3), file("d/b", 5), file("d/zero", 7, 7, 7), dir("d/gone"), file("d/gone/x", 100, 200), file("d-x", 1),
		symlink("e", "one"), file("f", 1), file("g", 1), file("h", 1), file("i", 9), file("j", 4), link("k", "j"), link("l", "j"), file("m"),
		with(file("n", 1), func(it *archive.Item) {
			it.Xattrs = map[string][]byte{"user.a": []byte("1"), "user.b": nil, "user.c": []byte("same")}
		}),
		with(file("o", 1), func(it *archive.Item) { it.User, it.ACLAccess = new("ann"), new("user::rwx") }),
		with(dir("p"), func(it *archive.Item) { it.Mode |= 0o2000 }),
	}
	to := []*archive.Item{
		dir("d"), file("d/a", 1, 4, 3), file("d/b", 5), file("d/new", 8), file("d/zero", 7, 7, 7, 7), file("d-x", 2),
		symlink("e", "two"), dir("f"), with(file("g", 1), func(it *archive.Item) { it.Mode |= 0o111; it.UID = 3 }),
		with(file("h", 1), func(it *archive.Item) { it.MTime.Sec = 5 }), file("j", 6), link("k", "j"), file("l", 4), link("m", "j"),
		with(file("n", 1), func(it *archive.Item) {
			it.Xattrs = map[string][]byte{"user.a": []byte("2"), "user.c": []byte("same"), "user.d": nil}
		}),
		with(file("o", 1), func(it *archive.Item) { it.User, it.BSDFlags = new("bob"), new(uint64(1)) }),
		dir("p"), link("q", "d/b"),
	}
	want := []string{
		"changed d/a +4 -2", "removed d/gone +0 -0", "removed d/gone/x +0 -300", "added d/new +8 -0", "changed d/zero +7 -0",
		"changed d-x +2 -1", "changed e Target", "changed f +0 -1 Type Mode", "changed g Mode Owner", "removed i +0 -9", "changed j +6 -4",
		"changed k +6 -4", "changed m +6 -0", "changed n user.a,user.b,user.d", "changed o Owner ACLAccess Flags", "changed p Mode",
		"added q +5 -0",
	}
	a, b := r.archive(t, from...), r.archive(t, to...)
	if d := cmp.Diff(want, r.diff(t, a, b, diff.Options{})); d != "" {
		t.Error(d)
	}
	if got := r.diff(t, a, a, diff.Options{MTime: true}); got != nil {
		t.Errorf("an archive differs from itself: %q", got)
	}
	only := func(path string) bool { return path == "h" || path == "k" || path == "q" }
	if got := r.diff(t, a, b, diff.Options{MTime: true, Match: only}); !slices.Equal(got, []string{"changed h MTime", "changed k +6 -4", "added q +5 -0"}) {
		t.Errorf("%q", got)
	}
	// The order does not matter.
	slices.Reverse(from)
	if d := cmp.Diff(want, r.diff(t, r.archive(t, from...), b, diff.Options{})); d != "" {
		t.Error(d)
	}
	// Of a path that comes twice, the last one counts.
	again := slices.Concat([]*archive.Item{file("d/a", 77), file("only-once", 1)}, to, []*archive.Item{dir("only-once")})
	if d := cmp.Diff(slices.Insert(slices.Clone(want), 15, "added only-once +0 -0"), r.diff(t, a, r.archive(t, again...), diff.Options{})); d != "" {
		t.Error(d)
	}
}

func TestLostItemsAreToldAndTheRestCompared(t *testing.T) {
	r := newRepo(t)
	var items []*archive.Item
	for i := range 30_000 {
		items = append(items, file(fmt.Sprintf("%05d", i), uint32(i%100)))
	}
	a := r.archive(t, items...)
	items[29_999] = file("29999", 12345)
	b := r.archive(t, items...)
	if len(b.Items) < 5 {
		t.Fatalf("%d chunks of items", len(b.Items))
	}
	delete(r.objects, b.Items[len(b.Items)-2])
	gaps := 0
	got := r.diff(t, a, b, diff.Options{Warn: func(error) { gaps++ }})
	if last := got[len(got)-1]; gaps != 2 && gaps != 1 || last != "changed 29999 +12345 -99" {
		t.Errorf("%d gaps, %q", gaps, last)
	}
	for _, line := range got[:len(got)-1] {
		if !strings.HasPrefix(line, "removed ") {
			t.Errorf("%q", line)
		}
	}
}

// TestDifferencesFollowTheModel compares random archives with what tables of their paths say.
func TestDifferencesFollowTheModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRepo(t)
	for range 200 {
		var tables [2]map[string]uint32
		var archives [2]*archive.Archive
		shuffled := rng.IntN(2) == 0
		for side := range tables {
			tables[side] = map[string]uint32{}
			for range rng.IntN(20) {
				path := strings.TrimSuffix(strings.Repeat(string("a-!é\xff"[rng.IntN(5)])+"/", 1+rng.IntN(3))+string("ab"[rng.IntN(2)]), "/")
				tables[side][path] = 1 + uint32(rng.IntN(3))
			}
			paths := slices.SortedFunc(maps.Keys(tables[side]), archive.ComparePaths)
			if shuffled {
				rng.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
			}
			var items []*archive.Item
			for _, p := range paths {
				items = append(items, file(p, tables[side][p]))
			}
			archives[side] = r.archive(t, items...)
		}
		all := maps.Clone(tables[0])
		maps.Copy(all, tables[1])
		var want []string
		for _, p := range slices.SortedFunc(maps.Keys(all), archive.ComparePaths) {
			switch a, b := tables[0][p], tables[1][p]; {
			case a == b:
			case a == 0:
				want = append(want, fmt.Sprintf("added %s +%d -0", p, b))
			case b == 0:
				want = append(want, fmt.Sprintf("removed %s +0 -%d", p, a))
			default:
				want = append(want, fmt.Sprintf("changed %s +%d -%d", p, b, a))
			}
		}
		if d := cmp.Diff(want, r.diff(t, archives[0], archives[1], diff.Options{})); d != "" {
			t.Fatal(d)
		}
	}
}
