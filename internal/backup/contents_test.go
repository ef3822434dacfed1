package backup_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/internal/pattern"
	"garret/internal/progress"
)

// A busyFile is a file that something happens to while it is read.
type busyFile struct {
	t        *testing.T
	path     string
	content  []byte // that it had at first
	readings int    // how many have begun
	changes  int
}

func newBusyFile(t *testing.T) *busyFile {
	f := &busyFile{t: t, path: filepath.Join(t.TempDir(), "busy"), content: noise(1 << 20)}
	write(t, f.path, f.content, 0o644, time.Unix(1, 0))
	return f
}

// check is for what runs in other goroutines than the test.
func (f *busyFile) check(err error) {
	if err != nil {
		f.t.Error(err)
	}
}

// writeAt writes into the file, and gives it a time that it never had: clocks of file systems tick slowly.
func (f *busyFile) writeAt(data string, offset int64) {
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	f.check(err)
	defer file.Close()
	_, err = file.WriteAt([]byte(data), offset)
	f.check(err)
	f.touch()
}

func (f *busyFile) touch() {
	f.changes++
	f.check(os.Chtimes(f.path, time.Time{}, time.Unix(1, int64(f.changes))))
}

func (f *busyFile) size() int64 {
	info, err := os.Stat(f.path)
	f.check(err)
	return info.Size()
}

func (f *busyFile) append(data string) { f.writeAt(data, f.size()) }

// stored is what became of a file.
type stored struct {
	item    *archive.Item // nil: it is not in the archive
	content []byte
	status  backup.Status
	read    int64 // bytes
	warned  error
	stats   *backup.Stats
}

// backUp stores a file to which something happens before each piece of it is read.
func (f *busyFile) backUp(o backup.Options, happen func(n int64)) stored {
	f.t.Helper()
	s := newMemStore()
	warn, warnings := collect()
	var got stored
	o.Name, o.Dir, o.Paths, o.Warn = "x", filepath.Dir(f.path), []string{"."}, warn
	o.Progress = new(progress.Files)
	o.List = func(l backup.Listed) {
		if l.Path == f.path {
			got.status = l.Status
		}
	}
	o.Reading = func(path string, n int64) {
		if path != f.path {
			return
		}
		if n == 0 {
			f.readings++
		}
		if happen != nil {
			happen(n)
		}
	}
	cat := newCatalog(f.t, s, envelope.NewPlaintext())
	var err error
	got.stats, err = backup.Run(f.t.Context(), s, cat, o)
	must(f.t, err)
	sound(f.t, s, cat)
	got.item, got.content = find(f.t, cat, "busy")
	got.read, got.warned = o.Progress.Bytes.Load(), warnings[f.path]
	return got
}

// find returns a file of the archive x, and its content.
func find(t *testing.T, cat *catalog.Catalog, path string) (*archive.Item, []byte) {
	t.Helper()
	a, err := cat.Archive(t.Context(), "x")
	must(t, err)
	for it, err := range cat.Items(t.Context(), a) {
		must(t, err)
		if it.Path != path {
			continue
		}
		var content []byte
		for _, c := range it.Chunks {
			data, err := cat.Get(t.Context(), c.ID)
			must(t, err)
			content = append(content, data...)
		}
		return it, content
	}
	return nil, nil
}

func (s stored) isWhole(t *testing.T, want []byte) {
	t.Helper()
	if s.item == nil || s.item.Flaw() != "" || s.warned != nil || s.stats.Warnings != 0 || s.status != backup.StatusAdded {
		t.Errorf("item %v, status %c, warning %v", s.item != nil, s.status, s.warned)
	}
	if !bytes.Equal(s.content, want) {
		t.Errorf("%d bytes are stored, which are not the %d that were to be", len(s.content), len(want))
	}
}

func (s stored) isMarked(t *testing.T, want archive.Flaw, warning error, size int) {
	t.Helper()
	if s.item == nil {
		t.Fatalf("it is not stored: %v", s.warned)
	}
	if s.item.Flaw() != want || !errors.Is(s.warned, warning) || s.status != backup.StatusChanged || s.stats.Warnings != 1 {
		t.Errorf("flaw %q, status %c, warning %v", s.item.Flaw(), s.status, s.warned)
	}
	if len(s.content) != size {
		t.Errorf("%d bytes are stored", len(s.content))
	}
}

func TestAChangeOfPermissionsIsNoneOfContent(t *testing.T) {
	f := newBusyFile(t)
	mode := os.FileMode(0o600)
	got := f.backUp(backup.Options{}, func(int64) {
		mode ^= 0o044
		f.check(os.Chmod(f.path, mode))
	})
	got.isWhole(t, f.content)
	if got.read != int64(len(f.content)) || os.FileMode(got.item.Mode&0o777) != mode {
		t.Errorf("%d bytes were read, and the mode is %o in place of %o", got.read, got.item.Mode, mode)
	}
}

func TestAFileThatIsTouchedAllTheTimeIsWhole(t *testing.T) {
	f := newBusyFile(t)
	f.backUp(backup.Options{}, func(int64) { f.touch() }).isWhole(t, f.content)
}

func TestAFileThatGrowsIsStoredUpToALengthThatItHad(t *testing.T) {
	for _, c := range []struct {
		what string
		grow func(f *busyFile, n int64)
		more string // what is stored of that
	}{
		{"always", func(f *busyFile, n int64) { f.append("more") }, ""},
		{"at the end of each reading", func(f *busyFile, n int64) {
			if n == int64(len(f.content)) {
				f.append(strings.Repeat("more", 1<<17))
			}
		}, ""},
		{"once", func(f *busyFile, n int64) {
			if f.changes == 0 {
				f.append("more")
			}
		}, "more"},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := newBusyFile(t)
			got := f.backUp(backup.Options{}, func(n int64) { c.grow(f, n) })
			got.isWhole(t, append(f.content, c.more...))
			if f.readings != 2 {
				t.Errorf("it was read %d times", f.readings)
			}
		})
	}
}

func TestAFileThatWasEmptyWhenItGrewIsNotStoredEmpty(t *testing.T) {
	f := newBusyFile(t)
	write(t, f.path, nil, 0o644, time.Unix(1, 0))
	f.backUp(backup.Options{}, func(int64) { f.append("more") }).isWhole(t, []byte("more"))
}

func TestAFileThatIsChangedAllTheTimeIsStoredWithAMark(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(f *busyFile, n int64)
		size   int
	}{
		{"in place", func(f *busyFile, n int64) { f.writeAt(strings.Repeat("x", f.changes+1), n/2) }, 1 << 20},
		{"in its last piece, while it grows", func(f *busyFile, n int64) {
			f.append("more")
			f.writeAt(strings.Repeat("x", f.changes+1), 1<<20-100)
		}, 1<<20 + 4*5},
		{"in its first piece, while it grows", func(f *busyFile, n int64) {
			f.append("more")
			f.writeAt(strings.Repeat("x", f.changes+1), 0)
		}, 1<<20 + 4*5},
		{"as it gets shorter", func(f *busyFile, n int64) {
			f.check(os.Truncate(f.path, f.size()-1000))
			f.touch()
		}, 1<<20 - 9*1000},
		{"and is gone the second time", func(f *busyFile, n int64) {
			if n == 1<<20 {
				f.writeAt("xyz", 0)
				f.check(os.Remove(f.path))
			}
		}, 1 << 20},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := newBusyFile(t)
			got := f.backUp(backup.Options{}, func(n int64) { c.change(f, n) })
			got.isMarked(t, archive.FlawChanged, backup.ErrChanged, c.size)
		})
	}
}

func TestAFileThatMayChangeIsMarkedWithoutAWarning(t *testing.T) {
	for patterns, warned := range map[string]bool{
		"*/busy": false, "re:/busy$": false, "*/00?": false, "*/other": true, "*/00?/busy/": true,
	} {
		f := newBusyFile(t)
		o := backup.Options{}
		o.MayChange = new(pattern.Rules)
		o.Given = filepath.Dir(f.path)
		must(t, o.MayChange.Exclude(patterns, "a test"))
		got := f.backUp(o, func(n int64) { f.writeAt(strings.Repeat("x", f.changes+1), n/2) })
		if got.item.Flaw() != archive.FlawChanged || (got.warned != nil) != warned || (got.stats.Warnings != 0) != warned {
			t.Errorf("%s: flaw %q, warning %v", patterns, got.item.Flaw(), got.warned)
		}
	}
}

func TestAMarkIsNotMadeByTheFileItself(t *testing.T) {
	f := newBusyFile(t)
	for _, name := range []string{archive.FlawXattr, "user.other"} {
		if err := unix.Setxattr(f.path, name, []byte("changed"), 0); err != nil {
			t.Skipf("there are no attributes on this file system: %v", err)
		}
	}
	got := f.backUp(backup.Options{}, nil)
	got.isWhole(t, f.content)
	if len(got.item.Xattrs) != 1 || got.item.Mode&fsmeta.TypeMask != fsmeta.TypeRegular {
		t.Errorf("attributes %q", got.item.Xattrs)
	}
}

// replaced stores the files a, b and c of a folder, in which something happens after all were met and before any is read.
func replaced(t *testing.T, dir string, happen func() error) (cat *catalog.Catalog, warnings map[string]error) {
	t.Helper()
	happened := make(chan struct{})
	warn, warnings := collect()
	s := newMemStore()
	cat = newCatalog(t, s, envelope.NewPlaintext())
	o := backup.Options{Name: "x", Dir: dir, Warn: warn, Readers: 1}
	o.FilesFrom = func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for _, name := range []string{"a", "b", "c"} {
				if !yield(name, nil) {
					return
				}
			}
			if err := happen(); err != nil {
				t.Error(err)
			}
			close(happened)
		}
	}
	o.Reading = func(string, int64) { <-happened }
	_, err := backup.Run(t.Context(), s, cat, o)
	must(t, err)
	sound(t, s, cat)
	return cat, warnings
}

func TestAFileThatReplacesOneWithSeveralNamesIsStored(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "new"} {
		write(t, filepath.Join(dir, name), []byte(name), 0o644, time.Unix(1, 0))
	}
	must(t, os.Link(dir+"/b", dir+"/c"))
	cat, warnings := replaced(t, dir, func() error { return os.Rename(dir+"/new", dir+"/b") })
	if _, content := find(t, cat, "b"); string(content) != "new" {
		t.Errorf("%q is stored", content)
	}
	if it, _ := find(t, cat, "c"); it != nil || warnings[dir+"/c"] == nil || len(warnings) != 1 {
		t.Errorf("the other name is %v, warnings %v", it, warnings)
	}
}

func TestAFIFOInThePlaceOfAFileIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		write(t, filepath.Join(dir, name), []byte(name), 0o644, time.Unix(1, 0))
	}
	cat, warnings := replaced(t, dir, func() error { return errors.Join(os.Remove(dir+"/b"), unix.Mkfifo(dir+"/b", 0o600)) })
	if it, _ := find(t, cat, "b"); it != nil || !errors.Is(warnings[dir+"/b"], backup.ErrReplaced) || len(warnings) != 1 {
		t.Errorf("it is stored: %v, warnings %v", it != nil, warnings)
	}
}
