package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
	"garret/repository/storage"
)

// A world is a repository with archives.
type world struct {
	*testing.T
	repo   *repository.Repository
	cat    *catalog.Catalog
	chunks *cache.Chunks
}

func newWorld(t *testing.T) *world {
	t.Helper()
	repo, err := repository.CreateIn(t.Context(), new(storage.Mem), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		report, err := repo.Check(context.Background(), repository.CheckOptions{})
		if err != nil || !report.OK() {
			t.Errorf("check: %v, %v", report, err)
		}
		repo.Close()
	})
	cat, err := catalog.New(repo, envelope.NewPlaintext(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, repo: repo, cat: cat}
	w.chunks = cache.OpenChunks(t.TempDir(), repo.ID(), func(err error) { t.Error(err) })
	return w
}

func (w *world) put(data []byte) archive.Chunk {
	w.Helper()
	env, err := w.cat.Key.Seal(nil, data)
	if err != nil {
		w.Fatal(err)
	}
	c := archive.Chunk{ID: w.cat.Key.ID(data), Size: uint32(len(data)), CSize: uint32(len(env))}
	if err := w.repo.Put(w.Context(), c.ID, env); err != nil {
		w.Fatal(err)
	}
	return c
}

// create makes an archive of one file with some chunks.
func (w *world) create(name string, chunks ...int) {
	w.Helper()
	it := &archive.Item{Path: name, Mode: 0o100644, HasChunks: true}
	for _, n := range chunks {
		it.Chunks = append(it.Chunks, w.put(fmt.Appendf(nil, "chunk %d", n)))
	}
	items := w.put(archive.AppendItem(nil, it))
	a := &archive.Archive{Name: name, Items: []repository.ID{items.ID}, Time: time.Unix(1e9, 0)}
	archives := maps.Clone(w.cat.Manifest.Archives)
	archives[name] = archive.ArchiveRef{ID: w.put(a.Encode()).ID, Time: a.Time}
	if err := w.cat.Save(w.Context(), w.repo, archives); err != nil {
		w.Fatal(err)
	}
	if err := w.repo.Commit(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.sync()
}

func (w *world) sync() {
	w.Helper()
	if err := w.chunks.Sync(w.Context(), w.repo, w.cat, nil); err != nil {
		w.Fatal(err)
	}
}

// state returns all objects and all archives that there are.
func (w *world) state() string {
	w.Helper()
	var ids []repository.ID
	for id, err := range w.repo.All(w.Context()) {
		if err != nil {
			w.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b repository.ID) int { return slices.Compare(a[:], b[:]) })
	env, err := catalog.Manifest(w.Context(), w.repo)
	if err != nil {
		w.Fatal(err)
	}
	cat, err := catalog.New(w.repo, w.cat.Key, env)
	if err != nil {
		w.Fatal(err)
	}
	return fmt.Sprint(ids, cat.Archives(), w.cat.Archives(), w.chunks.Total())
}

// failing is a store whose n-th change fails.
type failing struct {
	Store
	n int
}

var errFull = errors.New("no room")

func (f *failing) fail() error {
	f.n--
	if f.n == 0 {
		return errFull
	}
	return nil
}

func (f *failing) Put(ctx context.Context, id repository.ID, env []byte) error {
	return orElse(f.fail(), func() error { return f.Store.Put(ctx, id, env) })
}

func (f *failing) Delete(ctx context.Context, id repository.ID) error {
	return orElse(f.fail(), func() error { return f.Store.Delete(ctx, id) })
}

func (f *failing) Commit(ctx context.Context) error {
	return orElse(f.fail(), func() error { return f.Store.Commit(ctx) })
}

func orElse(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// TestAnErrorLeavesAllAsItWas lets every change fail in turn.
func TestAnErrorLeavesAllAsItWas(t *testing.T) {
	for what, do := range map[string]func(w *world, s Store) error{
		"remove": func(w *world, s Store) error {
			_, err := Remove(w.Context(), s, w.cat, w.chunks, []string{"b", "c"})
			return err
		},
		"rename": func(w *world, s Store) error { return Rename(w.Context(), s, w.cat, w.chunks, "b", "d") },
	} {
		w := newWorld(t)
		w.create("a", 1, 2, 3)
		w.create("b", 2, 3, 4, 4)
		w.create("c", 4, 5)
		before := w.state()
		n := 1
		for ; ; n++ {
			err := do(w, &failing{w.repo, n})
			if err == nil {
				break
			}
			if !errors.Is(err, errFull) {
				t.Fatalf("%s, change %d: %v", what, n, err)
			}
			if after := w.state(); after != before {
				t.Fatalf("%s, change %d: there is\n%s\nand was\n%s", what, n, after, before)
			}
		}
		if n < 4 {
			t.Errorf("%s has only %d changes", what, n)
		}
		if w.state() == before {
			t.Errorf("%s has done nothing", what)
		}
		again := w.state()
		w.sync()
		if w.state() != again {
			t.Errorf("%s: the table is not what it was", what)
		}
		if unseen := w.chunks.Unseen(w.cat.Manifest); unseen != nil {
			t.Errorf("%s: %q must be read again", what, unseen)
		}
	}
}

func TestACancelledDeletionDeletesNothing(t *testing.T) {
	w := newWorld(t)
	w.create("a", 1, 2, 3)
	w.create("b", 3, 4)
	before := w.state()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Remove(ctx, w.repo, w.cat, w.chunks, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if w.state() != before {
		t.Error("something has changed")
	}
}

// TestObjectsThatAreLostKeepNobodyFromDeleting deletes an archive with a chunk that is not there any more.
func TestObjectsThatAreLostKeepNobodyFromDeleting(t *testing.T) {
	w := newWorld(t)
	w.create("a", 1, 2)
	w.create("b", 2, 3)
	if err := w.repo.Delete(t.Context(), w.cat.Key.ID([]byte("chunk 3"))); err != nil {
		t.Fatal(err)
	}
	if err := w.repo.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Remove(t.Context(), w.repo, w.cat, w.chunks, []string{"b"}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.repo.Len(t.Context()); err != nil || n != 5 { // two chunks, items, record, manifest
		t.Errorf("%d objects are left, %v", n, err)
	}
}

// TestNothingIsDeletedBeforeAllIsKnown has a table that was not synced since another client made an archive.
func TestNothingIsDeletedBeforeAllIsKnown(t *testing.T) {
	w := newWorld(t)
	w.create("a", 1, 2)
	stale := cache.OpenChunks(t.TempDir(), w.repo.ID(), func(err error) { t.Error(err) })
	if err := stale.Sync(t.Context(), w.repo, w.cat, nil); err != nil {
		t.Fatal(err)
	}
	w.create("b", 2, 3)
	before, err := w.repo.Len(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	removed, err := Remove(t.Context(), w.repo, w.cat, stale, []string{"a"})
	if err != nil || !errors.Is(removed.Kept, cache.ErrIncomplete) {
		t.Errorf("kept because of %v, %v", removed.Kept, err)
	}
	if n, err := w.repo.Len(t.Context()); err != nil || n != before {
		t.Errorf("%d objects are left of %d, %v", n, before, err)
	}
}

func TestNamesThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.create("a", 1)
	w.create("b", 1)
	before := w.state()
	if err := Rename(t.Context(), w.repo, w.cat, w.chunks, "a", "b"); !errors.Is(err, ErrArchiveExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := Rename(t.Context(), w.repo, w.cat, w.chunks, "c", "d"); !errors.Is(err, catalog.ErrNoArchive) {
		t.Errorf("an archive that does not exist: %v", err)
	}
	if err := Rename(t.Context(), w.repo, w.cat, w.chunks, "a", ""); err == nil {
		t.Error("an empty name is taken")
	}
	if _, err := Remove(t.Context(), w.repo, w.cat, w.chunks, []string{"a", "c"}); err == nil {
		t.Error("an archive that does not exist is removed")
	}
	if w.state() != before {
		t.Error("something has changed")
	}
}
