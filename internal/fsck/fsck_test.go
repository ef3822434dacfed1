package fsck

import (
	"context"
	"slices"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// objects is a repository in memory.
type objects map[repository.ID][]byte

func (o objects) Has(_ context.Context, id repository.ID) (bool, error) {
	_, ok := o[id]
	return ok, nil
}

func (o objects) Get(_ context.Context, id repository.ID) ([]byte, error) {
	if data, ok := o[id]; ok {
		return data, nil
	}
	return nil, repository.ErrNotFound
}

func TestWhatIsMissingIsFoundWhereItIsMissing(t *testing.T) {
	store, key := objects{}, envelope.NewPlaintext()
	put := func(data []byte) repository.ID {
		env, err := key.Seal(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		id := key.ID(data)
		store[id] = env
		return id
	}
	here, gone := put([]byte("here")), repository.ID{0xff}
	items := func(chunks ...archive.Chunk) repository.ID {
		return put(archive.AppendItem(nil, &archive.Item{Path: "file", Mode: 0o100644, HasChunks: true, Chunks: chunks}))
	}
	cat, err := catalog.New(store, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, record repository.ID) {
		cat.Manifest.Archives[name] = archive.ArchiveRef{ID: record, Time: time.Unix(int64(len(cat.Manifest.Archives)), 0)}
	}
	sound := items(archive.Chunk{ID: here, Size: 4})
	add("sound", put((&archive.Archive{Name: "sound", Items: []repository.ID{sound}}).Encode()))
	add("no record", gone)
	add("bad record", here)
	add("no items", put((&archive.Archive{Name: "no items", Items: []repository.ID{sound, gone}}).Encode()))
	hole := items(archive.Chunk{ID: here, Size: 4}, archive.Chunk{ID: gone, Size: 6}, archive.Chunk{ID: here, Size: 4})
	add("hole", put((&archive.Archive{Name: "hole", Items: []repository.ID{hole}}).Encode()))

	var found []string
	stats, err := Archives(t.Context(), store, cat, func(f Finding) {
		if f.Err == nil || f.String() == "" {
			t.Errorf("%+v says nothing", f)
		}
		found = append(found, f.Archive)
		if f.Archive == "hole" && (f.Path != "file" || f.Offset != 4 || f.Size != 6) {
			t.Errorf("the hole is %+v", f)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"no record", "bad record", "no items", "hole"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if stats.Archives != 5 || stats.Items != 3 || stats.Chunks != 2 || stats.Findings != 4 {
		t.Errorf("stats %+v", stats)
	}
}
