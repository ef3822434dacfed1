package fsmeta

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

func openTestDir(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	return d
}

func TestRestoreGivesBackWhatWasRead(t *testing.T) {
	d := openTestDir(t)
	var owners Owners
	for _, tt := range []struct {
		name  string
		make  func(name string) error
		mode  uint32
		mtime archive.Nanos
	}{
		{"file", func(n string) error { f, err := d.Create(n); f.Close(); return err }, TypeRegular | 0o4751, archive.Nanos{Sec: 1400000000, Nsec: 123456789}},
		{"unreadable", func(n string) error { f, err := d.Create(n); f.Close(); return err }, TypeRegular, archive.Nanos{Sec: -2, Nsec: 499999999}},
		{"dir", d.Mkdir, TypeDir | 0o1775, archive.Nanos{Sec: 13569465600, Nsec: 1}},
		{"closed", d.Mkdir, TypeDir, archive.Nanos{Sec: 1}},
		{"link", func(n string) error { return d.Symlink("nowhere", n) }, TypeSymlink | 0o777, archive.Nanos{Sec: 5, Nsec: 6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.make(tt.name); err != nil {
				t.Fatal(err)
			}
			info, err := d.Lstat(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			want := NewItem("x/"+tt.name, info, &owners)
			want.Mode, want.MTime = tt.mode, tt.mtime
			r := Restorer{Owners: &owners}
			if err := r.Restore(d, tt.name, nil, want); err != nil {
				t.Fatal(err)
			}
			info, err = d.Lstat(tt.name)
			if err != nil {
				t.Fatal(err)
			}
			if tt.name == "link" {
				want.Mode = info.Mode // its permissions depend on the system
			}
			if diff := cmp.Diff(want, NewItem("x/"+tt.name, info, &owners)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOwnersThatAreUnknownAreNumbers(t *testing.T) {
	var owners Owners
	name := "no such user or group"
	uid, gid := owners.IDs(&archive.Item{UID: 4000000001, GID: 4000000002, User: &name, Group: &name})
	if uid != 4000000001 || gid != 4000000002 {
		t.Errorf("got %d and %d", uid, gid)
	}
	if owners.UserName(4000000001) != nil || owners.GroupName(4000000002) != nil {
		t.Error("somebody has a number that nobody has")
	}
	if u := owners.UserName(0); u == nil || *u != "root" {
		t.Errorf("user 0 is %v", u)
	}
}

func TestDirFollowsNoLinks(t *testing.T) {
	d := openTestDir(t)
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": out, "file": filepath.Join(out, "file"), "self": "."} {
		if err := d.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Readlink(name); err != nil || got != target {
			t.Errorf("link %q leads to %q, %v", name, got, err)
		}
	}
	if _, err := d.OpenDir("dir"); err == nil {
		t.Error("opened a directory through a link")
	}
	if _, err := d.OpenDir("self"); err == nil {
		t.Error("opened itself through a link")
	}
	if _, err := d.Open("file"); err == nil {
		t.Error("opened a file through a link")
	}
	if _, err := d.Create("file"); err == nil {
		t.Error("made a file through a link")
	}
}

func TestDirRefusesNamesThatLeadOut(t *testing.T) {
	d := openTestDir(t)
	for _, name := range []string{"", "..", "/", "a/b", "../x", "/etc/passwd", "a\x00b"} {
		for op, err := range map[string]error{
			"mkdir":   d.Mkdir(name),
			"symlink": d.Symlink("x", name),
			"remove":  d.Remove(name, false),
			"link":    d.Link(d, name, "x"),
			"mknod":   d.Mknod(name, TypeFIFO, 0),
			"rename":  d.Rename("x", name),
			"open":    func() error { _, err := d.Open(name); return err }(),
			"opendir": func() error { _, err := d.OpenDir(name); return err }(),
		} {
			if err == nil {
				t.Errorf("%s of %q succeeded", op, name)
			}
		}
	}
}

func TestReadingDoesNotWait(t *testing.T) {
	d := openTestDir(t)
	if err := unix.Mkfifo(d.Path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := d.open("fifo", unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := Reader(f).Read(make([]byte, 1)); !errors.Is(err, unix.EAGAIN) || n != 0 {
		t.Errorf("there is nothing to read: %d, %v", n, err)
	}
	if _, err := f.WriteString("some"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if n, err := Reader(f).Read(buf); string(buf[:n]) != "some" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}
