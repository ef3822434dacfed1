package storage_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"garret/repository/storage"
	"garret/repository/storage/storagetest"
)

func TestMemConforms(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Storage { return new(storage.Mem) },
		func(s storage.Storage) storage.Storage { return s })
}

func TestDirConforms(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage {
		d, err := storage.CreateDir(filepath.Join(t.TempDir(), "repo"))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}, func(s storage.Storage) storage.Storage {
		d, err := storage.OpenDir(s.String())
		if err != nil {
			panic(err)
		}
		return d
	})
}

func TestCreateDirRefusesWhatIsNotEmpty(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"file":           func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"a file in it":   func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) },
		"a repository":   func(p string) error { _ = os.Mkdir(p, 0o700); return os.WriteFile(p+"/config", nil, 0o600) },
		"other segments": func(p string) error { return os.MkdirAll(filepath.Join(p, "data", "0", "1"), 0o700) },
		"entries": func(p string) error {
			_ = os.MkdirAll(filepath.Join(p, "data", "0"), 0o700)
			return os.WriteFile(filepath.Join(p, "data", "0", "0"), make([]byte, 50), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "repo")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			if _, err := storage.CreateDir(path); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create gives %v", err)
			}
		})
	}
}

// TestOnlyRegularFilesAreOpened puts other things where files are expected; none may be followed or waited for.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	d, err := storage.CreateDir(filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.1", "data/0/1"} {
		path := filepath.Join(d.String(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		for kind, make := range map[string]func() error{
			"fifo":   func() error { return syscall.Mkfifo(path, 0o600) },
			"link":   func() error { return os.Symlink(secret, path) },
			"folder": func() error { return os.Mkdir(path, 0o700) },
		} {
			if err := make(); err != nil {
				t.Fatal(err)
			}
			var err error
			if name == "index.1" {
				_, err = d.OpenFile(name)
			} else {
				_, err = d.OpenSegment(1)
			}
			if err == nil {
				t.Errorf("a %s is opened for %s", kind, name)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestMain makes this binary the other process that TestProcessLockExcludes needs.
func TestMain(m *testing.M) {
	if path := os.Getenv("GARRET_TEST_LOCK"); path != "" {
		holdProcessLock(path, os.Getenv("GARRET_TEST_LOCK_KIND") == "exclusive")
	}
	os.Exit(m.Run())
}

// holdProcessLock takes a lock as the reference does, with F_SETLK, says so, and holds it until its input ends.
func holdProcessLock(path string, exclusive bool) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		l := unix.Flock_t{Type: unix.F_RDLCK}
		if exclusive {
			l.Type = unix.F_WRLCK
		}
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l)
	}
	if err != nil {
		os.Stdout.WriteString("refused\n")
		os.Exit(0)
	}
	os.Stdout.WriteString("locked\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// otherProcess starts one that takes a process lock and returns what it says and how to end it.
func otherProcess(t *testing.T, path, kind string) (said string, pid int, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GARRET_TEST_LOCK="+path, "GARRET_TEST_LOCK_KIND="+kind)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _ := out.Read(b)
	return strings.TrimSpace(string(b[:n])), cmd.Process.Pid, func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestProcessLockExcludes holds the locks against those that the reference takes, in both directions.
func TestProcessLockExcludes(t *testing.T) {
	ctx := context.Background()
	d, err := storage.CreateDir(filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(d.String(), "config")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		theirs   string
		ours     bool
		conflict bool
	}{{"exclusive", true, true}, {"exclusive", false, true}, {"shared", true, true}, {"shared", false, false}} {
		said, pid, end := otherProcess(t, config, c.theirs)
		if said != "locked" {
			t.Fatal(said)
		}
		l, err := d.Lock(ctx, c.ours, 10*time.Millisecond)
		if errors.Is(err, storage.ErrLocked) != c.conflict {
			t.Errorf("theirs %s, ours exclusive %v: %v", c.theirs, c.ours, err)
		}
		if c.conflict && runtime.GOOS == "linux" && !strings.Contains(err.Error(), "process "+strconv.Itoa(pid)) {
			t.Errorf("the holder %d is not named: %v", pid, err)
		}
		end()
		if l != nil {
			_ = l.Unlock()
		}

		if l, err = d.Lock(ctx, c.ours, 0); err != nil {
			t.Fatal(err)
		}
		said, _, end = otherProcess(t, config, c.theirs)
		if (said == "refused") != c.conflict {
			t.Errorf("ours exclusive %v, theirs %s: %s", c.ours, c.theirs, said)
		}
		end()
		if err := l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserveIsMadeAnew puts in the place of the reserve what is none: the reserve is there then, and nothing else is
// written to.
func TestReserveIsMadeAnew(t *testing.T) {
	secret := []byte("what must not be touched")
	for kind, make := range map[string]func(path, other string) error{
		"too short":  func(p, _ string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"too long":   func(p, _ string) error { return os.WriteFile(p, []byte(strings.Repeat("x", 1<<20)), 0o600) },
		"with holes": func(p, _ string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 150_000)) },
		"link":       func(p, other string) error { return os.Symlink(other, p) },
		"same file":  func(p, other string) error { return os.Link(other, p) },
		"fifo":       func(p, _ string) error { return syscall.Mkfifo(p, 0o600) },
		"folder":     func(p, _ string) error { return os.Mkdir(p, 0o700) },
	} {
		t.Run(kind, func(t *testing.T) {
			d, err := storage.CreateDir(filepath.Join(t.TempDir(), "repo"))
			if err != nil {
				t.Fatal(err)
			}
			path, other := filepath.Join(d.String(), storage.ReserveName), filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.WriteFile(other, secret, 0o600), make(path, other)); err != nil {
				t.Fatal(err)
			}
			if n, err := d.Reserve(100_000, 200_000); err != nil || n != 150_000 {
				t.Fatal(n, err)
			}
			info, err := os.Lstat(path)
			if err != nil || info.Size() != 150_000 || info.Sys().(*syscall.Stat_t).Blocks*512 < info.Size() {
				t.Errorf("%+v %v", info, err)
			}
			if got, err := os.ReadFile(other); err != nil || string(got) != string(secret) {
				t.Errorf("%q %v", got, err)
			}
			if ok, err := d.Release(1); ok || err != nil {
				t.Errorf("it is released though there is room: %v", err)
			}
			if ok, err := d.Release(1 << 62); !ok || err != nil {
				t.Errorf("it is not released: %v", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// TestFolderInPlaceOfFile writes a file where a folder is, with something in it, and where the temporary file goes too.
func TestFolderInPlaceOfFile(t *testing.T) {
	d, err := storage.CreateDir(filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		for _, name := range []string{"garret.tables", "garret.tables.tmp"} {
			if i > 0 && name == "garret.tables" {
				if err := d.RemoveFile(name); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(filepath.Join(d.String(), name, "precious"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := storage.WriteFile(d, "garret.tables", []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got, err := storage.ReadFile(d, "garret.tables", 100); err != nil || string(got) != "new" {
			t.Errorf("%q %v", got, err)
		}
	}
	for _, aside := range []string{
		"garret.aside.garret.tables", "garret.aside.garret.tables.2",
		"garret.aside.garret.tables.tmp", "garret.aside.garret.tables.tmp.2",
	} {
		if _, err := os.Stat(filepath.Join(d.String(), aside, "precious")); err != nil {
			t.Error(err)
		}
	}
}
