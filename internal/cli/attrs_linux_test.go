package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func setxattr(path, name, value string) error { return unix.Lsetxattr(path, name, []byte(value), 0) }

// makeAttrTree makes a tree with something of every attribute that we may set here.
func makeAttrTree(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := os.Geteuid() == 0
	in := func(name string) string { return filepath.Join(dir, name) }
	file := func(name string) string {
		t.Helper()
		check(os.WriteFile(in(name), []byte("content of "+name), 0o600))
		return in(name)
	}
	check(os.MkdirAll(in("lists/below"), 0o700))
	check(os.Mkdir(in("closed"), 0o700))
	file("closed/file")
	for _, f := range []string{file("attrs"), file("read-only"), in("lists"), in("closed")} {
		check(setxattr(f, "user.color", "blue"))
		check(setxattr(f, "user.empty", ""))
		check(setxattr(f, "user.bytes \xff\xfe", "\x00\x01\xff"))
		check(setxattr(f, "user.long", strings.Repeat("long", 250)))
	}
	check(setxattr(in("lists"), aclDefault, rawACL(7, 5, 5, 0)))
	check(setxattr(in("lists"), aclAccess, rawACL(7, 7, 5, 4)))
	check(setxattr(in("lists/below"), aclAccess, rawACL(7, 0, 0, 0)))
	file("lists/inherits")
	check(os.Chmod(in("lists/inherits"), 0o640))
	check(setxattr(file("list"), aclAccess, rawACL(6, 4, 0, 0)))
	check(unix.Mkfifo(in("fifo"), 0o600))
	check(setxattr(in("fifo"), aclAccess, rawACL(6, 6, 2, 2)))
	check(os.Link(in("list"), in("list-too")))
	check(os.Link(in("read-only"), in("another name")))
	check(os.Symlink("no\xffwhere", in("link")))
	check(os.Symlink("..", in("lists/up")))
	file("bytes-\xe9\xff")
	file("line\nfeed")
	check(os.Chmod(file("set-id"), 0o755|os.ModeSetuid|os.ModeSetgid))
	check(os.Chmod(in("lists/below"), 0o775|os.ModeSticky))
	for name, sec := range map[string]int64{
		"old": -14e8, "before": -1, "epoch": 0, "2038": 1<<31 + 5, "2106": 1<<32 + 5, "2262": 9223372037, "2400": 13569465600,
	} {
		ts := unix.Timespec{Sec: sec, Nsec: 123456789}
		check(unix.UtimesNanoAt(unix.AT_FDCWD, file("time "+name), []unix.Timespec{ts, ts}, 0))
	}
	flag(t, file("nodump"), 0x40)
	if root {
		check(setxattr(in("link"), "trusted.link", "root's"))
		check(setxattr(in("fifo"), "trusted.fifo", ""))
		check(setxattr(in("attrs"), "trusted.file", "root's"))
		check(os.Chown(file("owned"), 1, 54321))
		check(os.Lchown(in("link"), 54321, 2))
		check(os.Chown(in("lists"), 2, 1))
		check(setxattr(in("owned"), "security.capability",
			"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		check(unix.Mknod(in("char"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
		check(unix.Mknod(in("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(4000, 70000))))
		check(setxattr(in("char"), aclAccess, rawACL(6, 6, 0, 0)))
		flag(t, file("append"), 0x20)
		flag(t, file("immutable"), 0x10|0x40)
		check(os.Link(file("locked"), in("locked-too")))
		flag(t, in("locked"), 0x10)
		check(os.Mkdir(in("fixed"), 0o755))
		file("fixed/file")
	}
	check(os.Chmod(in("read-only"), 0o444))
	check(os.Chmod(in("closed"), 0o555))
	early := time.Unix(1e9, 987654321)
	for _, name := range []string{"lists/below", "lists", "closed", "fixed", "."} {
		if err := os.Chtimes(in(name), early, early); err != nil && (root || name != "fixed") {
			t.Fatal(err)
		}
	}
	if root {
		flag(t, in("fixed"), 0x10)
	}
}

// flag sets flags of a file, and no others, if its file system has flags.
func flag(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	now, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(now&^0x70)|flags)
	}
	if err != nil && err != unix.ENOTTY && err != unix.ENOTSUP {
		t.Fatal(err)
	}
}

// unlockTree sees to it that a tree can be removed in the end.
func unlockTree(t *testing.T, dir string) {
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && (e.Type().IsRegular() || e.IsDir()) {
				if os.Geteuid() == 0 {
					flag(t, path, 0)
				}
				if e.IsDir() {
					os.Chmod(path, 0o700)
				}
			}
			return nil
		})
	})
}

func TestAttributesRoundTrip(t *testing.T) {
	dir := useTestEnv(t)
	if !hasAttrs(dir) {
		t.Skipf("the file system of %s has not all attributes", dir)
	}
	t.Chdir(dir)
	unlockTree(t, dir)
	if err := os.Mkdir("tree", 0o700); err != nil {
		t.Fatal(err)
	}
	makeAttrTree(t, "tree")
	want := describe(t, "tree")
	repo := filepath.Join(dir, "repo")
	garret(t, "init", repo)
	garret(t, "create", repo+"::names", "tree")
	garret(t, "create", repo+"::again", "tree") // when it knows the files
	garret(t, "create", "--numeric-owner", repo+"::numbers", "tree")
	garret(t, "check", repo)
	if got := describe(t, "tree"); got != want {
		t.Errorf("the tree was changed: %s", firstDifference(want, got))
	}
	for _, args := range [][]string{
		{repo + "::names"},
		{repo + "::again"},
		{"--numeric-owner", repo + "::names"},
		{repo + "::numbers"},
		{"--numeric-owner", "--sparse", repo + "::numbers"},
	} {
		out := filepath.Join(dir, "out"+strings.ReplaceAll(strings.Join(args, ""), "/", "_"))
		garret(t, append([]string{"extract", "-t", out}, args...)...)
		if got := describe(t, filepath.Join(out, "tree")); got != want {
			t.Errorf("extract %q: %s", args, firstDifference(want, got))
		}
	}
}

// firstDifference returns the first line that differs.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("\n%s\nbecame\n%s", w[i], strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""))
		}
	}
	return "there is more than there was: " + g[len(w)]
}

// TestAsAnOrdinaryUser repeats the tests of attributes, if we are root, as somebody who is not.
func TestAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else, and this is not root anyway")
	}
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	const uid = 54321
	dir, err := os.MkdirTemp("", "garret")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cwd, temp, bin := filepath.Join(dir, "internal", "cli"), filepath.Join(dir, "temp"), filepath.Join(dir, "cli.test")
	for _, path := range []string{cwd, temp} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, golden, filepath.Join(cwd, golden))
	for _, path := range []string{dir, temp} {
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	copied, err := os.OpenFile(bin, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(copied, self); err != nil {
		t.Fatal(err)
	}
	if err := copied.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-test.v", "-test.run", "^(TestAttributesRoundTrip|TestGoldenArchivesAreExtracted.*)$")
	cmd.Dir = cwd
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := bytes.Count(out, []byte("\n--- PASS")) + bytes.Count(out, []byte("\n--- SKIP")); n != 2 {
		t.Errorf("%d tests were run:\n%s", n, out)
	}
}
