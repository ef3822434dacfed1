package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"garret/internal/fsmeta"
)

// goldenRepo is what Attic itself says of a repository that it wrote.
type goldenRepo struct {
	Archives map[string]struct {
		Items []goldenItem
	}
}

type goldenItem struct {
	Path, Source text
	Mode         uint32
	UID, GID     uint32
	MTime        string
	SHA256       string
	Rdev         uint64
	Xattrs       map[string][]byte
	ACLAccess    *string `json:"acl_access"`
	ACLDefault   *string `json:"acl_default"`
	User, Group  *string
}

// text is a string, or an object with its bytes in base64 if it is not UTF-8.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*t = text(s)
		return nil
	}
	var raw struct{ Base64 string }
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	b, err := base64.StdEncoding.DecodeString(raw.Base64)
	*t = text(b)
	return err
}

// useTestEnv gives the test an environment of its own, and returns its folder.
func useTestEnv(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, kv := range testEnv(dir) {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	t.Setenv(repoVar, "")
	t.Setenv("GARRET_PASSPHRASE", "correct horse 1")
	t.Setenv("GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
	return dir
}

// garret runs a command that must succeed, and returns what it printed.
func garret(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code != exitOK {
		t.Fatalf("garret %q: exit code %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenArchivesAreExtractedAsTheyWere(t *testing.T) {
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
			attrs := hasAttrs(dir)
			if !attrs {
				t.Logf("the file system of %s has not all attributes, so they are not compared", dir)
			}
			var want goldenRepo
			data, err := os.ReadFile(filepath.Join(golden, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			for arch, a := range want.Archives {
				target := filepath.Join(dir, arch)
				var stdout, stderr bytes.Buffer
				code := Run(t.Context(), []string{"extract", "--target", target, repo + "::" + arch}, nil, &stdout, &stderr)
				// An ordinary user cannot make devices, and some file systems have no attributes.
				if code != exitOK && (os.Geteuid() == 0 && attrs || code != exitWarning) {
					t.Fatalf("extract %q: exit code %d: %s", arch, code, stderr.String())
				}
				for _, it := range a.Items {
					compareGolden(t, target, it)
					if attrs {
						compareGoldenAttrs(t, target, it)
					}
				}
			}
			addNothingNew(t, dir, repo)
		})
	}
}

// compareGolden compares a file with what an archive says of it, attributes apart.
func compareGolden(t *testing.T, target string, want goldenItem) {
	t.Helper()
	path := filepath.Join(target, string(want.Path))
	d, err := fsmeta.OpenDir(filepath.Dir(path))
	if err != nil {
		t.Error(err)
		return
	}
	defer d.Release()
	root := os.Geteuid() == 0
	typ := want.Mode & fsmeta.TypeMask
	info, err := d.Lstat(filepath.Base(path))
	if err != nil {
		if root || (typ != fsmeta.TypeBlock && typ != fsmeta.TypeChar) {
			t.Error(err)
		}
		return
	}
	mode := want.Mode
	if !root {
		mode &^= fsmeta.SetIDMask // which are lost with the owner
	}
	if typ == fsmeta.TypeSymlink {
		mode = info.Mode&^fsmeta.TypeMask | typ
		if got, err := os.Readlink(path); err != nil || got != string(want.Source) {
			t.Errorf("%q leads to %q, %v", path, got, err)
		}
	}
	mtime, err := strconv.ParseUint(want.MTime, 10, 64)
	if err == nil && uint64(info.MTime.Sec)*1e9+uint64(info.MTime.Nsec) != mtime {
		t.Errorf("%q is of %v, want %s", path, info.MTime, want.MTime)
	}
	if err != nil && (info.MTime.Sec != -2 || info.MTime.Nsec != 499999999) { // input/old: -1500000001
		t.Errorf("%q is of %v, want %s", path, info.MTime, want.MTime)
	}
	if info.Mode != mode {
		t.Errorf("%q has mode %o, want %o", path, info.Mode, mode)
	}
	if root && (info.UID != want.UID || info.GID != want.GID) {
		t.Errorf("%q belongs to %d:%d, want %d:%d", path, info.UID, info.GID, want.UID, want.GID)
	}
	switch {
	case typ == fsmeta.TypeBlock || typ == fsmeta.TypeChar:
		if info.Rdev != want.Rdev {
			t.Errorf("%q is device %d, want %d", path, info.Rdev, want.Rdev)
		}
	case typ == fsmeta.TypeRegular && want.Source != "":
		other, err := os.Lstat(filepath.Join(target, string(want.Source)))
		if err != nil {
			t.Error(err)
			return
		}
		if self, err := os.Lstat(path); err != nil || !os.SameFile(self, other) {
			t.Errorf("%q is not %q, %v", path, want.Source, err)
		}
	case typ == fsmeta.TypeRegular:
		data, err := os.ReadFile(path)
		if err != nil && !root && mode&0o400 == 0 {
			return
		}
		if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != want.SHA256 {
			t.Errorf("%q is %x, want %s, %v", path, sum, want.SHA256, err)
		}
	}
}

// compareGoldenAttrs compares what a file has besides content, owner, permissions and times.
func compareGoldenAttrs(t *testing.T, target string, want goldenItem) {
	t.Helper()
	dir, name := filepath.Split(filepath.Join(target, string(want.Path)))
	d, err := fsmeta.OpenDir(dir)
	if err != nil {
		return // which is told elsewhere
	}
	defer d.Release()
	info, err := d.Lstat(name)
	if err != nil {
		return // which is told elsewhere
	}
	owners := &fsmeta.Owners{Numeric: want.User == nil && want.Group == nil}
	got := fsmeta.NewItem(string(want.Path), info, owners)
	if err := fsmeta.ReadAttrs(d, name, nil, got, owners); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want.Xattrs, got.Xattrs, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("%q has other attributes: %s", want.Path, diff)
	}
	if diff := cmp.Diff([]*string{want.ACLAccess, want.ACLDefault}, []*string{got.ACLAccess, got.ACLDefault}); diff != "" {
		t.Errorf("%q has other lists: %s", want.Path, diff)
	}
	if got.BSDFlags != nil {
		t.Errorf("%q has flags %x", want.Path, *got.BSDFlags)
	}
}

// hasAttrs reports whether the files in a folder can have extended attributes and access control lists.
func hasAttrs(dir string) bool {
	probe, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return false
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	return setxattr(probe.Name(), "user.garret", "") == nil && setxattr(probe.Name(), aclAccess, rawACL(7, 7, 7, 7)) == nil
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// rawACL returns a list as Linux has it, for the owner, user 1, the group, group 54321 with the permissions of the group,
// the mask and others.
func rawACL(owner, user, group, other byte) string {
	entry := func(tag, perm byte, id string) string { return string([]byte{tag, 0, perm, 0}) + id }
	const none, id1, id54321 = "\xff\xff\xff\xff", "\x01\x00\x00\x00", "\x31\xd4\x00\x00"
	return "\x02\x00\x00\x00" + entry(1, owner, none) + entry(2, user, id1) + entry(4, group, none) +
		entry(8, group, id54321) + entry(0x10, user|group, none) + entry(0x20, other, none)
}

// addNothingNew makes a new archive of what was extracted: but for the archive itself, all of it is there already.
func addNothingNew(t *testing.T, dir, repo string) {
	t.Helper()
	before := strings.Fields(garret(t, "object", "list", repo))
	t.Chdir(filepath.Join(dir, "one"))
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), []string{"create", repo + "::added", "input"}, nil, &stdout, &stderr)
	if code != exitOK && (os.Geteuid() == 0 || code != exitWarning) { // input/secret cannot be read
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	after := strings.Fields(garret(t, "object", "list", repo))
	// The archive's record is new, and where not all could be restored, a chunk of items.
	most := 2
	if os.Geteuid() == 0 && hasAttrs(dir) {
		most = 1
	}
	if n := len(after) - len(before); n > most {
		t.Errorf("%d new objects", n)
	}
	garret(t, "check", repo)
	garret(t, "extract", "--target", filepath.Join(dir, "again"), repo+"::added", "input/text")
}

func TestBorgReadsWhatGarretWrites(t *testing.T) {
	borg := peer(t, "borg")
	for _, encryption := range []string{"none", "keyfile"} {
		t.Run(encryption, func(t *testing.T) {
			dir := useTestEnv(t)
			keys, base := filepath.Join(dir, "keys"), filepath.Join(dir, "borg")
			run := func(dir string, args ...string) {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), borg, args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(),
					"ATTIC_KEYS_DIR="+keys, "BORG_BASE_DIR="+base, "BORG_PASSPHRASE=correct horse 1",
					"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("borg %q: %v\n%s", args, err, out)
				}
			}
			tree := filepath.Join(dir, "tree")
			makeTree(t, tree)
			if hasAttrs(dir) {
				unlockTree(t, dir)
				makeAttrTree(t, filepath.Join(tree, "attrs"))
				if os.Geteuid() == 0 { // Borg locks a file before it gives it a further name, which fails
					flag(t, filepath.Join(tree, "attrs", "locked"), 0)
				} else { // and takes away the right to set attributes before it sets them
					for _, name := range []string{"read-only", "closed"} {
						if err := os.Chmod(filepath.Join(tree, "attrs", name), 0o755); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			// Where Borg looks for a key depends on the repository's path, so the copy takes the original's place.
			repo, original := filepath.Join(dir, "repo"), filepath.Join(dir, "original")
			garret(t, "init", "-e", encryption, repo)
			t.Chdir(dir)
			garret(t, "create", repo+"::one", "tree")
			if err := os.WriteFile(filepath.Join(tree, "more"), []byte("more"), 0o644); err != nil {
				t.Fatal(err)
			}
			garret(t, "create", repo+"::two", "tree")
			garret(t, "check", repo)
			if err := os.Rename(repo, original); err != nil {
				t.Fatal(err)
			}
			copyTree(t, original, repo)

			run(dir, "upgrade", "--inplace", repo)
			run(dir, "check", "--verify-data", repo)
			out := filepath.Join(dir, "out")
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
			run(out, "extract", repo+"::two")
			if want, got := describe(t, tree), describe(t, filepath.Join(out, "tree")); want != got {
				t.Errorf("the tree is\n%s\nand Borg gives back\n%s", want, got)
			}
		})
	}
}

// makeTree makes a tree with files of many sizes, links and times.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o750))
	content := make([]byte, 0, 1<<21)
	for i := 0; len(content) < 1<<21-100; i++ {
		content = fmt.Appendf(content, "%d %x\n", i, sha256.Sum256(content[max(0, len(content)-50):]))
	}
	for i, size := range []int{0, 1, 1023, 70_000, len(content)} {
		check(os.WriteFile(filepath.Join(dir, "sub", strconv.Itoa(size)), content[:size], fs.FileMode(0o600+i)))
	}
	check(os.WriteFile(filepath.Join(dir, "zeros"), make([]byte, 11<<20), 0o644))
	check(os.Link(filepath.Join(dir, "sub", "1023"), filepath.Join(dir, "zlink")))
	check(os.Symlink("sub/1", filepath.Join(dir, "symlink")))
	check(os.WriteFile(filepath.Join(dir, "bytes-\xff"), []byte("x"), 0o644))
}

// describe lists a tree with all that an archive keeps of it.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	var owners fsmeta.Owners
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		d, err := fsmeta.OpenDir(filepath.Dir(path))
		if err != nil {
			return err
		}
		defer d.Release()
		info, err := d.Lstat(filepath.Base(path))
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %o %d:%d %d.%09d", rel, info.Mode, info.UID, info.GID, info.MTime.Sec, info.MTime.Nsec)
		it := fsmeta.NewItem(rel, info, &owners)
		if err := fsmeta.ReadAttrs(d, filepath.Base(path), nil, it, &owners); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(it.Xattrs)) {
			fmt.Fprintf(&b, " %q=%q", name, it.Xattrs[name])
		}
		for _, list := range []*string{it.ACLAccess, it.ACLDefault} {
			if list != nil {
				fmt.Fprintf(&b, " %q", *list)
			}
		}
		fmt.Fprintf(&b, " flags %x, device %d", info.Flags, info.Rdev)
		switch info.Type() {
		case fsmeta.TypeRegular:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d names, %d bytes, %x", info.Nlink, len(data), sha256.Sum256(data))
		case fsmeta.TypeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
