package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/repository"
)

// objects is a repository in memory.
type objects map[repository.ID][]byte

func (o objects) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if data, ok := o[id]; ok {
		return data, nil
	}
	return nil, repository.ErrNotFound
}

func (o objects) Put(_ context.Context, id repository.ID, env []byte) error {
	o[id] = slices.Clone(env)
	return nil
}

func newCatalog(t *testing.T, names ...string) (*Catalog, objects) {
	t.Helper()
	store := objects{}
	c, err := New(store, envelope.NewPlaintext(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		c.Manifest.Archives[name] = archive.ArchiveRef{Time: time.Unix(int64(1000-i), 0).UTC()}
	}
	return c, store
}

func TestSavedManifestsAreReadAgainAndNeverOlder(t *testing.T) {
	c, store := newCatalog(t)
	if _, err := Manifest(t.Context(), store); !errors.Is(err, ErrNoManifest) {
		t.Errorf("an empty store: %v", err)
	}
	future := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	c.Manifest.Timestamp = future
	if err := c.Save(t.Context(), store, map[string]archive.ArchiveRef{"a": {Time: future}}); err != nil {
		t.Fatal(err)
	}
	env, err := Manifest(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	again, err := New(store, c.Key, env)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Manifest.Timestamp.After(future) || len(again.Archives()) != 1 {
		t.Errorf("got %+v", again.Manifest)
	}
}

func TestArchivesAreListedFromTheOldest(t *testing.T) {
	c, _ := newCatalog(t, "new", "middle", "old")
	var names []string
	for _, e := range c.Archives() {
		names = append(names, e.Name)
	}
	if want := []string{"old", "middle", "new"}; !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
}

func TestNamesThatMayBeMeantAreSuggested(t *testing.T) {
	c, _ := newCatalog(t, "monday", "tuesday", "home-2026-11-21", "home-2026-11-22")
	for name, want := range map[string]string{
		"mondya":     `archive "mondya" does not exist; is it "monday"?`,
		"home":       `archive "home" does not exist; is it "home-2026-11-21" or "home-2026-11-22"?`,
		"tuesday2":   `archive "tuesday2" does not exist; is it "tuesday"?`,
		"unlike any": `archive "unlike any" does not exist`,
	} {
		_, err := c.Archive(t.Context(), name)
		if !errors.Is(err, ErrNoArchive) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// slow is a store that counts how many are served at a time.
type slow struct {
	objects
	now, most atomic.Int32
}

func (s *slow) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	time.Sleep(time.Millisecond)
	return s.objects.Get(ctx, id)
}

func TestObjectsAreReadAheadInOrder(t *testing.T) {
	store := &slow{objects: objects{}}
	c, err := New(store, envelope.NewPlaintext(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []repository.ID
	for i := range 50 {
		data := fmt.Appendf(nil, "object %d", i)
		env, err := c.Key.Seal(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.Key.ID(data))
		if i != 20 {
			store.objects[ids[i]] = env
		}
	}
	i := 0
	for data, err := range c.Read(t.Context(), len(ids), func(i int) repository.ID { return ids[i] }, 4) {
		switch {
		case i == 20:
			if !errors.Is(err, repository.ErrNotFound) {
				t.Errorf("object 20: %v", err)
			}
		case err != nil || string(data) != fmt.Sprintf("object %d", i):
			t.Errorf("object %d is %q, %v", i, data, err)
		}
		i++
	}
	if i != 50 {
		t.Errorf("%d objects", i)
	}
	if most := store.most.Load(); most < 2 || most > 4 {
		t.Errorf("up to %d at a time", most)
	}
	for range c.Read(t.Context(), len(ids), func(i int) repository.ID { return ids[i] }, 4) {
		break
	}
	if n := store.now.Load(); n != 0 {
		t.Errorf("%d are still at work after the end", n)
	}
}

func TestDamagedItemStreamsAreToldOf(t *testing.T) {
	c, store := newCatalog(t)
	put := func(data []byte) repository.ID {
		env, err := c.Key.Seal(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		id := c.Key.ID(data)
		store[id] = env
		return id
	}
	one := archive.AppendItem(nil, &archive.Item{Path: "a", Mode: 0o040755})
	for name, a := range map[string]*archive.Archive{
		"missing":                {Items: []repository.ID{put(one), {1}}},
		"cut off":                {Items: []repository.ID{put(one), put(one[:len(one)-1])}},
		"garbage":                {Items: []repository.ID{put(one), put([]byte("garbage"))}},
		"garbage before":         {Items: []repository.ID{put([]byte("garbage")), put(one)}},
		"what seems long before": {Items: []repository.ID{put([]byte("\x87\xa3gid\xdb\x1f\xff\xff\xff")), put(one)}},
	} {
		var items int
		var failed error
		for _, err := range c.Items(t.Context(), a) {
			if err == nil {
				items++
			} else {
				failed = err
			}
		}
		if items != 1 || failed == nil {
			t.Errorf("%s: %d items, %v", name, items, failed)
		}
	}
}
