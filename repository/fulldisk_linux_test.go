package repository

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"garret/repository/storage"
)

// mountLimited mounts a file system with so much room, and returns where it is. It is gone when the test ends. Where
// GARRET_TEST_FULL_DISK names a folder on a small file system of another kind, it is that one.
func mountLimited(t *testing.T, options string) string {
	t.Helper()
	if dir := os.Getenv("GARRET_TEST_FULL_DISK"); dir != "" {
		path, err := os.MkdirTemp(dir, "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		})
		return path
	}
	path := t.TempDir()
	if err := unix.Mount("garret-test", path, "tmpfs", 0, options); err != nil {
		t.Skipf("this process may not mount a file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// fillDisk takes all the room there is.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(path, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil && storage.IsFull(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); err != nil {
			if !storage.IsFull(err) {
				t.Fatal(err)
			}
			n /= 2
		}
	}
}

// fillInodes makes empty files until there can be no more.
func fillInodes(t *testing.T, path string) {
	t.Helper()
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(path, fmt.Sprint("empty", i)))
		if storage.IsFull(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}

// newLimited returns a repository in a file system with so much room, and that file system. It holds 100 objects.
func newLimited(t *testing.T, options string) (r *Repository, mount string, want model, random func() string) {
	mount = mountLimited(t, options)
	seed, _ := seeds(t, 1, 1)
	rng := rand.New(rand.NewPCG(seed, 1))
	random = func() string {
		b := make([]byte, rng.IntN(200_000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	r, err := Create(context.Background(), filepath.Join(mount, "repo"), &Options{MaxSegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkPath(t, r) })
	want = model{}
	for i := range 100 {
		want[numbered(i)] = random()
		mustPut(t, r, i, want[numbered(i)])
	}
	mustCommit(t, r)
	return reopen(t, r, nil), mount, want, random
}

// mustFill puts objects until one fails, and rolls back.
func mustFill(t *testing.T, r *Repository, random func() string) {
	t.Helper()
	var err error
	for i := 1000; err == nil && i < 20_000; i++ {
		err = r.Put(context.Background(), numbered(i), []byte(random()))
	}
	if err = errors.Join(err, r.Commit(context.Background())); !storage.IsFull(err) {
		t.Fatalf("the disk is full, and a commit gives %v", err)
	}
	if err := r.Rollback(); err != nil {
		t.Fatal(err)
	}
}

// TestFullFileSystem fills a real file system with a transaction, which fails, then to the last byte from outside before
// each deletion, of which none does.
func TestFullFileSystem(t *testing.T) {
	r, mount, want, random := newLimited(t, "size=24m")
	mustFill(t, r, random)
	compare(t, r, want, nil)
	for i := range 100 {
		fillDisk(t, mount)
		mustDelete(t, r, i)
		mustCommit(t, r)
		switch delete(want, numbered(i)); i % 10 {
		case 3:
			fillDisk(t, mount)
			mustCompact(t, r)
		case 6:
			r = reopen(t, r, nil)
		}
	}
	mustCompact(t, r)
	if n := logSize(t, r.store); n > 100_000 {
		t.Errorf("the log of an empty repository has %d bytes", n)
	}
	compare(t, r, want, nil)
	if os.Getenv("GARRET_TEST_FULL_DISK") != "" {
		// What was freed last may not be enough for the file system's own needs.
		if err := os.Remove(filepath.Join(mount, "filler")); err != nil {
			t.Fatal(err)
		}
	}
	putCommit(t, r, 1, "there is room again")
}

// TestFileSystemWithoutInodes lets others take the last inode. The reserve's own is enough for a deletion, and what that
// frees for all that follows.
func TestFileSystemWithoutInodes(t *testing.T) {
	r, mount, want, random := newLimited(t, "size=100m,nr_inodes=60")
	fillInodes(t, mount)
	mustFill(t, r, random)
	compare(t, r, want, nil)
	for i := range 60 {
		mustDelete(t, r, i)
		delete(want, numbered(i))
	}
	mustCommit(t, r)
	mustCompact(t, r)
	compare(t, r, want, nil)
	putCommit(t, r, 1, "there is room again")
}
