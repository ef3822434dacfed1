package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/fsck"
	"garret/internal/fsmeta"
)

func regular(path string) *archive.Item {
	return &archive.Item{Path: path, Mode: fsmeta.TypeRegular | 0o644}
}

func TestAWriterKeepsItemsInTheirOrder(t *testing.T) {
	s, key := newMemStore(), newKey(t)
	cat := newCatalog(t, s, key)
	w, err := backup.NewWriter(t.Context(), s, cat, backup.Options{Name: "one", Hostname: "here", Cmdline: []string{"import"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	for i := range 500 {
		content := noise[:i*1000]
		if err := w.Add(regular(fmt.Sprint(i)), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Add(&archive.Item{Path: "dir", Mode: fsmeta.TypeDir}, nil); err != nil {
		t.Fatal(err)
	}
	stats, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Files != 500 || stats.Dirs != 1 || stats.Bytes != 499*500/2*1000 || s.committed != s.puts {
		t.Errorf("%+v, %d of %d committed", stats, s.committed, s.puts)
	}
	cat = newCatalog(t, s, key)
	if _, err := fsck.Archives(t.Context(), s, cat, func(f fsck.Finding) { t.Error(f) }); err != nil {
		t.Error(err)
	}
	a, err := cat.Archive(t.Context(), "one")
	if err != nil || a.Hostname != "here" {
		t.Fatalf("%+v, %v", a, err)
	}
	i := 0
	for it, err := range cat.Items(t.Context(), a) {
		if err != nil {
			t.Fatal(err)
		}
		var size int
		for _, c := range it.Chunks {
			size += int(c.Size)
		}
		if i < 500 && (it.Path != fmt.Sprint(i) || size != i*1000 || !it.HasChunks) {
			t.Errorf("item %d is %q with %d bytes", i, it.Path, size)
		}
		i++
	}
	if i != 501 {
		t.Errorf("%d items", i)
	}
	if _, err := backup.NewWriter(t.Context(), s, cat, backup.Options{Name: "one"}); !errors.Is(err, backup.ErrArchiveExists) {
		t.Error(err)
	}
}

func TestAWriterThatFailsCommitsNothing(t *testing.T) {
	broken := errors.New("broken")
	for name, add := range map[string]func(*backup.Writer, *memStore) error{
		"content": func(w *backup.Writer, _ *memStore) error {
			return w.Add(regular("b"), io.MultiReader(strings.NewReader(strings.Repeat("b", 1<<20)), iotest.ErrReader(broken)))
		},
		"store": func(w *backup.Writer, s *memStore) error {
			s.mu.Lock()
			s.failPut = broken
			s.mu.Unlock()
			for i := 0; ; i++ { // until it is noticed
				if err := w.Add(regular(fmt.Sprint(i)), strings.NewReader(fmt.Sprint(i))); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, key := newMemStore(), newKey(t)
			w, err := backup.NewWriter(t.Context(), s, newCatalog(t, s, key), backup.Options{Name: "one"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := w.Add(regular("a"), strings.NewReader("a")); err != nil {
				t.Fatal(err)
			}
			if err := add(w, s); !errors.Is(err, broken) {
				t.Errorf("the error is %v", err)
			}
			if err := w.Add(regular("c"), strings.NewReader("c")); !errors.Is(err, broken) {
				t.Errorf("after it, the error is %v", err)
			}
			if _, err := w.Finish(); !errors.Is(err, broken) || s.committed != 0 {
				t.Errorf("finished: %v, %d committed", err, s.committed)
			}
		})
	}
	s, key := newMemStore(), newKey(t)
	w, err := backup.NewWriter(t.Context(), s, newCatalog(t, s, key), backup.Options{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(regular("a"), strings.NewReader("a")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	w.Close()
	if s.committed != 0 {
		t.Error("something is committed")
	}
}
