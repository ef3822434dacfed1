package cache

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/campaign"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// newRandom returns a random generator whose seed is logged, and can be given by GARRET_TEST_SEED.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// objects is a repository in memory, which counts what is read.
type objects struct {
	m     map[repository.ID][]byte
	reads atomic.Int32
}

func (o *objects) Get(_ context.Context, id repository.ID) ([]byte, error) {
	o.reads.Add(1)
	if data, ok := o.m[id]; ok {
		return slices.Clone(data), nil
	}
	return nil, repository.ErrNotFound
}

func (o *objects) put(t *testing.T, key *envelope.Key, data []byte) archive.Chunk {
	t.Helper()
	env, err := key.Seal(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	id := key.ID(data)
	o.m[id] = env
	return archive.Chunk{ID: id, Size: uint32(len(data)), CSize: uint32(len(env))}
}

// A testRepo is a repository in memory with archives of which everything is known.
type testRepo struct {
	t     *testing.T
	store *objects
	cat   *catalog.Catalog
	uses  map[string]map[repository.ID]archive.Chunk // by archive
	stats map[string]Stats                           // of the archive alone, without what is deduplicated
}

func newTestRepo(t *testing.T) *testRepo {
	t.Helper()
	store := &objects{m: map[repository.ID][]byte{}}
	cat, err := catalog.New(store, envelope.NewPlaintext(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &testRepo{
		t: t, store: store, cat: cat,
		uses: map[string]map[repository.ID]archive.Chunk{}, stats: map[string]Stats{},
	}
}

// chunk returns the chunk of a content that has a number.
func (r *testRepo) chunk(n int) archive.Chunk {
	return r.store.put(r.t, r.cat.Key, []byte(fmt.Sprintf("chunk %d", n)))
}

// create makes an archive of one file for each list of chunks, and of a link that has none.
func (r *testRepo) create(name string, files ...[]int) {
	r.t.Helper()
	uses, stats := map[repository.ID]archive.Chunk{}, Stats{}
	use := func(c archive.Chunk) {
		uses[c.ID] = c
		stats.Original += int64(c.Size)
		stats.Compressed += int64(c.CSize)
	}
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) {
		c := r.store.put(r.t, r.cat.Key, data)
		use(c)
		return c.ID, nil
	})
	for i, file := range files {
		it := &archive.Item{Path: fmt.Sprintf("%s-%d", name, i), Mode: 0o100644, HasChunks: true}
		for _, n := range file {
			c := r.chunk(n)
			it.Chunks = append(it.Chunks, c)
			use(c)
		}
		stats.Files++
		if err := w.Add(it); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := w.Add(&archive.Item{Path: name, Mode: 0o120777, Source: "x"}); err != nil {
		r.t.Fatal(err)
	}
	ids, err := w.Flush()
	if err != nil {
		r.t.Fatal(err)
	}
	a := &archive.Archive{Name: name, Items: ids, Time: time.Unix(int64(len(r.uses)), 0)}
	record := r.store.put(r.t, r.cat.Key, a.Encode())
	use(record)
	r.cat.Manifest.Archives[name] = archive.ArchiveRef{ID: record.ID, Time: a.Time}
	r.uses[name], r.stats[name] = uses, stats
}

func (r *testRepo) id(name string) repository.ID { return r.cat.Manifest.Archives[name].ID }

// remove takes archives and the objects that only they use out of the repository.
func (r *testRepo) remove(names ...string) {
	for _, id := range r.unused(names...) {
		delete(r.store.m, id)
	}
	for _, name := range names {
		delete(r.cat.Manifest.Archives, name)
		delete(r.uses, name)
		delete(r.stats, name)
	}
}

// unused returns, sorted, what no archive but some use.
func (r *testRepo) unused(names ...string) []repository.ID {
	ids := map[repository.ID]bool{}
	for _, name := range names {
		for id := range r.uses[name] {
			ids[id] = true
		}
	}
	for name, uses := range r.uses {
		if !slices.Contains(names, name) {
			maps.DeleteFunc(ids, func(id repository.ID, _ bool) bool { _, used := uses[id]; return used })
		}
	}
	return sorted(slices.Collect(maps.Keys(ids)))
}

func sorted(ids []repository.ID) []repository.ID {
	slices.SortFunc(ids, func(a, b repository.ID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return ids
}

func (r *testRepo) total() (s Stats) {
	all := map[repository.ID]archive.Chunk{}
	for name, one := range r.stats {
		s.Files += one.Files
		s.Original += one.Original
		s.Compressed += one.Compressed
		maps.Copy(all, r.uses[name])
	}
	for _, c := range all {
		s.Deduplicated += int64(c.CSize)
		s.Chunks++
	}
	return s
}

// one returns the statistics of an archive.
func (r *testRepo) one(name string) Stats {
	s := r.stats[name]
	for _, id := range r.unused(name) {
		s.Deduplicated += int64(r.uses[name][id].CSize)
		s.Chunks++
	}
	return s
}

func (r *testRepo) names() []string { return slices.Sorted(maps.Keys(r.uses)) }

// open opens a table that must be sound.
func (r *testRepo) open(dir string) *Chunks {
	return OpenChunks(dir, repository.ID{1}, func(err error) { r.t.Errorf("unexpected warning: %v", err) })
}

func (r *testRepo) sync(c *Chunks) {
	r.t.Helper()
	if err := c.Sync(r.t.Context(), r.store, r.cat, nil); err != nil {
		r.t.Fatal(err)
	}
}

func (r *testRepo) save(c *Chunks) {
	r.t.Helper()
	if err := c.Save(); err != nil {
		r.t.Fatal(err)
	}
}

// verify compares a table with the repository.
func (r *testRepo) verify(c *Chunks) {
	r.t.Helper()
	if diff := cmp.Diff(r.total(), c.Total()); diff != "" {
		r.t.Fatalf("all archives: %s", diff)
	}
	for _, name := range r.names() {
		got, ok := c.Archive(r.id(name))
		if diff := cmp.Diff(r.one(name), got); diff != "" || !ok {
			r.t.Fatalf("archive %q: %s", name, diff)
		}
		r.verifyUnused(c, name)
		for id, want := range r.uses[name] {
			if got, ok := c.Lookup(id); !ok || got != want {
				r.t.Fatalf("archive %q, chunk %v: %v, %v", name, id, got, ok)
			}
		}
	}
}

func (r *testRepo) verifyUnused(c *Chunks, names ...string) {
	r.t.Helper()
	ids, _, err := c.Unused(r.cat.Manifest, names)
	if err != nil {
		r.t.Fatal(err)
	}
	if want := r.unused(names...); !slices.Equal(sorted(ids), want) {
		r.t.Fatalf("archives %q: %d objects would become unused, want %d", names, len(ids), len(want))
	}
}

// TestTablesAgreeWithTheArchives makes and deletes archives at random, and keeps a few tables of them, which are synced,
// saved, loaded, lost and put back to older states.
func TestTablesAgreeWithTheArchives(t *testing.T) {
	rnd := newRandom(t)
	r := newTestRepo(t)
	dirs := make([]string, 3)
	for i := range dirs {
		dirs[i] = filepath.Join(t.TempDir(), "cache")
	}
	made := 0
	steps := campaign.Share(t, 300, 60)
	for range steps {
		switch names := r.names(); {
		case len(names) > 0 && rnd.IntN(10) < 4:
			rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			r.remove(names[:1+rnd.IntN(min(3, len(names)))]...)
		default:
			made++
			files := make([][]int, rnd.IntN(5))
			for i := range files {
				for range rnd.IntN(40) {
					files[i] = append(files[i], rnd.IntN(200)+made/10*50)
				}
			}
			r.create(fmt.Sprintf("archive-%d", made), files...)
		}
		dir := dirs[rnd.IntN(len(dirs))]
		switch rnd.IntN(12) {
		case 0:
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		case 1:
			// A state that another one had at some time, or has.
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			other := dirs[rnd.IntN(len(dirs))]
			if _, err := os.Stat(other); err == nil {
				if err := os.CopyFS(dir, os.DirFS(other)); err != nil {
					t.Fatal(err)
				}
			}
		}
		c := r.open(dir)
		r.sync(c)
		r.verify(c)
		if names := r.names(); len(names) > 1 {
			r.verifyUnused(c, names[:1+rnd.IntN(len(names))]...)
		}
		if rnd.IntN(3) > 0 {
			r.save(c)
			r.verify(r.open(dir))
		}
	}
}

func TestOnlyWhatIsNewIsRead(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	for i := range 5 {
		r.create(fmt.Sprintf("a%d", i), []int{1, 2, 3 + i})
	}
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	for _, step := range []struct {
		what   string
		change func()
		reads  int
	}{
		{"nothing", func() {}, 0},
		{"a deletion", func() { r.remove("a2", "a0") }, 0},
		{"a new one", func() { r.create("new", []int{2, 77}) }, 2}, // its record and its items
	} {
		step.change()
		c = r.open(dir)
		r.store.reads.Store(0)
		r.sync(c)
		if n := int(r.store.reads.Load()); n != step.reads {
			t.Errorf("%s: %d objects were read, want %d", step.what, n, step.reads)
		}
		r.verify(c)
		r.save(c)
	}
}

func TestArchivesAreAddedAsTheyAreMade(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	r.create("old", []int{1, 2})
	c := r.open(dir)
	r.sync(c)
	r.create("new", []int{2, 3, 3}, []int{4})
	u := c.NewUses()
	u.Files = 2
	for _, n := range []int{2, 3, 3, 4} {
		u.Add(r.chunk(n))
	}
	rec, err := r.cat.Archive(t.Context(), "new")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range rec.Items {
		u.Add(r.uses["new"][id])
	}
	c.Add(r.uses["new"][r.id("new")], u)
	r.verify(c)
	r.save(c)
	c = r.open(dir)
	if unseen := c.Unseen(r.cat.Manifest); unseen != nil {
		t.Errorf("%q are unseen", unseen)
	}
	r.verify(c)

	// Under a new name it has a new record.
	rec.Name = "renamed"
	record := r.store.put(t, r.cat.Key, rec.Encode())
	old := r.id("new")
	c.Replace(old, record)
	r.stats["renamed"], r.uses["renamed"] = r.stats["new"], maps.Clone(r.uses["new"])
	delete(r.uses["renamed"], old)
	r.uses["renamed"][record.ID] = record
	s := r.stats["new"]
	s.Original += int64(record.Size) - int64(r.uses["new"][old].Size)
	s.Compressed += int64(record.CSize) - int64(r.uses["new"][old].CSize)
	r.stats["renamed"] = s
	r.cat.Manifest.Archives["renamed"] = archive.ArchiveRef{ID: record.ID}
	delete(r.cat.Manifest.Archives, "new")
	delete(r.uses, "new")
	delete(r.stats, "new")
	r.verify(c)
	r.save(c)
	r.verify(r.open(dir))
}

// TestDamagedFilesAreNoticed changes the files of a table in many ways. Each must be noticed or make no difference.
func TestDamagedFilesAreNoticed(t *testing.T) {
	rnd := newRandom(t)
	r := newTestRepo(t)
	dir := t.TempDir()
	for i := range 3 {
		r.create(fmt.Sprintf("a%d", i), []int{1, 2, 3 + i, 50 + 2*i})
	}
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	files, err := filepath.Glob(filepath.Join(dir, rootName+"*"))
	if err != nil || len(files) != 3 { // the lock is one of them
		t.Fatalf("%q, %v", files, err)
	}
	times := campaign.Share(t, 400, 80)
	for range times {
		bad := t.TempDir()
		if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(bad, filepath.Base(files[rnd.IntN(len(files))]))
		if filepath.Base(path) == lockName {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Clone(data)
		at := rnd.IntN(len(data))
		switch rnd.IntN(4) {
		case 0:
			data[at] ^= 1 << rnd.IntN(8)
		case 1:
			data = data[:at]
		case 2:
			clear(data[at:])
		case 3:
			data = append(data, make([]byte, 1+rnd.IntN(100))...)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		warnings := 0
		c := OpenChunks(bad, repository.ID{1}, func(error) { warnings++ })
		same := slices.Equal(data, whole) || filepath.Base(path) != rootName && len(data) >= len(whole) &&
			slices.Equal(data[:len(whole)], whole) // rows that nothing speaks of
		if noticed := warnings > 0; noticed == same {
			t.Fatalf("%s at %d of %d: %d warnings", path, at, len(whole), warnings)
		}
		if warnings > 0 && len(c.archives) > 0 {
			t.Fatal("a table that cannot be used is not empty")
		}
		r.sync(c)
		r.verify(c)
		r.save(c)
		r.verify(r.open(bad)) // all is well again
		if left, err := filepath.Glob(filepath.Join(bad, rootName+"*")); err != nil || len(left) != 3 {
			t.Fatalf("%q, %v", left, err)
		}
	}
}

// hostileRoot writes a table whose checksums are right.
func hostileRoot(t *testing.T, dir string, rows int, runs []byte) {
	t.Helper()
	c := OpenChunks(dir, repository.ID{1}, func(err error) { t.Fatal(err) })
	for i := range rows {
		c.rows.append(archive.Chunk{ID: repository.ID{byte(i)}})
	}
	c.archives[repository.ID{9}] = &entry{runs: runs}
	c.dirty = true
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
}

func TestRunsThatCannotBeAreDamage(t *testing.T) {
	v := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	for name, tt := range map[string]struct {
		runs []byte
		ok   bool
	}{
		"all":          {v(0, 8), true},
		"two":          {v(1, 2, 3, 2), true},
		"beyond":       {v(0, 9), false},
		"far beyond":   {v(1<<63, 1<<63), false},
		"gap too long": {v(0, 4, 5, 0), false},
		"no length":    {v(3), false},
		"length 0":     {v(8, 0), false},
		"half a gap":   {[]byte{0x80}, false},
		"no number":    {slices.Repeat([]byte{0xff}, 20), false},
	} {
		dir := t.TempDir()
		hostileRoot(t, dir, 8, tt.runs)
		warnings := 0
		OpenChunks(dir, repository.ID{1}, func(error) { warnings++ })
		if ok := warnings == 0; ok != tt.ok {
			t.Errorf("%s: accepted is %v", name, ok)
		}
	}
}

func TestATableOfAnotherRepositoryIsNotUsed(t *testing.T) {
	r := newTestRepo(t)
	r.create("a", []int{1})
	dir := t.TempDir()
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	var warning error
	c = OpenChunks(dir, repository.ID{2}, func(err error) { warning = err })
	if warning == nil || !strings.Contains(warning.Error(), "another repository") || len(c.archives) > 0 {
		t.Errorf("warning %v", warning)
	}
}

func TestACrashBetweenTheFilesLeavesTheTableAsItWas(t *testing.T) {
	r := newTestRepo(t)
	r.create("a", []int{1, 2})
	dir := t.TempDir()
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	root, err := os.ReadFile(filepath.Join(dir, rootName))
	if err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(r.cat.Manifest.Archives)
	r.create("b", []int{2, 3, 4})
	c = r.open(dir)
	r.sync(c)
	r.save(c)
	if err := os.WriteFile(filepath.Join(dir, rootName), root, 0o600); err != nil {
		t.Fatal(err)
	}
	c = r.open(dir)
	for id := range c.archives {
		if before["a"].ID != id {
			t.Errorf("archive %v is known", id)
		}
	}
	r.sync(c)
	r.verify(c)
	r.save(c)
	r.verify(r.open(dir))
}

func TestTwoWhoWriteDoNotMix(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	r.create("a", []int{1, 2})
	first, second := r.open(dir), r.open(dir)
	r.sync(first)
	r.create("b", []int{3, 4, 5})
	r.sync(second)
	r.save(second)
	r.save(first)
	r.verify(r.open(dir))
	if got := len(r.open(dir).archives); got != 2 {
		t.Errorf("%d archives are known", got)
	}

	// Nor do two who begin with what there is.
	first, second = r.open(dir), r.open(dir)
	r.create("c", []int{6})
	r.sync(first)
	r.remove("a")
	r.create("d", []int{7, 8})
	r.sync(second)
	r.save(first)
	r.save(second)
	c := r.open(dir)
	r.sync(c)
	r.verify(c)
}

func TestUnusedRowsAreDropped(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	var many []int
	for n := range 3000 {
		many = append(many, n)
	}
	r.create("big", many)
	r.create("small", []int{5, 6, 2999}, []int{70, 80, 90})
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	r.remove("big")
	c = r.open(dir)
	r.sync(c)
	r.verify(c)
	r.save(c)
	c = r.open(dir)
	if n := c.rows.len(); n != 8 {
		t.Errorf("%d rows are left", n)
	}
	r.verify(c)
}

func TestNothingIsUnusedWhileAnArchiveIsNotKnownInFull(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	r.create("good", []int{1, 2, 3})
	r.create("bad", []int{2, 3, 4})
	c := r.open(dir)
	if _, _, err := c.Unused(r.cat.Manifest, []string{"good"}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("before bad was read: %v", err)
	}
	if _, _, err := c.Unused(r.cat.Manifest, []string{"none"}); err == nil {
		t.Error("an archive that does not exist is no error")
	}
	rec, err := r.cat.Archive(t.Context(), "bad")
	if err != nil {
		t.Fatal(err)
	}
	items := r.store.m[rec.Items[0]]
	for what, damage := range map[string]func(){
		"missing items": func() { delete(r.store.m, rec.Items[0]) },
		"damaged items": func() {
			r.store.m[rec.Items[0]] = slices.Concat(items[:len(items)-1], []byte{items[len(items)-1] ^ 1})
		},
	} {
		damage()
		c := r.open(dir)
		r.sync(c)
		ids, stats, err := c.Unused(r.cat.Manifest, []string{"good"})
		if !errors.Is(err, ErrIncomplete) || ids != nil || !strings.Contains(err.Error(), `"bad"`) {
			t.Errorf("%s: %d objects, %v", what, len(ids), err)
		}
		if stats.Original != r.stats["good"].Original {
			t.Errorf("%s: %+v", what, stats)
		}
		// What goes itself may be damaged: what could be read of it goes too, and what could not.
		ids, _, err = c.Unused(r.cat.Manifest, []string{"bad"})
		if want := sorted([]repository.ID{r.id("bad"), rec.Items[0]}); err != nil || !slices.Equal(sorted(ids), want) {
			t.Errorf("%s: %v, %v, want %v", what, ids, err, want)
		}
		r.save(c)
		if c = r.open(dir); len(c.Unseen(r.cat.Manifest)) != 1 {
			t.Errorf("%s: a damaged archive was written down", what)
		}
		r.store.m[rec.Items[0]] = items
		r.sync(c) // it has been healed
		r.verify(c)
	}
	record := r.store.m[r.id("bad")]
	delete(r.store.m, r.id("bad"))
	c = OpenChunks(t.TempDir(), repository.ID{1}, func(err error) { t.Error(err) })
	r.sync(c)
	if _, _, err := c.Unused(r.cat.Manifest, []string{"good"}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("missing record: %v", err)
	}
	ids, _, err := c.Unused(r.cat.Manifest, []string{"bad", "good"})
	if err != nil || !slices.Contains(ids, r.id("bad")) || len(ids) != len(r.uses["good"])+1 {
		t.Errorf("missing record: %d objects, %v", len(ids), err)
	}
	r.store.m[r.id("bad")] = record
}

// failing is a store that fails in a way that is no damage.
type failing struct{ catalog.Store }

func (failing) Get(context.Context, repository.ID) ([]byte, error) {
	return nil, errors.New("no answer")
}

func TestErrorsOfTheStoreAreNoDamage(t *testing.T) {
	r := newTestRepo(t)
	r.create("a", []int{1})
	c := r.open(t.TempDir())
	if err := c.Sync(t.Context(), failing{}, r.cat, nil); err == nil || errors.Is(err, ErrIncomplete) {
		t.Errorf("got %v", err)
	}
	if unseen := c.Unseen(r.cat.Manifest); len(unseen) != 1 {
		t.Errorf("%q are unseen", unseen)
	}
	r.sync(c)
	r.verify(c)
}

// dying is a store that fails after a number of reads.
type dying struct {
	catalog.Store
	left atomic.Int32
}

func (d *dying) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	if d.left.Add(-1) < 0 {
		return nil, errors.New("no answer")
	}
	return d.Store.Get(ctx, id)
}

func TestWhatWasReadBeforeAnErrorIsKnown(t *testing.T) {
	r := newTestRepo(t)
	dir := t.TempDir()
	for i := range 4 {
		r.create(fmt.Sprintf("a%d", i), []int{1, 2 + i})
	}
	c := r.open(dir)
	var last Progress
	d := &dying{Store: r.store}
	d.left.Store(5)
	err := c.Sync(t.Context(), d, r.cat, func(p Progress) { last = p })
	if err == nil || last.Done != 2 || last.Total != 4 || last.Archive != "a2" || last.Items != 4 {
		t.Errorf("%v at %+v", err, last)
	}
	r.save(c)
	c = r.open(dir)
	if unseen := c.Unseen(r.cat.Manifest); !slices.Equal(unseen, []string{"a2", "a3"}) {
		t.Errorf("%q are unseen", unseen)
	}
	r.sync(c)
	r.verify(c)
}

// TestChunksAreLookedUpWhileOthersAreAdded is for the race detector.
func TestChunksAreLookedUpWhileOthersAreAdded(t *testing.T) {
	r := newTestRepo(t)
	r.create("a", []int{1, 2, 3})
	dir := t.TempDir()
	c := r.open(dir)
	r.sync(c)
	r.save(c)
	c = r.open(dir)
	want := r.chunk(2)
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for range 1000 {
				if got, ok := c.Lookup(want.ID); !ok || got != want {
					t.Errorf("got %v, %v", got, ok)
				}
			}
		})
	}
	u := c.NewUses()
	for i := range 3000 {
		u.Add(archive.Chunk{ID: repository.ID{byte(i), byte(i >> 8), 1}, Size: 1, CSize: 1})
		if i%1000 == 0 {
			c.Add(archive.Chunk{ID: repository.ID{byte(i >> 8), 2}, CSize: 1}, u)
		}
	}
	looking.Wait()
}

func TestAnArchiveOfTwoNamesStaysByTheOther(t *testing.T) {
	r := newTestRepo(t)
	r.create("a", []int{1, 2})
	r.cat.Manifest.Archives["again"] = r.cat.Manifest.Archives["a"]
	c := r.open(t.TempDir())
	r.sync(c)
	if ids, _, err := c.Unused(r.cat.Manifest, []string{"a"}); err != nil || ids != nil {
		t.Errorf("%d objects would go, %v", len(ids), err)
	}
	ids, _, err := c.Unused(r.cat.Manifest, []string{"a", "again"})
	if err != nil || !slices.Equal(sorted(ids), r.unused("a")) {
		t.Errorf("%d objects would go, %v", len(ids), err)
	}
}

// TestTheManifestIsNeverUnused makes an archive that says it uses the manifest as a chunk.
func TestTheManifestIsNeverUnused(t *testing.T) {
	r := newTestRepo(t)
	c := r.open(t.TempDir())
	u := c.NewUses()
	u.Add(archive.Chunk{ID: archive.ManifestID, Size: 1, CSize: 1})
	c.Add(archive.Chunk{ID: repository.ID{7}, Size: 1, CSize: 1}, u)
	r.cat.Manifest.Archives["evil"] = archive.ArchiveRef{ID: repository.ID{7}}
	ids, _, err := c.Unused(r.cat.Manifest, []string{"evil"})
	if err != nil || !slices.Equal(ids, []repository.ID{{7}}) {
		t.Errorf("%v, %v", ids, err)
	}
}

// FuzzChunks reads files whose checksums are right, with anything in them.
func FuzzChunks(f *testing.F) {
	dir := f.TempDir()
	c := OpenChunks(dir, repository.ID{1}, func(err error) { f.Fatal(err) })
	for i := range 3 {
		u := c.NewUses()
		for j := range 20 {
			u.Add(archive.Chunk{ID: repository.ID{byte(j * (i + 1)), 1}, Size: 1, CSize: 1})
		}
		c.Add(archive.Chunk{ID: repository.ID{byte(i), 2}, Size: 1, CSize: 1}, u)
	}
	if err := c.Save(); err != nil {
		f.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, rootName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root[:len(root)-sha256.Size])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Chunks{repo: repository.ID{1}}
		c.reset()
		c.disk.root = sha256.Sum256(body)
		if c.parseRoot(append(body, c.disk.root[:]...)) != nil || c.disk.rows > 1<<20 {
			return
		}
		c.rows.loaded = make([]byte, c.disk.rows*rowSize)
		c.count()
		for row, n := range c.counts {
			if n < 0 || int(n) > len(c.archives) {
				t.Fatalf("%d archives of %d use row %d", n, len(c.archives), row)
			}
		}
		again := c.encodeRoot(c.disk)
		if len(again) != len(body) {
			t.Fatalf("%d bytes became %d", len(body), len(again))
		}
		before := c.Total()
		c.renumber()
		if after := c.Total(); after != before {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}

// TestFewUsesNeedNoIndex has archives that use few chunks of a large table. That they get the right rows, with an index and
// without, shows in what is unused when one of them goes.
func TestFewUsesNeedNoIndex(t *testing.T) {
	const many = 100_000
	dir, repo := t.TempDir(), repository.ID{1}
	fail := func(err error) { t.Error(err) }
	chunk := func(i int) archive.Chunk {
		return archive.Chunk{ID: sha256.Sum256(fmt.Append(nil, "chunk ", i)), Size: 2, CSize: 1}
	}
	record := func(i int) archive.Chunk {
		return archive.Chunk{ID: sha256.Sum256(fmt.Append(nil, "record ", i)), Size: 2, CSize: 1}
	}
	m := &archive.Manifest{Archives: map[string]archive.ArchiveRef{}}
	add := func(c *Chunks, i int, chunks ...int) {
		u := c.NewUses()
		for _, k := range chunks {
			u.Add(chunk(k))
		}
		c.Add(record(i), u)
		m.Archives[fmt.Sprint(i)] = archive.ArchiveRef{ID: record(i).ID}
	}
	all := make([]int, many)
	for i := range all {
		all[i] = i
	}
	c := OpenChunks(dir, repo, fail)
	add(c, 0, all...)
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	c = OpenChunks(dir, repo, fail)
	const archives = maxScans + 5 // the last ones find an index
	for i := 1; i <= archives; i++ {
		add(c, i, i, many+i, many+i, many+i+1, many-i)
		if hasIndex := !c.index.isEmpty(); hasIndex != (i > maxScans) {
			t.Fatalf("after %d archives there being an index is %v", i, hasIndex)
		}
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	c = OpenChunks(dir, repo, fail)
	for i := 2; i < archives; i++ {
		ids, stats, err := c.Unused(m, []string{fmt.Sprint(i), fmt.Sprint(i + 1)})
		// Of what they use, the shared one in the middle alone goes with them, beside the records.
		want := []repository.ID{record(i).ID, chunk(many + i + 1).ID, record(i + 1).ID}
		if i+1 == archives {
			want = append(want, chunk(many+i+2).ID)
		}
		if err != nil || len(ids) != len(want) || stats.Files != 0 {
			t.Fatalf("%d: %v, %+v, %v", i, ids, stats, err)
		}
		for _, id := range want {
			if !slices.Contains(ids, id) {
				t.Errorf("%d: %v is not among what is unused", i, id)
			}
		}
	}
}
