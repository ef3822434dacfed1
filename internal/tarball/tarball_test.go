package tarball_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/internal/fsmeta"
	"garret/internal/tarball"
	"garret/repository"
	"garret/repository/storage"
)

// store is a repository in memory, in which the manifest is what the catalog has.
type store struct {
	*repository.Repository
	cat     *catalog.Catalog
	damaged bool // on purpose: archives lack something
}

// newStore returns an empty repository. At the end of the test it is checked in full.
func newStore(t testing.TB) *store {
	t.Helper()
	repo, err := repository.CreateIn(t.Context(), new(storage.Mem), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &store{Repository: repo}
	if s.cat, err = catalog.New(repo, envelope.NewPlaintext(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := t.Context()
		if ctx.Err() != nil {
			ctx = context.WithoutCancel(ctx)
		}
		if !s.damaged {
			if _, err := fsck.Archives(ctx, s, s.cat, func(f fsck.Finding) { t.Error(f) }); err != nil {
				t.Error(err)
			}
		}
		if report, err := repo.Check(ctx, repository.CheckOptions{}); err != nil || len(report.Findings) > 0 {
			t.Errorf("check: %+v, %v", report, err)
		}
		repo.Close()
	})
	return s
}

// named is an item and its content.
type named struct {
	*archive.Item
	content string
}

// add makes an archive.
func (s *store) add(t testing.TB, name string, items ...named) *archive.Archive {
	t.Helper()
	w, err := backup.NewWriter(t.Context(), s, s.cat, backup.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, it := range items {
		var content io.Reader
		if it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.Source == "" {
			content = strings.NewReader(it.content)
		}
		clone := *it.Item // which is the Writer's then
		if err := w.Add(&clone, content); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return s.archive(t, name)
}

func (s *store) archive(t testing.TB, name string) *archive.Archive {
	t.Helper()
	a, err := s.cat.Archive(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *store) items(t testing.TB, name string) (items []*archive.Item) {
	t.Helper()
	for it, err := range s.cat.Items(t.Context(), s.archive(t, name)) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, it)
	}
	return items
}

// warnings are what was warned of, by path.
type warnings map[string]string

func (w warnings) add(path string, err error) { w[path] += err.Error() + "\n" }

// must checks that there is a warning of each path with each text, and of no other path.
func (w warnings) must(t testing.TB, want map[string]string) {
	t.Helper()
	for path, text := range want {
		if !strings.Contains(w[path], text) || w[path] == "" {
			t.Errorf("warning of %q: %q, want %q", path, w[path], text)
		}
	}
	for path, text := range w {
		if _, ok := want[path]; !ok {
			t.Errorf("warning of %q: %s", path, text)
		}
	}
}

// export returns the tar of an archive.
func (s *store) export(t testing.TB, name string, o tarball.ExportOptions) ([]byte, warnings) {
	t.Helper()
	w := warnings{}
	o.Warn = w.add
	var out bytes.Buffer
	stats, err := tarball.Export(t.Context(), s, s.cat, s.archive(t, name), &out, o)
	if err != nil {
		t.Fatal(err)
	}
	if (stats.Warnings == 0) != (len(w) == 0) {
		t.Errorf("%d warnings are counted, %d are told", stats.Warnings, len(w))
	}
	return out.Bytes(), w
}

// load makes an archive of a tar.
func (s *store) load(t testing.TB, name string, data []byte) (warnings, error) {
	t.Helper()
	warned := warnings{}
	w, err := backup.NewWriter(t.Context(), s, s.cat, backup.Options{Name: name, Warn: warned.add})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := tarball.Import(bytes.NewReader(data), w, tarball.ImportOptions{Warn: warned.add}); err != nil {
		w.Close()
		return warned, errors.Join(err, s.Rollback())
	}
	_, err = w.Finish()
	return warned, err
}

func mtime(sec int64, nsec uint32) archive.Nanos { return archive.Nanos{Sec: sec, Nsec: nsec} }

func file(path, content string) named {
	return named{&archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, MTime: mtime(1, 0)}, content}
}

func dir(path string) named {
	return named{&archive.Item{Path: path, Mode: fsmeta.TypeDir | 0o755}, ""}
}

func link(path, source string) named {
	return named{&archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644, Source: source}, ""}
}

// noise returns bytes that cannot be compressed, the same for the same seed.
func noise(seed uint64, n int) string {
	data := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(data)
	return string(data)
}

// everything is a tree with all that an item can have.
func everything() []named {
	return []named{
		{&archive.Item{Path: ".", Mode: fsmeta.TypeDir | 0o1777, MTime: mtime(5, 999_999_999), User: new("root"), Group: new("a group")}, ""},
		{&archive.Item{
			Path: "acl", Mode: fsmeta.TypeRegular | 0o674, UID: 1, GID: 2, MTime: mtime(1<<33, 1),
			ACLAccess: new("user::rw-\nuser:daemon:rw-:1\nuser:54321:r--:54321\ngroup::r--\nmask::rwx\nother::r--"),
		}, "x"},
		{&archive.Item{
			Path: "acl-dir", Mode: fsmeta.TypeDir | 0o755, ACLAccess: new("user::rwx\ngroup::r-x\nother::r-x"),
			ACLDefault: new("user::rwx\ngroup::r-x\nother::---"),
		}, ""},
		{&archive.Item{Path: "block", Mode: fsmeta.TypeBlock | 0o660, Rdev: new(unix.Mkdev(8, 300)), MTime: mtime(0, 0)}, ""},
		{&archive.Item{Path: "bytes-\xff\xfe", Mode: fsmeta.TypeRegular | 0o4755, MTime: mtime(-2, 500_000_000)}, "old"},
		{&archive.Item{Path: "char", Mode: fsmeta.TypeChar | 0o600, Rdev: new(uint64(0)), MTime: mtime(-62135596800+86400*365, 7)}, ""},
		{&archive.Item{Path: "empty", Mode: fsmeta.TypeRegular, UID: 1<<32 - 2, GID: 1 << 31}, ""},
		{&archive.Item{Path: "fifo", Mode: fsmeta.TypeFIFO | 0o640, User: new(strings.Repeat("ü", 50)), Group: new("g\xff")}, ""},
		{&archive.Item{Path: "future", Mode: fsmeta.TypeRegular | 0o600, MTime: mtime(13569465600, 123456789)}, "2400"},
		{&archive.Item{Path: "large", Mode: fsmeta.TypeRegular | 0o600}, noise(1, 20<<20)},
		{&archive.Item{Path: "line\nfeed and = and %", Mode: fsmeta.TypeRegular | 0o600}, noise(2, 511)},
		{&archive.Item{Path: "link", Mode: fsmeta.TypeRegular | 0o674, Source: "acl", MTime: mtime(1<<33, 1), UID: 1, GID: 2}, ""},
		{&archive.Item{Path: "symlink", Mode: fsmeta.TypeSymlink | 0o777, Source: "../\xffelse\xffwhere/", MTime: mtime(3, 4)}, ""},
		{&archive.Item{Path: "symlink-long", Mode: fsmeta.TypeSymlink | 0o777, Source: strings.Repeat("long/", 300)}, ""},
		{&archive.Item{Path: "xattrs", Mode: fsmeta.TypeRegular | 0o600, Xattrs: map[string][]byte{
			"user.empty": nil, "user.zero": {0, '\n', 0}, "user.a=b%c%3D": []byte("=%"), "user.\xff": []byte("\xff"),
			"security.capability": []byte(noise(3, 60_000)),
		}}, noise(3, 512)},
		{&archive.Item{Path: strings.Repeat("deep/", 200) + strings.Repeat("n", 255), Mode: fsmeta.TypeRegular | 0o600}, "y"},
	}
}

var sameItem = cmp.Transformer("emptyIsNil", func(m map[string][]byte) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	return out
})

func TestATarHasAllThatAnItemHas(t *testing.T) {
	s := newStore(t)
	s.add(t, "one", everything()...)
	for _, c := range []tarball.Compression{tarball.NoCompression, tarball.Gzip, tarball.Zstd} {
		data, warned := s.export(t, "one", tarball.ExportOptions{})
		warned.must(t, nil)
		var packed bytes.Buffer
		w, err := c.Writer(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		warned, err = s.load(t, string(c), packed.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		warned.must(t, nil)
		if d := cmp.Diff(s.items(t, "one"), s.items(t, string(c)), sameItem); d != "" {
			t.Errorf("%s: %s", c, d)
		}
	}
}

// names lists the entries of a tar, with their types and what they are links to.
func names(t testing.TB, data []byte) (list []string, content map[string]string) {
	t.Helper()
	content = map[string]string{}
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return list, content
		}
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %s", h.Typeflag, h.Name)
		if h.Typeflag == tar.TypeLink {
			line += " = " + h.Linkname
		}
		list = append(list, line)
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		content[h.Name] = string(text)
	}
}

func TestALinkWhoseSourceIsLeftOutBecomesACopy(t *testing.T) {
	s := newStore(t)
	s.add(t, "one", dir("a"), file("a/x", "content"), file("a/y", "other"), dir("b"), link("b/x", "a/x"), link("b/y", "a/x"),
		link("b/z", "a/y"), link("c", "nothing"), link("d", "d"))
	for _, tt := range []struct {
		name string
		o    tarball.ExportOptions
		want []string
		warn map[string]string
	}{
		{"all", tarball.ExportOptions{}, []string{
			"5 a/", "0 a/x", "0 a/y", "5 b/", "1 b/x = a/x", "1 b/y = a/x", "1 b/z = a/y",
		}, map[string]string{"c": "nothing", "d": "itself"}},
		{
			"without the source",
			tarball.ExportOptions{Match: func(p string) bool { return strings.HasPrefix(p, "b") || p == "a/y" }},
			[]string{"0 a/y", "5 b/", "0 b/x", "1 b/y = b/x", "1 b/z = a/y"},
			nil,
		},
		{"stripped", tarball.ExportOptions{StripComponents: 1}, []string{"0 x", "0 y", "1 x = x", "1 y = x", "1 z = y"}, nil},
		{"stripped to nothing", tarball.ExportOptions{StripComponents: 9}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, warned := s.export(t, "one", tt.o)
			warned.must(t, tt.warn)
			list, content := names(t, data)
			if !slices.Equal(list, tt.want) {
				t.Errorf("%q, want %q", list, tt.want)
			}
			if tt.name == "without the source" && content["b/x"] != "content" {
				t.Errorf("%q", content)
			}
		})
	}
}

func TestWhatIsLostIsZerosUnderAnotherName(t *testing.T) {
	s := newStore(t)
	s.damaged = true
	small, large := noise(10, 500_000), noise(11, 20<<20)
	s.add(t, "one", file("fine", "fine"), file("large-damaged", large), link("large-link", "large-damaged"), file("large-missing", "0"+large[5<<20:]),
		file("small-damaged", small), file("small-missing", "1"+small[100_000:]), link("small-link", "small-missing"), file("so\nfine", "too"))
	for _, it := range s.items(t, "one") {
		var err error
		at := 1
		switch it.Path {
		case "large-missing", "small-missing":
			at = 0 // which no other file has
			err = s.Delete(t.Context(), it.Chunks[at].ID)
		case "large-damaged", "small-damaged":
			err = s.Put(t.Context(), it.Chunks[0].ID, []byte("this is no envelope"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, warned := s.export(t, "one", tarball.ExportOptions{})
	warned.must(t, map[string]string{
		"large-damaged": "zeros", "large-link": "not in the tar as a whole", "large-missing": `exported as "large-missing.damaged": bytes 0 to`,
		"small-damaged": `exported as "small-damaged.damaged": bytes 0 to`, "small-missing": "bytes 0 to", "small-link": "as a whole",
	})
	list, content := names(t, data)
	want := []string{
		"0 fine", "0 large-damaged", "0 large-missing.damaged", "0 small-damaged.damaged", "0 small-missing.damaged", "0 so\nfine",
	}
	if !slices.Equal(list, want) {
		t.Errorf("%q, want %q", list, want)
	}
	for name, whole := range map[string]string{"large-damaged": large, "small-damaged.damaged": small} {
		got := content[name]
		zeros := len(got) - len(strings.TrimLeft(got, "\x00"))
		if len(got) != len(whole) || zeros < 1000 || got[zeros:] != whole[zeros:] {
			t.Errorf("%s: %d bytes of %d, %d zeros", name, len(got), len(whole), zeros)
		}
	}
	if content["so\nfine"] != "too" {
		t.Errorf("what comes after is %q", content["so\nfine"])
	}
}

func TestItemsThatATarCannotHaveAreReported(t *testing.T) {
	s := newStore(t)
	s.damaged = true
	huge := &archive.Item{Path: "huge", Mode: fsmeta.TypeRegular, HasChunks: true}
	for range 1 << 10 {
		huge.Chunks = append(huge.Chunks, archive.Chunk{Size: 1<<32 - 1})
	}
	bad := []named{
		file("../escaped", "1"), file("/escaped", "2"), file("a/../../b", "3"), file("", "4"), file(".", "5"), file("nul\x00", "6"),
		{&archive.Item{Path: "socket", Mode: fsmeta.TypeSocket}, ""},
		{&archive.Item{Path: "unknown", Mode: 0o030000}, ""},
		{&archive.Item{Path: "device", Mode: fsmeta.TypeBlock}, ""},
		{&archive.Item{Path: "nul in link", Mode: fsmeta.TypeSymlink, Source: "a\x00b"}, ""},
		{&archive.Item{Path: "nul in user", Mode: fsmeta.TypeFIFO, User: new("a\x00b")}, ""},
	}
	all := slices.Concat([]named{file("first", "fine")}, bad, []named{
		{&archive.Item{Path: "many xattrs", Mode: fsmeta.TypeDir, Xattrs: map[string][]byte{
			"user.a": make([]byte, 600_000), "user.b": make([]byte, 600_000),
		}}, ""},
		file("last", "fine"),
	})
	s.add(t, "one", all...)
	data, warned := s.export(t, "one", tarball.ExportOptions{})
	want := map[string]string{"many xattrs": "some are missing"}
	for _, it := range bad {
		want[it.Path] = ""
	}
	warned.must(t, want)
	list, content := names(t, data)
	if !slices.Equal(list, []string{"0 first", "5 many xattrs/", "0 last"}) || content["last"] != "fine" {
		t.Errorf("%q", list)
	}
}

// write makes a tar.
func write(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, strings.Repeat("c", int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPathsOfATarAreMadeRelative(t *testing.T) {
	s := newStore(t)
	warned, err := s.load(t, "one", write(t,
		&tar.Header{Name: "/etc/hosts", Size: 3},
		&tar.Header{Name: "../../photos/x", Size: 3},
		&tar.Header{Name: "a/../../b", Size: 3},
		&tar.Header{Name: "./", Typeflag: tar.TypeDir},
		&tar.Header{Name: "./c//d/", Typeflag: tar.TypeDir},
		&tar.Header{Name: "old/", Typeflag: tar.TypeCont},
		&tar.Header{Name: "e", Typeflag: tar.TypeLink, Linkname: "/etc/hosts"},
		&tar.Header{Name: "f", Typeflag: tar.TypeLink, Linkname: "e"},
		&tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "/etc/hosts"},
		&tar.Header{Name: "t", Typeflag: tar.TypeLink, Linkname: "./s"},
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
	))
	if err != nil {
		t.Fatal(err)
	}
	warned.must(t, nil)
	var got []string
	for _, it := range s.items(t, "one") {
		got = append(got, fmt.Sprintf("%o %s %s %d", it.Mode&fsmeta.TypeMask, it.Path, it.Source, len(it.Chunks)))
	}
	want := []string{
		"100000 etc/hosts  1", "100000 photos/x  1", "100000 b  1", "40000 .  0", "40000 c/d  0", "40000 old  0", "100000 e etc/hosts 0",
		"100000 f etc/hosts 0", "120000 s /etc/hosts 0", "120000 t /etc/hosts 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEntriesThatCannotBeStoredAreReported(t *testing.T) {
	s := newStore(t)
	many := map[string]string{"SCHILY.xattr.system.posix_acl_access": "x"}
	warned, err := s.load(t, "one", write(t,
		&tar.Header{Name: "fine", Size: 3},
		&tar.Header{Name: "..", Size: 3},
		&tar.Header{Name: "symlink", Typeflag: tar.TypeSymlink},
		&tar.Header{Name: "self", Typeflag: tar.TypeLink, Linkname: "self"},
		&tar.Header{Name: "early", Typeflag: tar.TypeLink, Linkname: "late"},
		&tar.Header{Name: "late", Size: 1},
		&tar.Header{Name: "dir", Typeflag: tar.TypeDir},
		&tar.Header{Name: "to dir", Typeflag: tar.TypeLink, Linkname: "dir"},
		&tar.Header{Name: "owner", Uid: -1, Format: tar.FormatGNU},
		&tar.Header{Name: "device", Typeflag: tar.TypeChar, Devmajor: -5, Format: tar.FormatGNU},
		&tar.Header{Name: "acl", PAXRecords: map[string]string{"SCHILY.acl.access": "user::rw-,nonsense"}},
		&tar.Header{Name: "binary acl", PAXRecords: many},
		&tar.Header{Name: "multivolume", Typeflag: 'M'},
		&tar.Header{Name: "twice", Size: 1},
		&tar.Header{Name: "other", Typeflag: tar.TypeLink, Linkname: "twice"},
		&tar.Header{Name: "twice", Size: 2},
		&tar.Header{Name: "last", Size: 1},
	))
	if err != nil {
		t.Fatal(err)
	}
	warned.must(t, map[string]string{
		"..": "has no name", "symlink": "to nothing", "self": "itself", "early": "does not come before it", "to dir": "does not come before",
		"owner": "-1:0", "device": "-5:0", "acl": `ACL entry "nonsense" is none`, "binary acl": "--acls", "multivolume": "unknown type",
		"twice": "comes again",
	})
	if items := s.items(t, "one"); len(items) != 9 || items[8].Path != "last" || items[0].Path != "fine" {
		t.Errorf("%d items", len(items))
	}
}

func TestATarThatIsNotWholeIsNotStored(t *testing.T) {
	s := newStore(t)
	whole := write(t, &tar.Header{Name: "a", Size: 1000}, &tar.Header{Name: strings.Repeat("long", 50), Size: 600}, &tar.Header{Name: "c"})
	boundary := 0
	for n := 1; n < len(whole); n += 73 {
		for _, n := range []int{n, n &^ 511} {
			if n == 0 {
				continue
			}
			name := fmt.Sprint(n)
			if _, ok := s.cat.Manifest.Archives[name]; ok {
				continue
			}
			warned, err := s.load(t, name, whole[:n])
			if err == nil { // only what fills a block is missing, or the end
				boundary++
				if !strings.Contains(warned[""], tarball.ErrNoEnd.Error()) {
					t.Errorf("%d of %d bytes are taken for a tar: %v", n, len(whole), warned)
				}
			}
			for _, it := range s.cat.Archives() {
				if it.Name == name {
					s.mustHoldWholeFiles(t, name)
				}
			}
		}
	}
	if boundary == 0 {
		t.Error("no cut between two entries was tried")
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(whole)
	z.Close()
	flipped := packed.Bytes()
	flipped[len(flipped)-6] ^= 1 // in the sum
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte(strings.Repeat("no tar ", 1000)), "short": []byte("x"), "sum": flipped, "cut": flipped[:len(flipped)-8],
		"gzip": []byte("\x1f\x8bnonsense"), "zstd": []byte("\x28\xb5\x2f\xfdnonsense"), "bzip2": []byte("BZh9nonsense"), "xz": []byte("\xfd7zXZ\x00..."),
		"damaged": slices.Concat(whole[:2048], []byte(strings.Repeat("x", 512)), whole[2560:]),
	} {
		if _, err := s.load(t, name, data); err == nil {
			t.Errorf("%s is taken for a tar", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if warned, err := s.load(t, "joined", slices.Concat(whole, whole)); err != nil || !strings.Contains(warned[""], "follows the end") {
		t.Errorf("%v, %v", warned, err)
	}
	for _, c := range []tarball.Compression{tarball.Gzip, tarball.Zstd} {
		var packed bytes.Buffer
		w, err := c.Writer(&packed)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(whole)
		w.Close()
		for name, rest := range map[string][]byte{"zeros": make([]byte, 512), "text": []byte("some text behind"), "more": packed.Bytes()} {
			warned, err := s.load(t, string(c)+name, slices.Concat(packed.Bytes(), rest))
			if err != nil || !strings.Contains(warned[""], "follows the end") {
				t.Errorf("%s, then %s: %v, %v", c, name, warned, err)
			}
		}
	}
	if warned, err := s.load(t, "padded", slices.Concat(whole, make([]byte, 9000))); err != nil || len(warned) > 0 {
		t.Errorf("%v, %v", warned, err)
	}
}

func TestAFileMayHaveMoreThanEightGiB(t *testing.T) {
	s := newStore(t)
	s.add(t, "part", file("part", strings.Repeat("\x00", 10<<20)))
	large := s.items(t, "part")[0]
	for range 900 {
		large.Chunks = append(large.Chunks, large.Chunks[0])
	}
	w, err := backup.NewWriter(t.Context(), s, s.cat, backup.Options{Name: "large"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(large, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	r, pipe := io.Pipe()
	done := make(chan error)
	a := s.archive(t, "large")
	go func() {
		_, err := tarball.Export(t.Context(), s, s.cat, a, pipe, tarball.ExportOptions{})
		done <- err
	}()
	h, err := tar.NewReader(r).Next()
	if err != nil || h.Size != 901*10<<20 {
		t.Errorf("%+v, %v", h, err)
	}
	broken := errors.New("nobody reads on")
	r.CloseWithError(broken)
	if err := <-done; !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestSparseFilesAreStoredWhole(t *testing.T) {
	data, err := os.ReadFile("testdata/sparse.tar.gz") // as GNU tar writes one, in each of its four formats
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	warned, err := s.load(t, "one", data)
	if err != nil {
		t.Fatal(err)
	}
	warned.must(t, nil)
	var sizes []int64
	for _, it := range s.items(t, "one") {
		var size int64
		for _, c := range it.Chunks {
			size += int64(c.Size)
		}
		sizes = append(sizes, size)
	}
	if !slices.Equal(sizes, []int64{3_000_003, 3_000_003, 3_000_003, 3_000_003}) {
		t.Errorf("%d", sizes)
	}
	_, content := names(t, must(s.export(t, "one", tarball.ExportOptions{})))
	for name, text := range content {
		if !strings.HasPrefix(text, "\x00") || !strings.HasSuffix(text, "end") || strings.Count(text, "\x00") != 3_000_000 {
			t.Errorf("%s is something else", name)
		}
	}
}

// mustHoldWholeFiles checks the files of an archive of the tar that is cut off.
func (s *store) mustHoldWholeFiles(t *testing.T, name string) {
	t.Helper()
	for _, it := range s.items(t, name) {
		var size int64
		for _, c := range it.Chunks {
			size += int64(c.Size)
		}
		if want := map[string]int64{"a": 1000, "c": 0}[it.Path]; size != want && size != 600 {
			t.Errorf("%s: %q has %d bytes", name, it.Path, size)
		}
	}
}

func must(data []byte, _ warnings) []byte { return data }

func TestNamesOfCompressions(t *testing.T) {
	for name, want := range map[string]tarball.Compression{
		"a.tar": "none", "a": "none", "a.TAR.GZ": "gzip", "a.tgz": "gzip", "dir.gz/a.tar": "none", "a.tar.zst": "zstd", "a.tzst": "zstd",
		"a.tar.xz": "", "a.tbz2": "", "a.tar.Z": "",
	} {
		if c, err := tarball.CompressionFor(name); c != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, c, err)
		}
	}
	if _, err := tarball.ParseCompression("lzo"); !errors.Is(err, tarball.ErrUnknownCompression) {
		t.Error(err)
	}
	if c, err := tarball.ParseCompression("ZSTD"); c != tarball.Zstd || err != nil {
		t.Error(c, err)
	}
}
