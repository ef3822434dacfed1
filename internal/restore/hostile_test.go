package restore

import (
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

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
	return restoreWith(t, Options{Target: target}, items...)
}

func restoreWith(t *testing.T, o Options, items ...*archive.Item) map[string]error {
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
	o.Warn = func(path string, err error) { warnings[path] = err }
	if _, err := Run(t.Context(), cat, a, o); err != nil {
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
		{"nothing between slashes", []*archive.Item{file("a//escaped")}, "a//escaped"},
		{"a slash at the end", []*archive.Item{file("escaped/")}, "escaped/"},
		{"a dot in the middle", []*archive.Item{file("a/./b")}, "a/./b"},
		{"zero byte in a folder", []*archive.Item{file("a\x00/../../escaped")}, "a\x00/../../escaped"},
		{"far too long", []*archive.Item{file(strings.Repeat("a/", maxPath) + "a")}, strings.Repeat("a/", maxPath) + "a"},
		{"a folder becomes a link", []*archive.Item{dir("a"), symlink("a", ".."), file("a/escaped")}, "a/escaped"},
		{"a folder in use becomes a link", []*archive.Item{dir("a"), file("a/x"), symlink("a", ".."), file("a/y")}, "a"},
		{"a link becomes a folder and a link again", []*archive.Item{
			symlink("a", ".."), dir("a"), symlink("a", ".."), file("a/escaped"), dir("a/precious"),
		}, "a/escaped"},
		{"a folder that is a link in the end", []*archive.Item{dir("a"), symlink("a", "../precious")}, "a"},
		{"hard link to a link", []*archive.Item{symlink("s", "../precious"), link("a", "s")}, "a"},
		{"hard link to a folder", []*archive.Item{dir("d"), link("a", "d")}, "a"},
		{"hard links in a circle", []*archive.Item{link("a", "b"), link("b", "c"), link("c", "a")}, "b"},
		{"hard link to what is not there", []*archive.Item{link("a", "d/b")}, "a"},
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

func TestNothingIsMadeForWhatIsNotRestored(t *testing.T) {
	target := t.TempDir()
	if warnings := restoreItems(t, target, link("a", "d/e/f")); len(warnings) != 1 {
		t.Errorf("warnings: %v", warnings)
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestOddNamesAreRestored(t *testing.T) {
	target := t.TempDir()
	names := []string{"line\nfeed", "\xff\xfe", "...", "-rf", " ", "\x1b[31m", "..\n", "a:b", `a\b`, strings.Repeat("n", 255)}
	var items []*archive.Item
	for _, n := range names {
		items = append(items, file(n), symlink("link-"+n[:min(len(n), 200)], n))
	}
	if warnings := restoreItems(t, target, items...); len(warnings) != 0 {
		t.Error(warnings)
	}
	for _, n := range names {
		if data, err := os.ReadFile(filepath.Join(target, n)); string(data) != "content" {
			t.Errorf("%q: %q, %v", n, data, err)
		}
	}
}

func TestOfSeveralItemsWithOnePathTheLastIsRestored(t *testing.T) {
	target := t.TempDir()
	items := []*archive.Item{file("b"), link("a", "b"), symlink("a", "x"), dir("a"), symlink("c", "a"), file("c"), file("c")}
	if warnings := restoreItems(t, target, items...); len(warnings) > 2 {
		t.Errorf("warnings: %v", warnings)
	}
	if data, err := os.ReadFile(filepath.Join(target, "c")); string(data) != "content" {
		t.Errorf("%q, %v", data, err)
	}
	first, last := dir("d"), dir("d")
	first.Mode, last.Mode = fsmeta.TypeDir|0o711, fsmeta.TypeDir|0o750
	if warnings := restoreItems(t, target, first, last); len(warnings) != 0 {
		t.Errorf("warnings: %v", warnings)
	}
	if info, err := os.Stat(filepath.Join(target, "d")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestHardLinksInAnyOrder(t *testing.T) {
	for name, items := range map[string][]*archive.Item{
		"after":                 {file("f"), link("a", "f"), link("z", "f")},
		"before":                {link("a", "f"), link("z", "f"), file("f")},
		"of links":              {link("a", "z"), link("z", "f"), file("f")},
		"of links, backwards":   {file("f"), link("z", "f"), link("a", "z")},
		"over what is restored": {file("a"), file("z"), file("f"), link("a", "f"), link("z", "f")},
	} {
		t.Run(name, func(t *testing.T) {
			target := t.TempDir()
			if warnings := restoreItems(t, target, items...); len(warnings) != 0 {
				t.Error(warnings)
			}
			first, err := os.Stat(filepath.Join(target, "f"))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []string{"a", "z"} {
				if info, err := os.Stat(filepath.Join(target, n)); err != nil || !os.SameFile(first, info) {
					t.Errorf("%s: %v, %v", n, info, err)
				}
			}
		})
	}
}

func TestNamesOfAFileThatIsLeftOutAreOneFile(t *testing.T) {
	long := func() []*archive.Item {
		return []*archive.Item{link("d/before", "f"), file("f"), link("d/after", "f"), link("d/e/later", "f")}
	}
	for name, o := range map[string]Options{
		"left out": {Match: func(path string) bool { return path != "f" }},
		"stripped": {Strip: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o.Target = t.TempDir()
			if warnings := restoreWith(t, o, long()...); len(warnings) != 0 {
				t.Error(warnings)
			}
			place := run{Options: o}
			var first os.FileInfo
			for _, n := range []string{"d/before", "d/after", "d/e/later"} {
				path := filepath.Join(o.Target, place.place(n))
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = info
				}
				if data, err := os.ReadFile(path); string(data) != "content" || !os.SameFile(first, info) {
					t.Errorf("%s: %q, %v", n, data, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(o.Target, "f")); err == nil {
				t.Error("what is left out is there")
			}
		})
	}
	if warnings := restoreWith(t, Options{Target: t.TempDir(), Strip: 1}, link("d/a", "f"), file("d/b")); warnings["d/a"] == nil {
		t.Error("no warning of a file that is not in the archive")
	}
}

func TestAFileBesideIsNotTakenForOneOfTheArchive(t *testing.T) {
	target := t.TempDir()
	if err := os.WriteFile(filepath.Join(target, "private"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if warnings := restoreItems(t, target, link("public", "private")); warnings["public"] == nil {
		t.Error("no warning")
	}
	if _, err := os.Lstat(filepath.Join(target, "public")); err == nil {
		t.Error("it has another name now")
	}
}

func TestAFileThatCannotHaveAnotherNameIsCopied(t *testing.T) {
	target := t.TempDir()
	key, store := envelope.NewPlaintext(), objects{}
	cat, err := catalog.New(store, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	top, err := fsmeta.OpenDir(target)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Release()
	if err := os.WriteFile(filepath.Join(target, "f"), make([]byte, 3<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	it := link("a", "f")
	it.UID, it.GID, it.MTime = uint32(os.Getuid()), uint32(os.Getgid()), archive.Nanos{Sec: 1e9}
	it.Mode = fsmeta.TypeRegular | 0o640
	r := run{
		Options: Options{Sparse: true}, catalog: cat, broken: map[string]bool{},
		restorer: fsmeta.Restorer{Owners: new(fsmeta.Owners)},
	}
	if err := r.copyFile(t.Context(), top, "f", job{top, "a", it}); err != nil {
		t.Fatal(err)
	}
	info, err := top.Lstat("a")
	if err != nil || info.Size != 3<<20+1 || info.Mode != it.Mode || info.MTime != it.MTime {
		t.Errorf("%v, %v", info, err)
	}
}

func TestMadeUpSizesTakeNoRoom(t *testing.T) {
	target := t.TempDir()
	huge := &archive.Item{Path: "huge", Mode: fsmeta.TypeRegular | 0o600, HasChunks: true}
	for range 5000 {
		huge.Chunks = append(huge.Chunks, archive.Chunk{Size: 1<<32 - 1})
	}
	warnings := restoreItems(t, target, huge, file("fine"))
	if err := warnings["huge"]; len(warnings) != 1 || err == nil || len(err.Error()) > 5000 {
		t.Errorf("warnings: %v", warnings)
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(target, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks > 100 {
			t.Errorf("%s takes %d blocks", e.Name(), blocks)
		}
	}
}

func TestABombIsDamage(t *testing.T) {
	target := t.TempDir()
	key, store := envelope.NewPlaintext(), objects{}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	for range 100 {
		z.Write(make([]byte, 1<<20))
	}
	z.Close()
	id := repository.ID{7}
	env, err := key.Seal(nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	store[id] = append(env[:1:1], packed.Bytes()...) // after the type
	it := file("bomb")
	it.UID, it.GID = uint32(os.Getuid()), uint32(os.Getgid())
	it.HasChunks, it.Chunks = true, []archive.Chunk{{ID: id, Size: 1 << 30}}
	a := &archive.Archive{Name: "x", Items: []repository.ID{store.add(t, key, archive.AppendItem(nil, it))}}
	cat, err := catalog.New(store, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	warnings := map[string]error{}
	warn := func(path string, err error) { warnings[path] = err }
	if _, err := Run(t.Context(), cat, a, Options{Target: target, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	if err := warnings["bomb"]; err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("warnings: %v", warnings)
	}
	if _, err := os.Lstat(filepath.Join(target, "bomb")); err == nil {
		t.Error("it is there")
	}
}

func TestAttributesThatMakeNoSenseAreWarnedOf(t *testing.T) {
	for name, change := range map[string]func(it *archive.Item){
		"list":           func(it *archive.Item) { it.ACLAccess = new("\x00\x1b") },
		"long list":      func(it *archive.Item) { it.ACLAccess = new(strings.Repeat("user:1:rwx:1\n", 1<<16)) },
		"attribute":      func(it *archive.Item) { it.Xattrs = map[string][]byte{"user.a\x00b": nil} },
		"no name":        func(it *archive.Item) { it.Xattrs = map[string][]byte{"": nil} },
		"long attribute": func(it *archive.Item) { it.Xattrs = map[string][]byte{"user.a": make([]byte, 1<<20)} },
		"list as attribute": func(it *archive.Item) {
			it.Xattrs = map[string][]byte{"system.posix_acl_access": []byte("\x02\x00\x00\x00")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := t.TempDir()
			bad := file("bad")
			bad.MTime = archive.Nanos{Sec: 1e9}
			change(bad)
			badDir, badLink := dir("dir"), symlink("link", "bad")
			change(badDir)
			change(badLink)
			warnings := restoreItems(t, target, bad, badDir, badLink, file("fine"))
			delete(warnings, "link") // which has no list
			if len(warnings) != 2 || warnings["bad"] == nil || warnings["dir"] == nil {
				t.Errorf("warnings: %v", warnings)
			}
			for _, n := range []string{"bad", "fine"} {
				if data, err := os.ReadFile(filepath.Join(target, n)); string(data) != "content" {
					t.Errorf("%s: %q, %v", n, data, err)
				}
			}
			if info, err := os.Stat(filepath.Join(target, "bad")); err != nil || info.ModTime().Unix() != 1e9 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

func TestFlagsLockNothingTooEarly(t *testing.T) {
	target := t.TempDir()
	flags := fsmeta.FlagImmutable | fsmeta.FlagAppend | 1<<63 | 0xffff0000
	locked := func(it *archive.Item) *archive.Item {
		it.BSDFlags = &flags
		return it
	}
	defer func() { // so that it can be removed
		filepath.WalkDir(target, func(path string, _ os.DirEntry, _ error) error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			r := fsmeta.Restorer{Owners: new(fsmeta.Owners)}
			d, err := fsmeta.OpenDir(filepath.Dir(path))
			if err != nil {
				return err
			}
			defer d.Release()
			info, err := fsmeta.Fstat(f)
			if err != nil {
				return err
			}
			var none uint64
			r.Lock(d, filepath.Base(path), info.FileID, &archive.Item{BSDFlags: &none})
			return nil
		})
	}()
	items := []*archive.Item{
		locked(dir(".")), locked(dir("d")), locked(file("d/f")), locked(link("d/g", "d/f")), locked(file("f")),
		locked(symlink("s", "f")), dir("open"), locked(file("open/f")),
	}
	warnings := restoreItems(t, target, items...)
	for path, err := range warnings {
		if !errors.Is(err, unix.ENOTSUP) { // of a file system without flags
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(warnings) > 0 || os.Geteuid() != 0 {
		t.Skip("only root can set these flags, on some file systems")
	}
	if err := os.WriteFile(filepath.Join(target, "f"), nil, 0o600); err == nil {
		t.Error("the file is not locked")
	}
	if err := os.WriteFile(filepath.Join(target, "d", "new"), nil, 0o600); err == nil {
		t.Error("the folder is not locked")
	}
	// What is locked is not replaced, and said so, once.
	warnings = restoreItems(t, target, file("f"), file("new"), locked(file("open/f")))
	if warnings["f"] == nil || warnings["new"] == nil || !errors.Is(warnings["open/f"], unix.EPERM) {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestSparseFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var want []byte
		for range rng.IntN(8) {
			part := make([]byte, rng.IntN(3*holeSize))
			if rng.IntN(2) == 0 {
				for i := range part {
					part[i] = byte(rng.Uint32())
				}
			}
			want = append(want, part...)
		}
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := fileOutput{f: f, sparse: true}
		for rest := want; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			if k, err := out.Write(rest[:n]); k != n || err != nil {
				t.Fatalf("wrote %d of %d, %v", k, n, err)
			}
			rest = rest[n:]
		}
		if err := out.finish(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d others, %v", len(want), len(got), err)
		}
	}
	var sizes []int64
	for _, sparse := range []bool{false, true} {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := fileOutput{f: f, sparse: sparse}
		for range 64 {
			if _, err := out.Write(make([]byte, 1<<16+1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.finish(); err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.Size() != 64*(1<<16+1) {
			t.Fatalf("%v, %v", info, err)
		}
		f.Sync() // some file systems give blocks only then
		if info, err = f.Stat(); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Sys().(*syscall.Stat_t).Blocks)
	}
	if sizes[0] < 64*(1<<16)/512 {
		t.Skipf("the file system takes %d blocks for zeros", sizes[0])
	}
	if sizes[1] > sizes[0]/10 {
		t.Errorf("a file of zeros takes %d blocks, and %d if sparse", sizes[0], sizes[1])
	}
}

func TestADryRunAndAStreamMakeNothing(t *testing.T) {
	target := t.TempDir()
	items := func() []*archive.Item {
		lost := file("lost")
		lost.Mode = fsmeta.TypeRegular | 0o600
		lost.HasChunks, lost.Chunks = true, []archive.Chunk{{ID: repository.ID{1}, Size: 5000}}
		return []*archive.Item{
			dir("d"), file("d/f"), link("d/g", "d/f"), symlink("s", "x"), lost, file("../escaped"), file("z"), link("l", "no"),
		}
	}
	var out bytes.Buffer
	for name, o := range map[string]Options{"dry run": {DryRun: true}, "stream": {Content: &out}} {
		var begun []string
		o.Begin = func(it *archive.Item) { begun = append(begun, it.Path) }
		o.Target = filepath.Join(target, "not there")
		warnings := restoreWith(t, o, items()...)
		if len(warnings) != 3 || warnings["lost"] == nil || warnings["../escaped"] == nil || warnings["l"] == nil {
			t.Errorf("%s: warnings %v", name, warnings)
		}
		if got := strings.Join(begun, " "); got != "d d/f d/g s lost ../escaped z l" {
			t.Errorf("%s: began %q", name, got)
		}
	}
	if want := "content" + strings.Repeat("\x00", 5000) + "content"; out.String() != want {
		t.Errorf("the stream is %q", out.String())
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

func TestNothingLeadsOutWhileSomebodyExchangesFolders(t *testing.T) {
	top := t.TempDir()
	target, outside := filepath.Join(top, "target"), filepath.Join(top, "outside")
	for _, dir := range []string{target, outside} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(outside, "f7")
	if err := os.WriteFile(precious, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var exchanging sync.WaitGroup
	exchanging.Go(func() {
		a, b := filepath.Join(target, "a"), filepath.Join(target, "b")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if os.Rename(a, b) != nil {
				continue
			}
			os.Symlink("../outside", a)
			runtime.Gosched()
			os.Remove(a)
			os.Rename(b, a)
		}
	})
	uid := uint32(os.Getuid())
	for range 2 {
		items := []*archive.Item{dir("a")}
		for i := range 80 {
			name := fmt.Sprintf("a/f%d", i)
			node := &archive.Item{Path: name + "p", Mode: fsmeta.TypeFIFO | 0o666, UID: uid}
			node.ACLAccess = new("user::rw-\nuser:1:rw-:1\ngroup::rw-\nmask::rw-\nother::rw-")
			sub := dir(name + "d")
			sub.ACLDefault = new("user::rwx\nuser:1:rwx:1\ngroup::rwx\nmask::rwx\nother::rwx")
			items = append(items, dir("a"), file(name), link(name+"l", name), symlink(name+"s", "x"), node, sub)
		}
		restoreItems(t, target, items...)
	}
	close(stop)
	exchanging.Wait()
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	if data, err := os.ReadFile(precious); err != nil || string(data) != "old" {
		t.Errorf("the file outside is %q, %v", data, err)
	}
	for path, mode := range map[string]os.FileMode{precious: 0o600, outside: os.ModeDir | 0o755} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s is %v, %v", path, info, err)
		}
	}
}
