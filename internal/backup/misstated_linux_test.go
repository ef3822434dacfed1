package backup_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/envelope"
)

// A liar is a file whose size is not what is stated.
type liar struct {
	content []byte
	endless bool
	stated  uint64
	direct  bool   // the system does not hold to the size that is stated
	restive bool   // it has another time whenever somebody asks
	asked   uint64 // how often that was
}

func (l *liar) stat(out *fuse.Attr) {
	out.Mode, out.Nlink, out.Size, out.Mtime = fuse.S_IFREG|0o444, 1, l.stated, 1_000_000
	if l.restive {
		l.asked++
		out.Mtime += l.asked
	}
}

// A liars is a file system of liars, whose nodes are the numbers of the names, the folder being 1.
type liars struct {
	fuse.RawFileSystem
	names []string
	files map[string]*liar
}

func (fs *liars) file(node uint64) *liar { return fs.files[fs.names[node-2]] }

func (fs *liars) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	i := slices.Index(fs.names, name)
	if i < 0 {
		return fuse.ENOENT
	}
	out.NodeId = uint64(i) + 2
	out.Ino = out.NodeId
	fs.file(out.NodeId).stat(&out.Attr)
	return fuse.OK
}

func (fs *liars) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Ino = in.NodeId
	if in.NodeId == 1 {
		out.Mode, out.Nlink = fuse.S_IFDIR|0o555, 2
	} else {
		fs.file(in.NodeId).stat(&out.Attr)
	}
	return fuse.OK
}

func (fs *liars) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if fs.file(in.NodeId).direct {
		out.OpenFlags = fuse.FOPEN_DIRECT_IO
	}
	return fuse.OK
}

func (fs *liars) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	l := fs.file(in.NodeId)
	if l.endless {
		return fuse.ReadResultData(buf), fuse.OK
	}
	rest := l.content[min(in.Offset, uint64(len(l.content))):]
	return fuse.ReadResultData(rest[:min(len(buf), len(rest))]), fuse.OK
}

// mountLiars mounts liars, or skips the test where that is not permitted. It returns their paths.
func mountLiars(t *testing.T, files map[string]*liar) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	fs := &liars{fuse.NewDefaultRawFileSystem(), slices.Sorted(maps.Keys(files)), files}
	server, err := fuse.NewServer(fs, dir, &fuse.MountOptions{SingleThreaded: true})
	if err == nil {
		go server.Serve()
		err = server.WaitMount()
	}
	if err != nil {
		if os.Getenv("GARRET_REQUIRE_FUSE") == "1" {
			t.Fatalf("GARRET_REQUIRE_FUSE is set: %v", err)
		}
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range fs.names {
		paths = append(paths, filepath.Join(dir, name))
	}
	return dir, paths
}

func TestAFileOfAnotherSizeThanTheSystemSaysIsStored(t *testing.T) {
	content := noise(300_000)
	files := map[string]*liar{
		"empty, as it says":              {content: content, direct: true},
		"shorter, as it says":            {content: content, stated: 1000, direct: true},
		"as it says, now":                {content: content, stated: 300_000, restive: true},
		"longer, as it says now":         {content: content, stated: 400_000, direct: true, restive: true},
		"longer, as it says":             {content: content, stated: 400_000, direct: true},
		"longer, as the system believes": {content: content, stated: 400_000},
	}
	dir, paths := mountLiars(t, files)
	s := newMemStore()
	cat := newCatalog(t, s, envelope.NewPlaintext())
	warn, warnings := collect()
	_, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Paths: paths, Warn: warn})
	must(t, err)
	sound(t, s, cat)
	for name := range files {
		it, got := find(t, cat, filepath.Join(dir, name)[1:])
		if it == nil {
			t.Errorf("%s: not stored: %v", name, warnings[filepath.Join(dir, name)])
			continue
		}
		if !bytes.HasPrefix(got, content) || len(bytes.Trim(got[len(content):], "\x00")) > 0 {
			t.Errorf("%s: %d bytes are stored", name, len(got))
		}
		want := archive.Flaw("")
		if strings.HasPrefix(name, "longer") && !files[name].restive {
			want = archive.FlawShort
		}
		if it.Flaw() != want || (warnings[filepath.Join(dir, name)] != nil) != (want != "") {
			t.Errorf("%s: flaw %q, warning %v", name, it.Flaw(), warnings[filepath.Join(dir, name)])
		}
	}
}

func TestAFileWithoutAnEndIsStoredUpToABound(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads 1 GiB")
	}
	_, paths := mountLiars(t, map[string]*liar{"endless": {endless: true, direct: true}})
	s := newMemStore()
	cat := newCatalog(t, s, envelope.NewPlaintext())
	warn, warnings := collect()
	stats, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Paths: paths, Warn: warn})
	must(t, err)
	if stats.Bytes != 1<<30 || stats.Warnings != 1 {
		t.Errorf("%d bytes are stored, warnings %v", stats.Bytes, warnings)
	}
}

func TestWhatTheSystemMakesUpIsStored(t *testing.T) {
	for _, path := range []string{"/proc/cpuinfo", "/proc/version", "/sys/devices/system/cpu/possible"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := newMemStore()
		cat := newCatalog(t, s, envelope.NewPlaintext())
		_, err = backup.Run(t.Context(), s, cat, backup.Options{
			Name: "x", Paths: []string{path},
			Warn: func(path string, err error) { t.Errorf("%s: %v", path, err) },
		})
		must(t, err)
		it, got := find(t, cat, strings.TrimPrefix(path, "/"))
		if it == nil || it.Flaw() != "" || len(got) == 0 {
			t.Fatalf("%s is not stored", path)
		}
		if path == "/proc/version" && !bytes.Equal(got, want) {
			t.Errorf("%s: %q is stored", path, got)
		}
	}
}
