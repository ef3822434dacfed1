package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadingWritesNothing looks at every file and folder of a repository, of Attic's and of ours, after each command that
// reads. In addition nobody may write there, which root does not notice.
func TestReadingWritesNothing(t *testing.T) {
	dir := useTestEnv(t)
	attic, _ := goldenCopy(t, dir, "archive-none")
	ours := filepath.Join(dir, "ours")
	garret(t, "init", ours)
	for _, name := range []string{"one", "two"} {
		garret(t, "create", ours+"::"+name, filepath.Join(golden, "keys"))
	}
	for _, repo := range []string{attic, ours} {
		forbid(t, repo, 0o222)
		before := stateOf(t, repo)
		for _, args := range [][]string{
			{"list", repo},
			{"list", repo + "::one"},
			{"info", repo},
			{"info", repo + "::one"},
			{"extract", "-n", repo + "::one"},
			{"find", repo, "*"},
			{"diff", repo + "::one", "two"},
			{"export-tar", repo + "::one", filepath.Join(t.TempDir(), "one.tar")},
			{"check", repo},
			{"check", "--verify-data", repo},
			{"create", "-n", repo + "::new", dir},
			{"prune", "-n", "-d", "1", repo},
			{"delete", "-n", repo + "::one"},
			{"object", "list", repo},
		} {
			garret(t, args...)
			if diff := cmp.Diff(before, stateOf(t, repo)); diff != "" {
				t.Errorf("garret %q has changed\n%s", args, diff)
			}
		}
	}
}

// forbid takes rights away from all files and folders of a tree until the test ends.
func forbid(t *testing.T, root string, rights fs.FileMode) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		t.Cleanup(func() { os.Chmod(path, info.Mode().Perm()) })
		return os.Chmod(path, info.Mode().Perm()&^rights)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stateOf returns what can be seen of each file and folder of a tree.
func stateOf(t *testing.T, root string) map[string]string {
	t.Helper()
	state := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		state[path] = fmt.Sprintf("%v, %d bytes, %v", info.Mode(), info.Size(), info.ModTime())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			state[path] += fmt.Sprintf(", %x", data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}
