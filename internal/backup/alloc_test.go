package backup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"garret/internal/alloctest"
	"garret/internal/backup"
	"garret/internal/cache"
	"garret/internal/progress"
	"garret/internal/restore"
)

// TestAllocationsForEachFile measures whole runs: new files, files that are unchanged, and files restored.
func TestAllocationsForEachFile(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint(i/100), fmt.Sprintf("file-%04d", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "the content of file %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	warn := func(path string, err error) { t.Errorf("%q: %v", path, err) }
	key := newKey(t)
	s := newMemStore()
	runs := 0
	run := func(known backup.Known) (read int64) {
		runs++
		o := backup.Options{Name: fmt.Sprint(runs), Dir: dir, Paths: []string{"."}, Warn: warn, Known: known}
		o.Progress = new(progress.Files)
		stats, err := backup.Run(t.Context(), s, newCatalog(t, s, key), o)
		if err != nil || stats.Files != n {
			t.Fatal(stats, err)
		}
		return o.Progress.Bytes.Load()
	}
	t.Run("new", func(t *testing.T) {
		alloctest.AtMost(t, 38, n, func() {
			s = newMemStore()
			run(nil)
		})
	})
	t.Run("unchanged", func(t *testing.T) {
		if testing.Short() {
			t.Skip("files that have changed a moment ago are not believed to be unchanged, and to wait takes seconds")
		}
		time.Sleep(4 * time.Second)
		path := filepath.Join(t.TempDir(), "files")
		known := func() *cache.Files {
			files, err := cache.OpenFiles(path)
			if err != nil {
				t.Fatal(err)
			}
			return files
		}
		files := known()
		run(files)
		if err := files.Save(); err != nil {
			t.Fatal(err)
		}
		alloctest.AtMost(t, 17, n, func() {
			if read := run(known()); read > 100 { // of the youngest
				t.Errorf("%d bytes are read of files that are unchanged", read)
			}
		})
	})
	t.Run("restored", func(t *testing.T) {
		run(nil)
		cat := newCatalog(t, s, key)
		a, err := cat.Archive(t.Context(), fmt.Sprint(runs))
		if err != nil {
			t.Fatal(err)
		}
		alloctest.AtMost(t, 44, n, func() {
			stats, err := restore.Run(t.Context(), cat, a, restore.Options{Target: t.TempDir(), Warn: warn})
			if err != nil || stats.Files != n {
				t.Fatal(stats, err)
			}
		})
	})
}
