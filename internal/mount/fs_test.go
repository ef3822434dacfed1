package mount

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/repository"
)

// A testRepo is a repository in memory, with a catalog of what is put into it.
type testRepo struct {
	t       *testing.T
	cat     *catalog.Catalog
	objects map[repository.ID][]byte
	gets    sync.Map // id to how often it was asked for
}

func newTestRepo(t *testing.T) *testRepo {
	r := &testRepo{t: t, objects: map[repository.ID][]byte{}}
	var err error
	if r.cat, err = catalog.New(r, envelope.NewPlaintext(), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *testRepo) Get(ctx context.Context, id repository.ID) ([]byte, error) {
	n, _ := r.gets.LoadOrStore(id, 0)
	r.gets.Store(id, n.(int)+1)
	if data, ok := r.objects[id]; ok {
		return data, ctx.Err()
	}
	return nil, repository.ErrNotFound
}

// asked reports whether an object was asked for.
func (r *testRepo) asked(id repository.ID) bool {
	_, ok := r.gets.Load(id)
	return ok
}

func (r *testRepo) put(data []byte) repository.ID {
	r.t.Helper()
	env, err := r.cat.Key.Seal(nil, data)
	if err != nil {
		r.t.Fatal(err)
	}
	id := r.cat.Key.ID(data)
	r.objects[id] = env
	return id
}

// chunks stores data in chunks of a size.
func (r *testRepo) chunks(data []byte, size int) (list []archive.Chunk) {
	for c := range slices.Chunk(data, size) {
		list = append(list, archive.Chunk{ID: r.put(c), Size: uint32(len(c))})
	}
	return list
}

// add stores an archive with the item stream that is in some chunks.
func (r *testRepo) add(name string, items []repository.ID) {
	at := time.Unix(int64(1400000000+len(r.cat.Manifest.Archives)), 0).UTC()
	rec := &archive.Archive{Name: name, Items: items, Time: at}
	r.cat.Manifest.Archives[name] = archive.ArchiveRef{ID: r.put(rec.Encode()), Time: at}
}

// stream stores items, cut as they always are.
func (r *testRepo) stream(items ...*archive.Item) []repository.ID {
	r.t.Helper()
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) { return r.put(data), nil })
	for _, it := range items {
		if err := w.Add(it); err != nil {
			r.t.Fatal(err)
		}
	}
	ids, err := w.Flush()
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}

// warnings are what a mount has told, by path.
type warnings struct {
	mu   sync.Mutex
	told map[string][]string
}

func (w *warnings) add(path string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told == nil {
		w.told = map[string][]string{}
	}
	w.told[path] = append(w.told[path], err.Error())
}

func (w *warnings) paths() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.told))
}

// of returns what was told of a path.
func (w *warnings) of(path string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told[path])
}

// open returns the file system of the repository without mounting it. If one is named, it is of that archive alone.
func (r *testRepo) open(o Options, single string) (*filesystem, *warnings) {
	w := new(warnings)
	o.Archives, o.Warn = r.cat.Archives(), w.add
	if single != "" {
		o.Single = true
		o.Archives = []catalog.Entry{{Name: single, ArchiveRef: r.cat.Manifest.Archives[single]}}
	}
	fs := newFilesystem(r.t.Context(), r.cat, o)
	r.t.Cleanup(fs.close)
	return fs, w
}

func regular(path string, chunks ...archive.Chunk) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, HasChunks: true, Chunks: chunks}
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

// readDir returns what a folder lists, and asks for as little at a time as a kernel may.
func readDir(t *testing.T, fs *filesystem, node uint64, plus bool, size int) []fuse.DirEntry {
	t.Helper()
	var all []fuse.DirEntry
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node}}
	if code := fs.OpenDir(nil, &fuse.OpenIn{InHeader: in.InHeader}, new(fuse.OpenOut)); !code.Ok() {
		t.Fatalf("open folder %#x: %v", node, code)
	}
	for {
		out := fuse.NewDirEntryList(make([]byte, size), in.Offset)
		read := fs.ReadDir
		if plus {
			read = fs.ReadDirPlus
		}
		if code := read(nil, in, out); !code.Ok() {
			t.Fatalf("list folder %#x: %v", node, code)
		}
		var entries []fuse.DirEntry
		var err error
		if plus {
			entries, _, err = fuse.ParseDirLookupEntries(out.Bytes())
		} else {
			entries, err = fuse.ParseDirEntries(out.Bytes())
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		all = append(all, entries...)
		in.Offset = entries[len(entries)-1].Off
	}
	if len(all) < 2 || all[0].Name != "." || all[1].Name != ".." {
		t.Fatalf("folder %#x begins with %v", node, all[:min(2, len(all))])
	}
	return all[2:]
}

// look returns the node of a name in a folder, 0 if there is none.
func look(t *testing.T, fs *filesystem, parent uint64, name string) fuse.EntryOut {
	t.Helper()
	var out fuse.EntryOut
	if code := fs.Lookup(nil, &fuse.InHeader{NodeId: parent}, name, &out); !code.Ok() {
		t.Fatalf("look up %q: %v", name, code)
	}
	return out
}

// content reads a file as a whole.
func readFile(t *testing.T, fs *filesystem, node uint64) (string, fuse.Status) {
	t.Helper()
	header := fuse.InHeader{NodeId: node}
	var open fuse.OpenOut
	if code := fs.Open(nil, &fuse.OpenIn{InHeader: header}, &open); !code.Ok() {
		return "", code
	}
	defer fs.Release(nil, &fuse.ReleaseIn{InHeader: header, Fh: open.Fh})
	var text strings.Builder
	buf := make([]byte, 1000)
	for {
		res, code := fs.Read(nil, &fuse.ReadIn{InHeader: header, Fh: open.Fh, Offset: uint64(text.Len())}, buf)
		if !code.Ok() {
			return text.String(), code
		}
		data, code := res.Bytes(buf)
		if len(data) == 0 || !code.Ok() {
			return text.String(), code
		}
		text.Write(data)
	}
}

// describe lists all that is below a folder: path, type, node, number of names, and content or target.
func describe(t *testing.T, fs *filesystem, node uint64, path string, lines *[]string) {
	t.Helper()
	for _, e := range readDir(t, fs, node, true, 4096) {
		at := path + e.Name
		found := look(t, fs, node, e.Name)
		var attr fuse.AttrOut
		if code := fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.Ino}}, &attr); !code.Ok() {
			t.Fatalf("attributes of %q: %v", at, code)
		}
		if found.NodeId != e.Ino || found.Attr != attr.Attr || attr.Mode&fsmeta.TypeMask != e.Mode {
			t.Errorf("%q is %v in the folder, %+v by its name and %+v by its node", at, e, found, attr)
		}
		what := fmt.Sprintf("%o*%d", attr.Mode, attr.Nlink)
		switch e.Mode {
		case fsmeta.TypeDir:
			*lines = append(*lines, at+"/ "+what)
			describe(t, fs, e.Ino, at+"/", lines)
			continue
		case fsmeta.TypeSymlink:
			target, code := fs.Readlink(nil, &fuse.InHeader{NodeId: e.Ino})
			what += fmt.Sprintf(" -> %s %v", target, code)
		case fsmeta.TypeRegular:
			text, code := readFile(t, fs, e.Ino)
			what += fmt.Sprintf(" %q", text)
			if !code.Ok() {
				what += " " + code.String()
			}
		}
		*lines = append(*lines, at+" "+what)
	}
}

func TestHostileArchivesAreShownAsFarAsTheyCanBe(t *testing.T) {
	long := strings.Repeat("n", maxName+1)
	deep := strings.Repeat("d/", 2000) + "x"
	for _, tt := range []struct {
		name  string
		items []*archive.Item
		want  []string
		warn  []string // the paths that are told of
	}{
		{"dots", []*archive.Item{regular("../escaped"), regular("a/../../escaped"), dir(".."), regular("a/.")}, nil, []string{"../escaped", "..", "a/../../escaped", "a/."}},
		{"absolute", []*archive.Item{regular("/escaped"), regular("//x")}, nil, []string{"/escaped", "//x"}},
		{"empty", []*archive.Item{regular(""), regular("a/"), regular("b//c")}, nil, []string{"", "a/", "b//c"}},
		{"zero byte", []*archive.Item{regular("a\x00b"), symlink("s", "a\x00b")}, nil, []string{"a\x00b", "s"}},
		{"newline", []*archive.Item{regular("a\nb")}, []string{"a\nb 100644*1 \"\""}, nil},
		{"not UTF-8", []*archive.Item{regular("\xff\xfe")}, []string{"\xff\xfe 100644*1 \"\""}, nil},
		{"long name", []*archive.Item{regular(long), regular(long + "/x")}, nil, []string{long, long + "/x"}},
		{"root as a file", []*archive.Item{regular(".")}, nil, []string{"."}},
		{"through a link", []*archive.Item{symlink("a", ".."), regular("a/escaped")}, []string{"a 120777*1 -> .. OK"}, []string{"a/escaped"}},
		{"file and folder", []*archive.Item{regular("a"), regular("a/x")}, []string{"a 100644*1 \"\""}, []string{"a/x"}},
		{"folder in use, then file", []*archive.Item{regular("a/x"), regular("a")}, []string{"a/ 40755*1", "a/x 100644*1 \"\""}, []string{"a"}},
		{"empty folder, then file", []*archive.Item{dir("a"), regular("a")}, []string{"a 100644*1 \"\""}, nil},
		{"file, then folder", []*archive.Item{regular("a"), dir("a"), regular("a/x")}, []string{"a/ 40755*1", "a/x 100644*1 \"\""}, nil},
		{"twice", []*archive.Item{symlink("a", "1"), regular("b"), symlink("a", "2")}, []string{"a 120777*1 -> 2 OK", "b 100644*1 \"\""}, nil},
		{"link and file", []*archive.Item{regular("b"), link("a", "b"), regular("a")}, []string{"a 100644*1 \"\"", "b 100644*1 \"\""}, nil},
		{"link to itself", []*archive.Item{link("a", "a")}, nil, []string{"a"}},
		{"links in a circle", []*archive.Item{link("a", "b"), link("b", "c"), link("c", "a")}, nil, []string{"a", "b", "c"}},
		{"link to nothing", []*archive.Item{link("a", "gone"), link("b", "../etc"), link("c", "a")}, nil, []string{"a", "b", "c"}},
		{"link to a folder", []*archive.Item{dir("d"), link("a", "d")}, []string{"d/ 40755*1"}, []string{"a"}},
		{"link through a link", []*archive.Item{symlink("s", "."), regular("x"), link("a", "s/x")}, []string{"s 120777*1 -> . OK", "x 100644*1 \"\""}, []string{"a"}},
		{"links in any order", []*archive.Item{link("a", "b"), link("b", "c/d"), regular("c/d"), link("e", "a")}, []string{"a 100644*4 \"\"", "b 100644*4 \"\"", "c/ 40755*1", "c/d 100644*4 \"\"", "e 100644*4 \"\""}, nil},
		{"link below a file", []*archive.Item{regular("f"), link("f/l", "f")}, []string{"f 100644*1 \"\""}, []string{"f/l"}},
		{"unknown types", []*archive.Item{{Path: "a", Mode: 0o644}, {Path: "b", Mode: 0o030000}, {Path: "c", Mode: 0o1100644}, {Path: "s", Mode: fsmeta.TypeSocket}}, nil, []string{"a", "b", "c", "s"}},
		{"no content", []*archive.Item{{Path: "a", Mode: fsmeta.TypeRegular}}, nil, []string{"a"}},
		{"no number", []*archive.Item{{Path: "a", Mode: fsmeta.TypeBlock}}, nil, []string{"a"}},
		{"no target", []*archive.Item{symlink("a", "")}, nil, []string{"a"}},
		{"a size that cannot be", []*archive.Item{regular("a", archive.Chunk{Size: 1 << 31}, archive.Chunk{Size: 1<<32 - 1})}, []string{"a 100644*1 \"\" 5=input/output error"}, []string{"a"}},
		{"empty chunks", []*archive.Item{regular("a", make([]archive.Chunk, 1000)...)}, []string{"a 100644*1 \"\""}, nil},
		{"deep", []*archive.Item{regular(deep)}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newTestRepo(t)
			r.add("x", r.stream(tt.items...))
			fs, warned := r.open(Options{}, "x")
			var lines []string
			describe(t, fs, fuse.FUSE_ROOT_ID, "", &lines)
			if tt.name != "deep" && !slices.Equal(lines, tt.want) {
				t.Errorf("shown:\n%q\nwant:\n%q", lines, tt.want)
			} else if tt.name == "deep" && len(lines) != 2001 {
				t.Errorf("%d lines", len(lines))
			}
			slices.Sort(tt.warn)
			if got := warned.paths(); !slices.Equal(got, tt.warn) {
				t.Errorf("told of %q, want %q", got, tt.warn)
			}
			if fs.close(); len(fs.open) != 0 || len(fs.shared) != 0 {
				t.Error("files are still open")
			}
		})
	}
}

// A few items, which compress well, must not fill the memory.
func TestPathsWithVeryManyFoldersAreRefused(t *testing.T) {
	r := newTestRepo(t)
	var items []*archive.Item
	for i := range 20 {
		items = append(items, regular(fmt.Sprintf("%d/%sx", i, strings.Repeat("d/", 8000))))
	}
	items = append(items, regular(strings.Repeat("d/", maxPath/2)+"x"), link("l", strings.Repeat("d", maxPath+1)), regular("y"))
	r.add("x", r.stream(items...))
	fs, warned := r.open(Options{}, "x")
	tr, err := fs.trees.value(0)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tr.entries); n > freeFolders+50 {
		t.Errorf("%d entries", n)
	}
	if out := look(t, fs, fuse.FUSE_ROOT_ID, "y"); out.NodeId == 0 {
		t.Error("what comes after is not there")
	}
	paths := warned.paths()
	if len(paths) != 14 {
		t.Errorf("told of %d paths", len(paths))
	}
	for _, p := range paths {
		if len(p) > maxTold {
			t.Errorf("a message has %d bytes", len(p))
		}
	}
}

func TestArchivesHaveFoldersWhoseNamesDiffer(t *testing.T) {
	long := strings.Repeat("é", 200)
	for _, tt := range []struct{ archives, want []string }{
		{[]string{"a", "b c", "\xff"}, []string{"a", "b c", "\xff"}},
		{[]string{"a/b", "a_b", "a\x00b", "a_b.2"}, []string{"a_b.3", "a_b", "a_b.4", "a_b.2"}},
		{[]string{"", ".", "..", "/", "_"}, []string{"_.2", "_.3", "__", "_.4", "_"}},
		{[]string{long, long + "x"}, []string{long[:240], long[:240] + ".2"}},
	} {
		var entries []catalog.Entry
		for _, name := range tt.archives {
			entries = append(entries, catalog.Entry{Name: name})
		}
		if got := dirNames(entries); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.archives, got, tt.want)
		}
	}
}

func TestTheFirstListingReadsNoArchive(t *testing.T) {
	r := newTestRepo(t)
	for i := range 10 {
		r.add(fmt.Sprint("archive/", i), r.stream(regular(fmt.Sprint("file", i))))
	}
	fs, _ := r.open(Options{}, "")
	list := readDir(t, fs, fuse.FUSE_ROOT_ID, true, 4096)
	if len(list) != 10 || list[3].Name != "archive_3" {
		t.Fatalf("listed %v", list)
	}
	for _, e := range list {
		if out := look(t, fs, fuse.FUSE_ROOT_ID, e.Name); out.NodeId != e.Ino || out.Mtime < 1400000000 {
			t.Errorf("%s is %+v", e.Name, out)
		}
	}
	if out := look(t, fs, fuse.FUSE_ROOT_ID, "none"); out.NodeId != 0 {
		t.Errorf("there is %+v", out)
	}
	r.gets.Range(func(id, n any) bool { t.Errorf("object %v was read", id); return true })
	if got := readDir(t, fs, list[4].Ino, false, 4096); len(got) != 1 || got[0].Name != "file4" {
		t.Errorf("archive 4 has %v", got)
	}
	if !r.asked(r.cat.Manifest.Archives["archive/4"].ID) || r.asked(r.cat.Manifest.Archives["archive/5"].ID) {
		t.Error("another archive than that was read")
	}
}

func TestLargeFoldersAreListedPieceByPiece(t *testing.T) {
	r := newTestRepo(t)
	var items []*archive.Item
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("%0*d", 1+i%200, i)
		want = append(want, name)
		items = append(items, regular("d/"+name)) // not sorted
	}
	slices.Sort(want)
	r.add("x", r.stream(items...))
	fs, _ := r.open(Options{}, "x")
	d := look(t, fs, fuse.FUSE_ROOT_ID, "d")
	for _, plus := range []bool{false, true} {
		var got []string
		for _, e := range readDir(t, fs, d.NodeId, plus, 512) {
			got = append(got, e.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("plus %t: %d names, want %d", plus, len(got), len(want))
		}
	}
}

func TestAttributesComeBack(t *testing.T) {
	r := newTestRepo(t)
	rdev := uint64(8<<8 | 1)
	nobody := "no such user or group"
	root := "root"
	xattrs := map[string][]byte{"user.a": []byte("value"), "user.empty": nil, "user.zero\x00": []byte("x")}
	r.add("x", r.stream(
		&archive.Item{Path: ".", Mode: fsmeta.TypeDir | 0o1711, UID: 7, GID: 8, MTime: archive.Nanos{Sec: 1, Nsec: 2}},
		&archive.Item{Path: "dev", Mode: fsmeta.TypeBlock | 0o660, Rdev: &rdev, UID: 1000, GID: 1001, MTime: archive.Nanos{Sec: -2, Nsec: 499999999}},
		&archive.Item{Path: "fifo", Mode: fsmeta.TypeFIFO | 0o600, User: &nobody, Group: &nobody, UID: 4000000001, GID: 4000000002, MTime: archive.Nanos{Sec: 1 << 35, Nsec: 999999999}},
		&archive.Item{Path: "file", Mode: fsmeta.TypeRegular | 0o4751, User: &root, UID: 55, HasChunks: true, Chunks: r.chunks(make([]byte, 1000), 300), Xattrs: xattrs},
		&archive.Item{Path: "link", Mode: fsmeta.TypeSymlink | 0o777, Source: "target", Xattrs: map[string][]byte{"user.l": []byte("1")}},
	))
	fs, _ := r.open(Options{}, "x")
	get := func(name string) fuse.Attr { return look(t, fs, fuse.FUSE_ROOT_ID, name).Attr }
	var top fuse.AttrOut
	if code := fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}, &top); !code.Ok() ||
		top.Mode != 0o041711 || top.Uid != 7 || top.Gid != 8 || top.Mtime != 1 || top.Mtimensec != 2 {
		t.Errorf("root: %v %+v", code, top)
	}
	if a := get("dev"); a.Mode != 0o060660 || a.Rdev != 8<<8|1 || a.Uid != 1000 || a.Gid != 1001 || int64(a.Mtime) != -2 || a.Mtimensec != 499999999 || a.Size != 0 {
		t.Errorf("device: %+v", a)
	}
	if a := get("fifo"); a.Mode != 0o010600 || a.Uid != 4000000001 || a.Gid != 4000000002 || a.Mtime != 1<<35 {
		t.Errorf("fifo: %+v", a)
	}
	if a := get("file"); a.Mode != 0o104751 || a.Uid != 0 || a.Size != 1000 || a.Blocks != 2 || a.Nlink != 1 {
		t.Errorf("file: %+v", a)
	}
	if a := get("link"); a.Mode != 0o120777 || a.Size != 6 {
		t.Errorf("link: %+v", a)
	}

	file := &fuse.InHeader{NodeId: look(t, fs, fuse.FUSE_ROOT_ID, "file").NodeId}
	buf := make([]byte, 100)
	if n, code := fs.ListXAttr(nil, file, buf); !code.Ok() || string(buf[:n]) != "user.a\x00user.empty\x00" {
		t.Errorf("attributes: %q, %v", buf[:n], code)
	}
	if n, code := fs.ListXAttr(nil, file, buf[:3]); code != fuse.ERANGE || n != 18 {
		t.Errorf("attributes without room: %d, %v", n, code)
	}
	for name, want := range map[string]string{"user.a": "value", "user.empty": ""} {
		if n, code := fs.GetXAttr(nil, file, name, buf); !code.Ok() || string(buf[:n]) != want {
			t.Errorf("attribute %s: %q, %v", name, buf[:n], code)
		}
	}
	if n, code := fs.GetXAttr(nil, file, "user.a", nil); code != fuse.ERANGE || n != 5 {
		t.Errorf("attribute without room: %d, %v", n, code)
	}
	if _, code := fs.GetXAttr(nil, file, "user.none", buf); code != fuse.ENOATTR {
		t.Errorf("no attribute: %v", code)
	}
	if n, code := fs.GetXAttr(nil, &fuse.InHeader{NodeId: look(t, fs, fuse.FUSE_ROOT_ID, "link").NodeId}, "user.l", buf); !code.Ok() || string(buf[:n]) != "1" {
		t.Errorf("attribute of a link: %q, %v", buf[:n], code)
	}

	fs, _ = r.open(Options{UID: new(uint32(42)), GID: new(uint32(43)), Umask: 0o027}, "x")
	if a := get("file"); a.Mode != 0o104750 || a.Uid != 42 || a.Gid != 43 {
		t.Errorf("file with options: %+v", a)
	}
}

func TestNodesThatCannotBeAreStale(t *testing.T) {
	r := newTestRepo(t)
	r.add("x", r.stream(regular("a")))
	fs, _ := r.open(Options{}, "")
	for _, node := range []uint64{0, 2, 1<<32 | 99, 7<<32 | 1, 1<<63 | 1, 2 << 32} {
		if code := fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: node}}, new(fuse.AttrOut)); code.Ok() {
			t.Errorf("node %#x is there", node)
		}
		if _, code := readFile(t, fs, node); code.Ok() {
			t.Errorf("node %#x can be read", node)
		}
	}
}
