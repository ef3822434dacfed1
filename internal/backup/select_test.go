package backup_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"garret/internal/backup"
	"garret/internal/envelope"
	"garret/internal/pattern"
)

// TestAStandardInputThatBreaksIsNotStored has one that fails after some megabytes.
func TestAStandardInputThatBreaksIsNotStored(t *testing.T) {
	s := newMemStore()
	cat := newCatalog(t, s, envelope.NewPlaintext())
	broken := errors.New("broken")
	_, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Selection: backup.Selection{
		Stdin:     io.MultiReader(io.LimitReader(endless{}, 5<<20), iotest.ErrReader(broken)),
		StdinName: "dump",
	}})
	if !errors.Is(err, backup.ErrStdin) || !errors.Is(err, broken) || !strings.Contains(err.Error(), `"dump"`) {
		t.Errorf("got %v", err)
	}
	if len(cat.Manifest.Archives) != 0 {
		t.Error("the archive is in the manifest")
	}
}

// TestABackupOfAStandardInputThatSaysNothingCanBeCancelled has one that nobody writes to.
func TestABackupOfAStandardInputThatSaysNothingCanBeCancelled(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	for name, sel := range map[string]backup.Selection{
		"content": {Stdin: r, StdinName: "dump"},
		"list":    {FilesFrom: backup.Lines(r, false)},
	} {
		s := newMemStore()
		cat := newCatalog(t, s, envelope.NewPlaintext())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		done := make(chan error, 1)
		go func() {
			_, err := backup.Run(ctx, s, cat, backup.Options{Name: "x", Selection: sel})
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) || len(cat.Manifest.Archives) != 0 {
				t.Errorf("%s: %v, %d archives", name, err, len(cat.Manifest.Archives))
			}
		case <-time.After(5 * time.Minute):
			t.Fatalf("%s: it is not over after five minutes", name)
		}
	}
}

// TestAnErrorOfTheStoreEndsABackupThatWaitsForAPath has a list that goes on only when it is too late.
func TestAnErrorOfTheStoreEndsABackupThatWaitsForAPath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, []byte("x"), 0o644, time.Unix(1, 0))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = w.WriteString(file + "\n")
	must(t, err)
	s := newMemStore()
	s.failPut = unix.ENOSPC
	done := make(chan error, 1)
	go func() {
		cat := newCatalog(t, s, envelope.NewPlaintext())
		_, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Selection: backup.Selection{FilesFrom: backup.Lines(r, false)}})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("got %v", err)
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("it is not over after five minutes")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i >> 3)
	}
	return len(p), nil
}

// TestADryRunListsWhatARunStores compares the two, with everything that a selection has.
func TestADryRunListsWhatARunStores(t *testing.T) {
	dir := makeTree(t)
	write(t, dir+"/cache/CACHEDIR.TAG", []byte("Signature: 8a477f597d28d172789f06886806bc55"), 0o644, time.Unix(1, 0))
	write(t, dir+"/cache/below", []byte("x"), 0o644, time.Unix(1, 0))
	rules := new(pattern.Rules)
	must(t, rules.Exclude("*a*", "test"))
	must(t, rules.Exclude("sub/", "test"))
	for _, sel := range []backup.Selection{{}, {Exclude: rules, ExcludeCaches: true}, {ExcludeCaches: true}} {
		var lists [2][]string
		for i := range lists {
			s := newMemStore()
			cat := newCatalog(t, s, envelope.NewPlaintext())
			o := backup.Options{Name: "x", Dir: dir, Paths: []string{".", "cache/below"}, Selection: sel}
			o.List = func(l backup.Listed) {
				if l.Status == backup.StatusWould {
					l.Status = backup.StatusAdded
				}
				lists[i] = append(lists[i], string(rune(l.Status))+" "+l.Path)
				if l.Status == backup.StatusExcluded && (l.Rule == nil) == (l.Reason == "") {
					t.Errorf("%s: excluded by %v, and %q", l.Path, l.Rule, l.Reason)
				}
			}
			var stats *backup.Stats
			var err error
			if i == 0 {
				stats, err = backup.DryRun(t.Context(), cat, o)
			} else {
				stats, err = backup.Run(t.Context(), s, cat, o)
			}
			must(t, err)
			if n := int(stats.Files+stats.Dirs+stats.Others) + count(lists[i], "x "); n != len(lists[i]) {
				t.Errorf("%d entries are listed, and %+v counted", n, *stats)
			}
			if i == 0 && len(s.objects) != 0 {
				t.Errorf("a dry run stored %d objects", len(s.objects))
			}
		}
		if !slices.Equal(lists[0], lists[1]) {
			t.Errorf("a dry run lists\n%s\nand a run\n%s", strings.Join(lists[0], "\n"), strings.Join(lists[1], "\n"))
		}
		if below := "A " + filepath.Join(dir, "cache/below"); sel.Exclude == nil && count(lists[0], below) != 1 {
			t.Errorf("%q is not listed once", below)
		}
	}
}

func count(list []string, prefix string) (n int) {
	for _, l := range list {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}
