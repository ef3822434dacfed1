package cli

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// mountSmall mounts a file system with room for so many MiB, which is gone when the test ends.
func mountSmall(t *testing.T, megabytes int) string {
	t.Helper()
	path := t.TempDir()
	if err := unix.Mount("garret-test", path, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("this process may not mount a file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// takeAllRoom writes a file until there is no byte free.
func takeAllRoom(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); errors.Is(err, unix.ENOSPC) {
			n /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// randomFile writes a file that cannot be compressed.
func randomFile(t *testing.T, path string, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data) // never fails
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk with a backup, which fails in words and leaves the repository as it was. Then somebody else
// takes the last byte, and an archive is deleted all the same, with the client's own files on the same disk.
func TestFullDisk(t *testing.T) {
	for _, encryption := range []string{"none", "passphrase"} {
		t.Run(encryption, func(t *testing.T) {
			files, disk := useTestEnv(t), mountSmall(t, 32)
			t.Setenv("GARRET_CACHE_DIR", filepath.Join(disk, "cache"))
			randomFile(t, filepath.Join(files, "small"), 3<<20)
			randomFile(t, filepath.Join(files, "tiny"), 300<<10)
			randomFile(t, filepath.Join(files, "large"), 60<<20)
			repo := filepath.Join(disk, "repo")
			garret(t, "init", "-e", encryption, repo)
			garret(t, "create", repo+"::one", filepath.Join(files, "small"))
			if encryption != "none" {
				garret(t, "create", repo+"::three", filepath.Join(files, "tiny"))
			}

			var stderr bytes.Buffer
			args := []string{"create", repo + "::two", filepath.Join(files, "large")}
			if code := Run(t.Context(), args, strings.NewReader(""), &stderr, &stderr); code != exitError {
				t.Errorf("exit code %d", code)
			}
			if msg := stderr.String(); strings.Count(msg, "\n") != 1 || !strings.Contains(msg, "no space left on device; free some space") {
				t.Errorf("the message is %q", msg)
			}
			garret(t, "check", repo)
			if list := garret(t, "list", repo); !strings.Contains(list, "one") || strings.Contains(list, "two") {
				t.Errorf("archives: %s", list)
			}

			takeAllRoom(t, disk)
			if encryption == "none" {
				for _, id := range strings.Fields(garret(t, "object", "list", repo)) {
					if id != archive.ManifestID.String() {
						takeAllRoom(t, disk)
						garret(t, "object", "delete", repo, id)
					}
				}
			} else {
				garret(t, "prune", "--keep-daily", "1", "--even-last", repo)
				if list := garret(t, "list", "--short", repo); list != "three\n" {
					t.Errorf("archives after the prune: %s", list)
				}
				takeAllRoom(t, disk)
				garret(t, "delete", repo+"::three")
				takeAllRoom(t, disk)
				garret(t, "compact", repo)
				if list := garret(t, "list", repo); list != "" {
					t.Errorf("archives: %s", list)
				}
				garret(t, "check", repo)
				if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
					t.Fatal(err)
				}
				garret(t, "create", repo+"::four", filepath.Join(files, "small"))
				garret(t, "check", repo)
			}
		})
	}
}

// Who brings files back to a disk that is full is not told to delete archives.
func TestFullTarget(t *testing.T) {
	files, disk := useTestEnv(t), mountSmall(t, 4)
	large, repo := filepath.Join(files, "large"), filepath.Join(files, "repo")
	randomFile(t, large, 8<<20)
	garret(t, "init", repo)
	garret(t, "create", repo+"::one", large)
	for _, args := range [][]string{
		{"extract", "--target", filepath.Join(disk, "out"), repo + "::one"},
		{"export-tar", repo + "::one", filepath.Join(disk, "one.tar")},
	} {
		var stderr bytes.Buffer
		if code := Run(t.Context(), args, strings.NewReader(""), &stderr, &stderr); code != exitError {
			t.Errorf("%s: exit code %d", args[0], code)
		}
		if msg := stderr.String(); !strings.HasSuffix(msg, "no space left on device; free some space there and do it again\n") {
			t.Errorf("%s: the message is %q", args[0], msg)
		}
		if left, err := filepath.Glob(filepath.Join(disk, ".garret-tmp-*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left: %q, %v", args[0], left, err)
		}
		if err := os.RemoveAll(filepath.Join(disk, "out")); err != nil {
			t.Fatal(err)
		}
	}
	garret(t, "check", repo)
}
