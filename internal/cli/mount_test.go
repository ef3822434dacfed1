package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/internal/mount"
)

// unmountBelow ends all mounts in a folder: those that a script has left when it failed.
func unmountBelow(dir string) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() && mount.Unmount(path) == nil {
			return fs.SkipDir
		}
		return nil
	})
}

// mayMount finds out whether something can be mounted here.
var mayMount = sync.OnceValue(func() error {
	point, err := os.MkdirTemp("", "garret-test")
	if err != nil {
		return err
	}
	defer os.Remove(point)
	cat, err := catalog.New(nil, envelope.NewPlaintext(), nil)
	if err != nil {
		return err
	}
	m, err := mount.New(context.Background(), cat, point, mount.Options{})
	if err != nil {
		return err
	}
	err = m.Unmount()
	m.Wait()
	return err
})

// fuseCondition reports whether something can be mounted. An error says that it must be possible, and is not.
func fuseCondition() (bool, error) {
	err := mayMount()
	if err != nil && os.Getenv("GARRET_REQUIRE_FUSE") == "1" {
		return false, errors.Join(errors.New("GARRET_REQUIRE_FUSE is set, and nothing can be mounted"), err)
	}
	return err == nil, nil
}

func requireFUSE(t *testing.T) {
	t.Helper()
	switch ok, err := fuseCondition(); {
	case err != nil:
		t.Fatal(err)
	case !ok:
		t.Skipf("nothing can be mounted here: %v", mayMount())
	}
}

// mountForTest runs garret mount --foreground until the test ends, and returns the mount point. Standard error must be
// empty then.
func mountForTest(t *testing.T, args ...string) string {
	t.Helper()
	point := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	code := make(chan int)
	go func() {
		code <- Run(ctx, append([]string{"mount", "--foreground"}, append(args, point)...), strings.NewReader(""), &stdout, &stderr)
	}()
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != exitOK || stderr.Len() > 0 {
			t.Errorf("garret mount: exit code %d: %s", c, stderr.String())
		}
		if entries, err := os.ReadDir(point); err != nil || len(entries) > 0 {
			t.Errorf("after the end there is %v, %v", entries, err)
		}
	})
	for range 30_000 {
		if entries, err := os.ReadDir(point); err == nil && len(entries) > 0 {
			return point
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nothing is mounted")
	return ""
}

func TestAMountedTreeIsTheTreeThatWasBackedUp(t *testing.T) {
	requireFUSE(t)
	for _, encryption := range []string{"none", "keyfile"} {
		t.Run(encryption, func(t *testing.T) {
			dir := useTestEnv(t)
			repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
			makeTree(t, tree)
			addNodes(t, tree)
			garret(t, "init", "-e", encryption, repo)
			t.Chdir(dir)
			garret(t, "create", repo+"::one", "tree")
			garret(t, "create", repo+"::two", "tree/sub")
			want := describe(t, tree)
			all := mountForTest(t, repo)
			if got := describe(t, filepath.Join(all, "one", "tree")); got != want {
				t.Errorf("the tree is\n%s\nand mounted\n%s", want, got)
			}
			if entries, err := os.ReadDir(all); err != nil || len(entries) != 2 || entries[1].Name() != "two" {
				t.Errorf("archives: %v, %v", entries, err)
			}
			if got := describe(t, filepath.Join(mountForTest(t, repo+"::one"), "tree")); got != want {
				t.Errorf("the tree is\n%s\nand mounted alone\n%s", want, got)
			}
			garret(t, "check", repo)
		})
	}
}

// addNodes adds files of all other kinds to a tree, and modes and times that are not usual.
func addNodes(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		unix.Mkfifo(at("fifo"), 0o640),
		os.Mkdir(at("sticky"), 0o755),
		os.WriteFile(at("setuid"), []byte("x"), 0o755),
		os.WriteFile(at("secret"), []byte("x"), 0o600),
		os.WriteFile(at("a\nb\tc"), nil, 0o644),
		os.Chtimes(at("secret"), time.Unix(-1500000001, 5), time.Unix(-1500000001, 5)),
		unix.Chmod(at("sticky"), 0o1777),
		unix.Chmod(at("setuid"), 0o6755),
		os.Symlink("nowhere/\xff", at("dangling")),
	)
	if os.Geteuid() == 0 {
		d, openErr := fsmeta.OpenDir(dir)
		if openErr != nil {
			t.Fatal(openErr)
		}
		defer d.Release()
		err = errors.Join(
			err,
			d.Mknod("null", fsmeta.TypeChar|0o666, unix.Mkdev(1, 3)),
			d.Mknod("disk", fsmeta.TypeBlock|0o660, unix.Mkdev(259, 70000)),
			os.Lchown(at("dangling"), 1000, 2000),
			os.Chown(at("secret"), 4000000001, 4000000002),
		)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoldenArchivesAreMountedAsTheyWere(t *testing.T) {
	requireFUSE(t)
	for _, name := range []string{"archive-none", "archive-keyfile", "archive-passphrase"} {
		t.Run(name, func(t *testing.T) {
			dir := useTestEnv(t)
			keys, err := filepath.Abs(filepath.Join(golden, "keys"))
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("GARRET_KEYS_DIR", keys)
			repo := filepath.Join(dir, "repo")
			copyTree(t, filepath.Join(golden, name), repo)
			var want goldenRepo
			var attrs struct {
				Archives map[string]struct {
					Items []struct {
						Path   text
						Xattrs map[string]*string
					}
				}
			}
			data, err := os.ReadFile(filepath.Join(golden, name+".json"))
			if err == nil {
				err = errors.Join(json.Unmarshal(data, &want), json.Unmarshal(data, &attrs))
			}
			if err != nil {
				t.Fatal(err)
			}
			point := mountForTest(t, repo)
			for arch, a := range want.Archives {
				for _, it := range a.Items {
					if os.Geteuid() != 0 && it.Mode&fsmeta.SetIDMask != 0 {
						continue // compareGolden expects that an ordinary user has lost these bits
					}
					compareGolden(t, filepath.Join(point, arch), it)
				}
			}
			with := 0
			for arch, a := range attrs.Archives {
				for _, it := range a.Items {
					with += len(it.Xattrs)
					compareXattrs(t, filepath.Join(point, arch, string(it.Path)), it.Xattrs)
				}
			}
			if with == 0 {
				t.Error("no golden archive has extended attributes")
			}
		})
	}
}

// compareXattrs compares a file's extended attributes with those in base64.
func compareXattrs(t *testing.T, path string, want map[string]*string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if got := strings.Count(string(buf[:n]), "\x00"); got != len(want) {
		t.Errorf("%s has %q, want %d", path, buf[:n], len(want))
	}
	for name, encoded := range want {
		var value []byte
		if encoded != nil {
			if value, err = base64.StdEncoding.DecodeString(*encoded); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := unix.Lgetxattr(path, name, buf); err != nil || !slices.Equal(buf[:n], value) {
			t.Errorf("%s: %s is %q, %v, want %q", path, name, buf[:max(n, 0)], err, value)
		}
	}
}
