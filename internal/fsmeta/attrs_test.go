package fsmeta

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

func itemWithACL(text string) *archive.Item {
	return &archive.Item{Mode: TypeRegular | 0o644, ACLAccess: &text}
}

// needAttrs skips a test where the file system has no attributes of the kind that begins with a prefix.
func needAttrs(t *testing.T, dir, name string, value []byte) {
	t.Helper()
	path := filepath.Join(dir, "probe")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	if err := unix.Setxattr(path, name, value, 0); err != nil {
		t.Skipf("the file system of %s has no %s here: %v", dir, name, err)
	}
}

// read returns all that is known of an entry.
func read(t *testing.T, d *Dir, name string, open bool) *archive.Item {
	t.Helper()
	info, err := d.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	var f *os.File
	if open {
		if f, err = d.Open(name); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	owners := new(Owners)
	it := NewItem("x", info, owners)
	if err := ReadAttrs(d, name, f, it, owners); err != nil {
		t.Error(err)
	}
	return it
}

func newFile(t *testing.T, d *Dir, name string) {
	t.Helper()
	f, err := d.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestAttributesComeBack(t *testing.T) {
	d := openTestDir(t)
	needAttrs(t, d.Path("."), "user.garret", []byte("x"))
	file := map[string][]byte{
		"user.color": []byte("blue"), "user.empty": nil, "user.zero\xffbytes": {0, 1, 2, 0},
		"user.long": bytes.Repeat([]byte("long"), 200),
	}
	node := map[string][]byte{}
	if os.Geteuid() == 0 {
		file["trusted.garret"] = []byte("root's")
		file["security.capability"] = []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		node["trusted.garret"] = []byte("on a link")
	}
	for _, tt := range []struct {
		name   string
		make   func(name string)
		mode   uint32
		xattrs map[string][]byte
		dflt   bool
	}{
		{"file", func(n string) { newFile(t, d, n) }, TypeRegular | 0o664, file, false},
		{"read-only", func(n string) { newFile(t, d, n) }, TypeRegular | 0o444, file, false},
		{"dir", func(n string) { must(t, d.Mkdir(n)) }, TypeDir | 0o2775, file, true},
		{"closed", func(n string) { must(t, d.Mkdir(n)) }, TypeDir | 0o555, file, true},
		{"link", func(n string) { must(t, d.Symlink("nowhere", n)) }, TypeSymlink | 0o777, node, false},
		{"fifo", func(n string) { must(t, d.Mknod(n, TypeFIFO|0o600, 0)) }, TypeFIFO | 0o664, node, false},
	} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", open), func(t *testing.T) {
				typ := tt.mode & TypeMask
				if open && typ != TypeRegular && typ != TypeDir {
					t.Skip("is not opened")
				}
				name := fmt.Sprint(tt.name, open)
				tt.make(name)
				want := read(t, d, name, false)
				want.Mode, want.MTime = tt.mode, archive.Nanos{Sec: 1e9, Nsec: 5}
				if len(tt.xattrs) > 0 {
					want.Xattrs = tt.xattrs
				}
				if typ != TypeSymlink {
					perm := func(shift int) string { return permText(uint16(tt.mode >> shift & 7)) }
					want.ACLAccess = new("user::" + perm(6) + "\nuser:root:r--:0\ngroup::r--\ngroup:4000000000:--x:4000000000\n" +
						"mask::" + perm(3) + "\nother::" + perm(0))
				}
				if tt.dflt {
					want.ACLDefault = new("user::rwx\nuser:root:rwx:0\ngroup::r-x\nmask::rwx\nother::---")
				}
				var f *os.File
				if open {
					var err error
					if f, err = d.Open(name); err != nil {
						t.Fatal(err)
					}
					defer f.Close()
				}
				r := Restorer{Owners: new(Owners)}
				must(t, r.Restore(d, name, f, want))
				if typ != TypeSymlink { // over what is there, which an ordinary user must be allowed to change
					must(t, os.Chmod(d.Path(name), 0o700))
					must(t, r.Restore(d, name, f, want))
				}
				for _, how := range []bool{false, open} {
					got := read(t, d, name, how)
					if typ == TypeSymlink {
						got.Mode = want.Mode
					}
					if diff := cmp.Diff(want, got, equalBytes); diff != "" {
						t.Error(diff)
					}
				}
				if typ == TypeDir {
					sub, err := d.OpenDir(name)
					must(t, err)
					defer sub.Release()
					if diff := cmp.Diff(want, read(t, sub, ".", false), equalBytes); diff != "" {
						t.Error(diff)
					}
				}
				// Without them in the item, the lists go.
				want.ACLAccess, want.ACLDefault = nil, nil
				want.Xattrs = nil
				must(t, r.Restore(d, name, f, want))
				if got := read(t, d, name, false); got.ACLAccess != nil || got.ACLDefault != nil {
					t.Errorf("lists %v, %v are left", got.ACLAccess, got.ACLDefault)
				}
			})
		}
	}
}

var equalBytes = cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })

func TestTheMarkOfAnItemIsNotPutOnAFile(t *testing.T) {
	d := openTestDir(t)
	needAttrs(t, d.Path("."), "user.garret", []byte("x"))
	newFile(t, d, "file")
	it := read(t, d, "file", false)
	it.Xattrs = map[string][]byte{"user.color": []byte("blue")}
	it.SetFlaw(archive.FlawChanged)
	r := Restorer{Owners: new(Owners)}
	must(t, r.Restore(d, "file", nil, it))
	path := d.Path("file")
	if _, err := unix.Getxattr(path, archive.FlawXattr, nil); err == nil {
		t.Error("the file has the mark")
	}
	must(t, unix.Setxattr(path, archive.FlawXattr, []byte("forged"), 0))
	if got := read(t, d, "file", false); len(got.Xattrs) != 1 {
		t.Errorf("attributes %q", got.Xattrs)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryHasBothListsOrNone(t *testing.T) {
	d := openTestDir(t)
	owners := &Owners{Numeric: true}
	lists := map[string]string{
		aclAccessAttr:  "user::rwx\nuser:4000000001:r--:4000000001\ngroup::r-x\nmask::r-x\nother::r-x",
		aclDefaultAttr: "user::rwx\ngroup::r-x\nother::---",
	}
	for _, tt := range []struct {
		attr         string
		access, dflt string
	}{
		{aclAccessAttr, lists[aclAccessAttr], ""},
		{aclDefaultAttr, "user::rwx\ngroup::r-x\nother::r-x", lists[aclDefaultAttr]},
	} {
		must(t, d.Mkdir(tt.attr))
		must(t, os.Chmod(d.Path(tt.attr), 0o755))
		list, err := parseACL(lists[tt.attr], owners)
		must(t, err)
		if err := unix.Setxattr(d.Path(tt.attr), tt.attr, list.raw(), 0); err != nil {
			t.Skipf("the file system of %s has no ACLs: %v", d.Path("."), err)
		}
		it := read(t, d, tt.attr, false)
		if it.ACLAccess == nil || *it.ACLAccess != tt.access || it.ACLDefault == nil || *it.ACLDefault != tt.dflt {
			t.Errorf("%s alone: %v, %v", tt.attr, *it.ACLAccess, *it.ACLDefault)
		}
		if len(it.Xattrs) > 0 {
			t.Errorf("attributes %v", it.Xattrs)
		}
		must(t, (&Restorer{Owners: owners}).Restore(d, tt.attr, nil, it))
		if diff := cmp.Diff(it, read(t, d, tt.attr, false)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestBadAttributesAreToldOfAndTheRestIsRestored(t *testing.T) {
	d := openTestDir(t)
	needAttrs(t, d.Path("."), "user.garret", []byte("x"))
	long := "user." + strings.Repeat("n", 300)
	for _, tt := range []struct {
		name  string
		value []byte
		told  bool
	}{
		{"user.nul\x00.name", nil, true},
		{"", nil, true},
		{"user.", nil, true},
		{long, nil, true},
		{"user.large", make([]byte, 1<<16+1), true},
		{"nonsense", nil, true},
		{"com.apple.FinderInfo", nil, true},
		{aclAccessAttr, []byte("garbage"), true},
		{aclDefaultAttr, nil, true},
		{"system.unknown", nil, os.Geteuid() == 0},
		{"security.capability", []byte("garbage"), os.Geteuid() == 0},
		{"user.\x1b[31m", []byte("a terminal's escape is a good name"), false},
	} {
		t.Run(fmt.Sprintf("%.20q", tt.name), func(t *testing.T) {
			name := fmt.Sprintf("%x", tt.name[:min(len(tt.name), 50)]) + "x"
			newFile(t, d, name)
			it := read(t, d, name, false)
			it.Mode, it.MTime = TypeRegular|0o640, archive.Nanos{Sec: 1e9}
			it.Xattrs = map[string][]byte{tt.name: tt.value, "user.good": []byte("good")}
			err := (&Restorer{Owners: new(Owners)}).Restore(d, name, nil, it)
			if (err != nil) != tt.told {
				t.Errorf("got %v", err)
			}
			if tt.name == "user.large" && !strings.Contains(fmt.Sprint(err), "its 65537 bytes are more than the file system takes") {
				t.Errorf("%v does not say what is too large", err)
			}
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				t.Errorf("%v looks like a full disk", err)
			}
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\x00\n") || len(err.Error()) > 500+len(d.Path(name))) {
				t.Errorf("%.1000q is no message for a person", err)
			}
			got := read(t, d, name, false)
			if string(got.Xattrs["user.good"]) != "good" || got.Mode != it.Mode || got.MTime != it.MTime {
				t.Errorf("not restored: %v", got)
			}
		})
	}
}

func TestManyErrorsAreOneMessage(t *testing.T) {
	d := openTestDir(t)
	newFile(t, d, "file")
	it := read(t, d, "file", false)
	it.Xattrs = map[string][]byte{}
	for i := range 1000 {
		it.Xattrs[fmt.Sprintf("bad.%04d", i)] = nil
	}
	err := (&Restorer{Owners: new(Owners)}).Restore(d, "file", nil, it)
	if err == nil || !strings.HasSuffix(err.Error(), "and 997 more") || len(err.Error()) > 500 {
		t.Errorf("got %v", err)
	}
}

func TestABadListClosesTheFileToItsGroup(t *testing.T) {
	d := openTestDir(t)
	newFile(t, d, "file")
	it := read(t, d, "file", false)
	it.Mode, it.ACLAccess = TypeRegular|0o674, new("user::rw-\nuser:root:\x1b[31m")
	err := (&Restorer{Owners: new(Owners)}).Restore(d, "file", nil, it)
	if err == nil || !strings.Contains(err.Error(), "is no valid access control list") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
	if got := read(t, d, "file", false); got.Mode != TypeRegular|0o604 {
		t.Errorf("mode %o", got.Mode)
	}
}

func TestInheritedListsDoNotStay(t *testing.T) {
	d := openTestDir(t)
	list, err := parseACL("user::rwx\nuser:1:rwx:1\ngroup::r-x\nmask::rwx\nother::---", &Owners{Numeric: true})
	must(t, err)
	if err := unix.Setxattr(d.Path("."), aclDefaultAttr, list.raw(), 0); err != nil {
		t.Skipf("the file system of %s has no ACLs: %v", d.Path("."), err)
	}
	newFile(t, d, "file")
	must(t, d.Mkdir("dir"))
	for name, mode := range map[string]uint32{"file": TypeRegular | 0o640, "dir": TypeDir | 0o750} {
		it := read(t, d, name, false)
		if it.ACLAccess == nil {
			t.Fatalf("%s has inherited nothing", name)
		}
		it.Mode, it.ACLAccess, it.ACLDefault = mode, nil, nil
		must(t, (&Restorer{Owners: new(Owners)}).Restore(d, name, nil, it))
		if diff := cmp.Diff(it, read(t, d, name, false)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestTimesThatDoNotFitAreToldOf(t *testing.T) {
	d := openTestDir(t)
	newFile(t, d, "file")
	for _, sec := range []int64{-1 << 62, -1 << 40, -1<<31 + 1, -1, 0, 1 << 31, 1 << 32, 1 << 34, 1 << 40, 1 << 62} {
		want := archive.Nanos{Sec: sec, Nsec: 999999999}
		err := d.setTime("file", want)
		info, statErr := d.Lstat("file")
		must(t, statErr)
		if (err == nil) != (info.MTime == want) {
			t.Errorf("second %d became %v: %v", sec, info.MTime, err)
		}
	}
}

func TestFlags(t *testing.T) {
	d := openTestDir(t)
	newFile(t, d, "file")
	must(t, d.Mkdir("dir"))
	r := Restorer{Owners: new(Owners)}
	root := os.Geteuid() == 0
	for _, name := range []string{"file", "dir"} {
		it := read(t, d, name, false)
		it.BSDFlags = new(FlagNoDump | FlagImmutable | FlagAppend)
		must(t, r.Restore(d, name, nil, it))
		info, err := d.Lstat(name)
		must(t, err)
		if info.Flags == 0 {
			t.Skipf("the file system of %s has no flags", d.Path("."))
		}
		if info.Flags != FlagNoDump || !Locks(it) {
			t.Errorf("%s has flags %x before it is locked", name, info.Flags)
		}
		must(t, r.Lock(d, name, info.FileID, it))
		t.Cleanup(func() {
			f, err := d.Open(name)
			must(t, err)
			defer f.Close()
			must(t, setFlags(f, 0, ^uint64(0)))
		})
		if err := r.Lock(d, name, FileID{}, it); err == nil {
			t.Error("locked another file")
		}
		want := *it.BSDFlags
		if !root {
			want = FlagNoDump // the others are root's to set
		}
		if got := read(t, d, name, true); got.BSDFlags == nil || *got.BSDFlags != want {
			t.Errorf("%s has flags %v, want %x", name, got.BSDFlags, want)
		}
	}
	if root {
		if f, err := os.OpenFile(d.Path("file"), os.O_WRONLY, 0); err == nil {
			f.Close()
			t.Error("it is not locked")
		}
	}
}
