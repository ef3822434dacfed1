package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/internal/archive"
	"garret/internal/catalog"
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

func (o objects) add(t *testing.T, key *envelope.Key, data []byte) repository.ID {
	t.Helper()
	env, err := key.Seal(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	id := key.ID(data)
	o[id] = env
	return id
}

// restoreItems restores an archive of just these items, and returns what it warned of.
func restoreItems(t *testing.T, target string, items ...*archive.Item) map[string]error {
	t.Helper()
	key, store := envelope.NewPlaintext(), objects{}
	content := store.add(t, key, []byte("content"))
	var stream []byte
	for _, it := range items {
		it.UID, it.GID = uint32(os.Getuid()), uint32(os.Getgid())
		if it.Mode == fsmeta.TypeRegular|0o644 && it.Source == "" {
			it.HasChunks, it.Chunks = true, []archive.Chunk{{ID: content, Size: 7}}
		}
		stream = archive.AppendItem(stream, it)
	}
	a := &archive.Archive{Name: "x", Items: []repository.ID{store.add(t, key, stream)}}
	cat, err := catalog.New(store, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	warnings := map[string]error{}
	warn := func(path string, err error) { warnings[path] = err }
	if _, err := Run(t.Context(), cat, a, Options{Target: target, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	return warnings
}

func file(path string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644}
}

func link(path, source string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, Source: source}
}

func symlink(path, target string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeSymlink | 0o777, Source: target}
}

func dir(path string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeDir | 0o755}
}

func TestNothingLeadsOutOfTheTarget(t *testing.T) {
	for _, tt := range []struct {
		name  string
		items []*archive.Item
		warn  string // the item that must be refused; "any" if it may be one or the other
	}{
		{"dots", []*archive.Item{file("../escaped")}, "../escaped"},
		{"dots in the middle", []*archive.Item{dir("a"), file("a/../../escaped")}, "a/../../escaped"},
		{"absolute", []*archive.Item{file("/escaped")}, "/escaped"},
		{"only dots", []*archive.Item{dir("..")}, ".."},
		{"empty", []*archive.Item{file("")}, ""},
		{"the target as a file", []*archive.Item{file(".")}, "."},
		{"zero byte", []*archive.Item{file("a\x00b")}, "a\x00b"},
		{"through a link", []*archive.Item{symlink("a", ".."), file("a/escaped")}, "a/escaped"},
		{"through a link that stays inside", []*archive.Item{dir("b"), symlink("a", "b"), file("a/escaped")}, "a/escaped"},
		{"through a link above", []*archive.Item{symlink("a", ".."), file("a/b/escaped")}, "a/b/escaped"},
		{"hard link to outside", []*archive.Item{link("a", "../precious")}, "a"},
		{"hard link through a link", []*archive.Item{symlink("s", ".."), link("a", "s/precious")}, "a"},
		{"hard link to itself", []*archive.Item{file("a"), link("a", "a")}, "a"},
		{"over a directory in use", []*archive.Item{dir("a"), file("a/x"), file("a")}, "any"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := t.TempDir()
			target := filepath.Join(top, "target")
			if err := os.Mkdir(target, 0o755); err != nil {
				t.Fatal(err)
			}
			precious := filepath.Join(top, "precious")
			if err := os.WriteFile(precious, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			warnings := restoreItems(t, target, tt.items...)
			if _, ok := warnings[tt.warn]; !ok && (tt.warn != "any" || len(warnings) == 0) {
				t.Errorf("no warning of %q, but %v", tt.warn, warnings)
			}
			entries, err := os.ReadDir(top)
			if err != nil || len(entries) != 2 {
				t.Errorf("beside the target there is %v, %v", entries, err)
			}
			if data, _ := os.ReadFile(precious); string(data) != "old" {
				t.Errorf("the file beside the target is %q", data)
			}
			if info, err := os.Stat(precious); err != nil || info.Mode() != 0o600 {
				t.Errorf("the file beside the target is %v, %v", info, err)
			}
		})
	}
}

func TestParentsThatAreNotInTheArchiveAreMade(t *testing.T) {
	target := t.TempDir()
	if warnings := restoreItems(t, target, file("a/b/c"), link("d/e", "a/b/c")); len(warnings) != 0 {
		t.Error(warnings)
	}
	for _, name := range []string{"a/b/c", "d/e"} {
		if data, err := os.ReadFile(filepath.Join(target, name)); string(data) != "content" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestUnreasonableItemsAreWarnedOf(t *testing.T) {
	long := strings.Repeat("n", 300)
	for name, it := range map[string]*archive.Item{
		"no type":          {Path: "x", Mode: 0o644},
		"unknown type":     {Path: "x", Mode: 0o030000},
		"socket":           {Path: "x", Mode: fsmeta.TypeSocket},
		"no content":       {Path: "x", Mode: fsmeta.TypeRegular | 0o600},
		"device, no rdev":  {Path: "x", Mode: fsmeta.TypeBlock | 0o600},
		"name too long":    {Path: long, Mode: fsmeta.TypeDir | 0o700},
		"link to nothing":  {Path: "x", Mode: fsmeta.TypeSymlink},
		"missing link":     {Path: "x", Mode: fsmeta.TypeRegular | 0o600, Source: "not/there"},
		"wrong chunk size": {Path: "x", Mode: fsmeta.TypeRegular | 0o600, HasChunks: true, Chunks: []archive.Chunk{{Size: 1 << 31}}},
	} {
		t.Run(name, func(t *testing.T) {
			if warnings := restoreItems(t, t.TempDir(), it, file("fine")); warnings[it.Path] == nil || len(warnings) != 1 {
				t.Errorf("warnings: %v", warnings)
			}
		})
	}
}

func TestWhatCannotBeRestoredLeavesWhatIsThere(t *testing.T) {
	long := strings.Repeat("é", 127)
	damaged := func(path string) *archive.Item {
		return &archive.Item{
			Path: path, Mode: fsmeta.TypeRegular | 0o600, HasChunks: true,
			Chunks: []archive.Chunk{{ID: repository.ID{1}, Size: 5}},
		}
	}
	target := t.TempDir()
	for _, name := range []string{"a", "a.damaged", "device"} {
		if err := os.WriteFile(filepath.Join(target, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	warnings := restoreItems(t, target, damaged("a"), damaged(long), file("good"),
		&archive.Item{Path: "device", Mode: fsmeta.TypeChar | 0o600})
	if len(warnings) != 3 {
		t.Errorf("warnings: %v", warnings)
	}
	want := map[string]string{
		"a": "old", "a.damaged": "old", "a.damaged.2": "\x00\x00\x00\x00\x00", "device": "old", "good": "content",
		strings.Repeat("é", 123) + ".damaged": "\x00\x00\x00\x00\x00",
	}
	entries, err := os.ReadDir(target)
	if err != nil || len(entries) != len(want) {
		t.Errorf("there is %v, %v", entries, err)
	}
	for name, content := range want {
		if data, err := os.ReadFile(filepath.Join(target, name)); string(data) != content {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestOfAPathThatComesTwiceTheLaterItemIsRestored(t *testing.T) {
	for range 5 {
		target := t.TempDir()
		var items []*archive.Item
		for i := range 40 {
			name := fmt.Sprint(i)
			items = append(items, file(name), file(name), symlink(name, "first"), file(name), symlink(name, "last"))
		}
		if warnings := restoreItems(t, target, items...); len(warnings) != 0 {
			t.Fatal(warnings)
		}
		entries, err := os.ReadDir(target)
		if err != nil || len(entries) != 40 {
			t.Errorf("there is %v, %v", entries, err)
		}
		for _, e := range entries {
			if got, err := os.Readlink(filepath.Join(target, e.Name())); got != "last" {
				t.Fatalf("%s: %q, %v", e.Name(), got, err)
			}
		}
	}
}

func TestARestoredFileTakesThePlaceOfAnother(t *testing.T) {
	target := t.TempDir()
	for range 2 { // the second time, all of them are names of one file
		if warnings := restoreItems(t, target, file("a"), link("b", "a"), symlink("c", "a")); len(warnings) != 0 {
			t.Error(warnings)
		}
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 3 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestWhatComesAfterLostItemsIsRestored(t *testing.T) {
	key, store := envelope.NewPlaintext(), objects{}
	content := store.add(t, key, []byte("content"))
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) { return store.add(t, key, data), nil })
	for i := range 5000 {
		it := file(fmt.Sprintf("%04d", i))
		it.UID, it.GID = uint32(os.Getuid()), uint32(os.Getgid())
		it.HasChunks, it.Chunks = true, []archive.Chunk{{ID: content, Size: 7}}
		if i == 4999 { // its first name is lost, and the target has another file of that name
			it.Source, it.HasChunks, it.Chunks = "2500", false, nil
		}
		if err := w.Add(it); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := w.Flush()
	if err != nil || len(ids) < 3 {
		t.Fatalf("%d chunks, %v", len(ids), err)
	}
	for _, id := range ids[1 : len(ids)-1] {
		delete(store, id)
	}
	cat, err := catalog.New(store, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	if err := os.WriteFile(filepath.Join(target, "2500"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	warnings := map[string]error{}
	warn := func(path string, err error) { warnings[path] = err }
	a := &archive.Archive{Name: "x", Items: ids}
	if _, err := Run(t.Context(), cat, a, Options{Target: target, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 2 || warnings[""] == nil || warnings["4999"] == nil {
		t.Errorf("warnings: %v", warnings)
	}
	for _, name := range []string{"0000", "4998"} {
		if data, err := os.ReadFile(filepath.Join(target, name)); string(data) != "content" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
