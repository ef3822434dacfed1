package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// mount mounts a repository, or skips the test where that is not permitted.
func (r *testRepo) mount(o Options) (*Mount, *warnings) {
	r.t.Helper()
	w := new(warnings)
	o.Archives, o.Warn, o.Source = r.cat.Archives(), w.add, "test"
	point := r.t.TempDir()
	m, err := New(r.t.Context(), r.cat, point, o)
	if err != nil {
		if os.Getenv("GARRET_REQUIRE_FUSE") == "1" {
			r.t.Fatalf("GARRET_REQUIRE_FUSE is set: %v", err)
		}
		r.t.Skipf("nothing can be mounted here: %v", err)
	}
	r.t.Cleanup(func() {
		select {
		case <-m.Done():
		default:
			if err := m.Unmount(); err != nil {
				r.t.Error(err)
			}
			m.Wait()
		}
	})
	return m, w
}

func TestAMountIsAFileSystem(t *testing.T) {
	r := newTestRepo(t)
	data := []byte(strings.Repeat("0123456789abcdef", 100_000))
	r.add("monday", r.stream(
		dir("d"), regular("d/big", r.chunks(data, 70_000)...), link("d/same", "d/big"), symlink("d/link", "big"),
		&archive.Item{
			Path: "d/x", Mode: fsmeta.TypeRegular | 0o400, UID: 1000, GID: 1000, HasChunks: true,
			MTime: archive.Nanos{Sec: -5, Nsec: 7}, Xattrs: map[string][]byte{"user.a": []byte("b")},
		},
		regular("d/\xff\n"),
	))
	m, warned := r.mount(Options{})
	at := filepath.Join(m.Point(), "monday", "d")
	if got, err := os.ReadFile(filepath.Join(at, "link")); err != nil || string(got) != string(data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	var names []string
	entries, err := os.ReadDir(at)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"big", "link", "same", "x", "\xff\n"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("listed %q, %v", names, err)
	}
	big, err1 := os.Stat(filepath.Join(at, "big"))
	same, err2 := os.Stat(filepath.Join(at, "same"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(big, same) || uint64(big.Sys().(*syscall.Stat_t).Nlink) != 2 {
		t.Errorf("a hard link is %v, %v", big, err)
	}
	x, err := os.Lstat(filepath.Join(at, "x"))
	if err != nil || x.Mode() != 0o400 || !x.ModTime().Equal(time.Unix(-5, 7)) {
		t.Errorf("x is %v, %v", x, err)
	}
	buf := make([]byte, 100)
	if n, err := unix.Lgetxattr(filepath.Join(at, "x"), "user.a", buf); err != nil || string(buf[:n]) != "b" {
		t.Errorf("attribute: %q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Llistxattr(filepath.Join(at, "x"), buf); err != nil || string(buf[:n]) != "user.a\x00" {
		t.Errorf("attributes: %q, %v", buf[:max(n, 0)], err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(at, "big"), "user.a", buf); err != syscall.Errno(fuse.ENOATTR) {
		t.Errorf("no attribute: %v", err)
	}
	for what, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(at, "new"), nil, 0o644),
		"append": func() error { _, err := os.OpenFile(filepath.Join(at, "big"), os.O_WRONLY, 0); return err }(),
		"remove": os.Remove(filepath.Join(at, "big")),
		"mkdir":  os.Mkdir(filepath.Join(m.Point(), "new"), 0o755),
		"chmod":  os.Chmod(filepath.Join(at, "big"), 0o600),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(m.Point(), "tuesday")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if len(warned.paths()) != 0 {
		t.Errorf("told of %q", warned.paths())
	}
	if err := Check(m.Point(), Options{NonEmpty: true}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("mounting twice: %v", err)
	}
	if err := Unmount(m.Point()); err != nil {
		t.Error(err)
	}
	m.Wait()
	if entries, err := os.ReadDir(m.Point()); err != nil || len(entries) != 0 {
		t.Errorf("after the end there is %v, %v", entries, err)
	}
}

func TestTheKernelSeesAllButWhatIsLost(t *testing.T) {
	const size = 1 << 20
	r := newTestRepo(t)
	rng := random(t)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	chunks := r.chunks(data, 64<<10)
	delete(r.objects, chunks[8].ID)
	r.add("x", r.stream(regular("a", chunks...)))
	m, warned := r.mount(Options{})
	f, err := os.Open(filepath.Join(m.Point(), "x", "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4096)
	for at := int64(0); at < size; at += 4096 {
		n, err := f.ReadAt(buf, at)
		bad := at/(64<<10) == 8
		if bad && !errors.Is(err, syscall.EIO) || !bad && (err != nil || n != 4096 || string(buf) != string(data[at:][:4096])) {
			t.Fatalf("at %d: %d bytes, %v", at, n, err)
		}
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Errorf("afterwards: %v, %v", info, err)
	}
	if len(warned.of("x/a")) != 1 {
		t.Errorf("told of %q", warned.paths())
	}
}

func TestABusyMountIsLeftOrDetached(t *testing.T) {
	r := newTestRepo(t)
	r.add("x", r.stream(regular("a", r.chunks([]byte("content"), 3)...)))
	m, _ := r.mount(Options{})
	f, err := os.Open(filepath.Join(m.Point(), "x", "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	busy := new(BusyError)
	if err := Unmount(m.Point()); !errors.As(err, &busy) || busy.Point != m.Point() {
		t.Errorf("a mount in use: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.Point(), "x")); err != nil {
		t.Errorf("is gone: %v", err)
	}
	if err := m.Unmount(); !errors.As(err, &busy) {
		t.Errorf("a mount in use, by its server: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.Point(), "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("is still there: %v", err)
	}
	buf := make([]byte, 7)
	if _, err := f.ReadAt(buf, 0); err != nil || string(buf) != "content" {
		t.Errorf("who has it open reads %q, %v", buf, err)
	}
	f.Close()
	m.Wait()
}

func TestMountPointsThatCannotBe(t *testing.T) {
	top := t.TempDir()
	file, full := filepath.Join(top, "file"), filepath.Join(top, "full")
	if err := errors.Join(os.WriteFile(file, nil, 0o644), os.MkdirAll(filepath.Join(full, "x"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for point, want := range map[string]string{
		filepath.Join(top, "none"): "does not exist; make the folder first",
		file:                       "is no folder",
		full:                       "is not empty",
	} {
		if _, err := New(t.Context(), newTestRepo(t).cat, point, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", point, err)
		}
	}
	if err := Unmount(full); err == nil || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Errorf("unmounting what is none: %v", err)
	}
	if err := Unmount(filepath.Join(top, "no", "ne")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unmounting what is not there: %v", err)
	}
}

func TestOptions(t *testing.T) {
	var o Options
	if err := o.Parse("allow_other,uid=1000,umask=027,nosuid,noexec,ro"); err != nil {
		t.Fatal(err)
	}
	if err := o.Parse("gid=0,allow_damaged_files,nonempty,ignore_permissions,default_permissions"); err != nil {
		t.Fatal(err)
	}
	if !o.AllowOther || *o.UID != 1000 || *o.GID != 0 || o.Umask != 0o027 || !o.AllowDamaged || !o.NonEmpty ||
		!o.IgnorePermissions || !o.DefaultPermissions || !slices.Equal(o.Flags, []string{"nosuid", "noexec"}) {
		t.Errorf("got %+v", o)
	}
	for list, want := range map[string]string{
		"":               `mount option "": it is not known`,
		"uid=1,,":        `mount option "": it is not known`,
		"nonsense":       `mount option "nonsense": it is not known; "garret mount --help" lists those that are`,
		"rw":             `mount option "rw": archives cannot be written to`,
		"uid":            `mount option "uid": it needs a value`,
		"uid=-1":         `mount option "uid=-1": it must be a number below 4294967295`,
		"gid=4294967295": `mount option "gid=4294967295": it must be a number below`,
		"umask=8":        `mount option "umask=8": it must be an octal number up to 777`,
		"umask=1000":     `mount option "umask=1000": it must be an octal`,
		"allow_other=1":  `mount option "allow_other=1": it takes no value`,
		"nodev=":         `mount option "nodev=": it takes no value`,
	} {
		err := new(Options).Parse(list)
		if optionErr := (*OptionError)(nil); !errors.As(err, &optionErr) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

// TestReadersAtOnce is for the race detector.
func TestReadersAtOnce(t *testing.T) {
	r := newTestRepo(t)
	rng := random(t)
	for k := range 6 {
		var items []*archive.Item
		for i := range 20 {
			chunks, _ := r.contentOf(rng, 10, 5000)
			if i == 7 {
				chunks[3].ID = repository.ID{1}
			}
			items = append(items, regular(fmt.Sprintf("d%d/%d", i%3, i), chunks...))
		}
		r.add(fmt.Sprint(k), r.stream(items...))
	}
	m, _ := r.mount(Options{TreeBytes: 1, ChunkBytes: 20_000})
	var readers sync.WaitGroup
	for g := range 4 {
		readers.Go(func() {
			errs := 0
			err := filepath.WalkDir(m.Point(), func(path string, e fs.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() {
					return err
				}
				if _, err := os.ReadFile(path); err != nil {
					if !errors.Is(err, syscall.EIO) {
						return err
					}
					errs++
				}
				return nil
			})
			if err != nil || errs != 6 {
				t.Errorf("reader %d: %d files are damaged, %v", g, errs, err)
			}
		})
	}
	readers.Wait()
}
