package fsck

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"testing"

	"garret/internal/archive"
	"garret/repository"
)

// failingStore fails at the k-th write.
type failingStore struct {
	*objectStore
	left int
}

var errFull = errors.New("no space left")

func (f *failingStore) fails() bool {
	f.left--
	return f.left < 0
}

func (f *failingStore) Put(ctx context.Context, id repository.ID, env []byte) error {
	if f.fails() {
		return errFull
	}
	return f.objectStore.Put(ctx, id, env)
}

func (f *failingStore) Delete(ctx context.Context, id repository.ID) error {
	if f.fails() {
		return errFull
	}
	return f.objectStore.Delete(ctx, id)
}

func (f *failingStore) Commit(ctx context.Context) error {
	if f.fails() {
		return errFull
	}
	return f.objectStore.Commit(ctx)
}

func (f *failingStore) WriteFile(name string, data []byte) error {
	if f.fails() {
		return errFull
	}
	return f.objectStore.WriteFile(name, data)
}

// TestRepairIsDoneAsAWholeOrNotAtAll fails at every write in turn. What was committed is then what was there before, and
// the next repair does it all.
func TestRepairIsDoneAsAWholeOrNotAtAll(t *testing.T) {
	f := newFixture(t, false)
	f.add("one", f.file("a", []byte("aaaabbbbcccc"), 4), f.file("b", []byte("dddd"), 4))
	gone := f.add("two", f.file("c", []byte("eeee"), 4))
	damaged := f.key.ID([]byte("bbbb"))
	f.store.objects[damaged] = f.store.objects[f.key.ID([]byte("cccc"))]
	delete(f.store.objects, f.key.ID([]byte("dddd")))
	delete(f.store.objects, gone)
	f.ok(f.store.Commit(t.Context()))
	sick := maps.Clone(f.store.objects)
	for k := 0; ; k++ {
		f.store.objects = maps.Clone(sick)
		f.ok(f.store.Commit(t.Context()))
		s := &failingStore{f.store, k}
		c := New(s, f.key, Options{VerifyData: true})
		_, err := c.Run(t.Context())
		f.ok(err)
		_, err = c.Repair(t.Context())
		if err == nil {
			if k < 6 {
				t.Errorf("there were only %d writes", k)
			}
			break
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("write %d: %v", k, err)
		}
		if !maps.EqualFunc(sick, f.store.committed, bytes.Equal) {
			t.Fatalf("after a failure at write %d, something else is committed", k)
		}
		f.store.objects = maps.Clone(f.store.committed) // rolled back
		f.repaired(Options{VerifyData: true})
	}
	if len(f.store.aside) != 1 || f.store.objects[archive.ManifestID] == nil {
		t.Errorf("%d objects set aside", len(f.store.aside))
	}
}
