package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/internal/fsmeta"
	"garret/internal/progress"
	"garret/internal/restore"
	"garret/repository"
)

// memory remembers files, and counts those that it found unchanged.
type memory struct {
	mu    sync.Mutex
	files map[string]remembered
	same  int
}

type remembered struct {
	info fsmeta.Info
	item archive.Item
}

func (m *memory) Lookup(path string, info *fsmeta.Info, it *archive.Item) (known, unchanged bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.files[path]
	if !ok || !info.SameContent(&r.info) {
		return ok, false
	}
	m.same++
	it.HasChunks, it.Chunks = true, r.item.Chunks
	it.Xattrs, it.ACLAccess = r.item.Xattrs, r.item.ACLAccess
	return true, true
}

func (m *memory) Remember(path string, info *fsmeta.Info, it *archive.Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string]remembered{}
	}
	m.files[path] = remembered{*info, *it}
}

// reach returns the objects that a repository's archives need.
func reach(t *testing.T, s *memStore, cat *catalog.Catalog) map[repository.ID]bool {
	t.Helper()
	need := map[repository.ID]bool{archive.ManifestID: true}
	for _, e := range cat.Archives() {
		need[e.ID] = true
		a, err := cat.Archive(t.Context(), e.Name)
		must(t, err)
		for _, id := range a.Items {
			need[id] = true
		}
		for it, err := range cat.Items(t.Context(), a) {
			must(t, err)
			for _, c := range it.Chunks {
				need[c.ID] = true
			}
		}
	}
	return need
}

// sound fails unless a repository has all that its archives need, and nothing else.
func sound(t *testing.T, s *memStore, cat *catalog.Catalog) {
	t.Helper()
	if _, err := fsck.Archives(t.Context(), s, cat, func(f fsck.Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	need := reach(t, s, cat)
	for id := range s.objects {
		if !need[id] {
			t.Errorf("object %v is needed by nobody", id)
		}
	}
}

func TestUnchangedFilesAreNotRead(t *testing.T) {
	dir, s, key := makeTree(t), newMemStore(), newKey(t)
	m := &memory{}
	backUp := func(name string) (*backup.Stats, int64) {
		var p progress.Files
		stats, err := backup.Run(t.Context(), s, newCatalog(t, s, key), backup.Options{
			Name: name, Dir: dir, Paths: []string{"."}, Known: m, Progress: &p,
			Warn: func(path string, err error) { t.Errorf("%q: %v", path, err) },
		})
		must(t, err)
		_, read, _ := p.Count()
		return stats, read
	}
	first, read := backUp("one")
	if read != first.Bytes {
		t.Errorf("read %d of %d", read, first.Bytes)
	}
	second, read := backUp("two")
	if read != 0 || second.Bytes != first.Bytes || second.Files != first.Files || m.same != len(m.files) {
		t.Errorf("read %d; %+v, before %+v", read, second, first)
	}
	cat := newCatalog(t, s, key)
	items := func(name string) []repository.ID {
		a, err := cat.Archive(t.Context(), name)
		must(t, err)
		return a.Items
	}
	if diff := cmp.Diff(items("one"), items("two")); diff != "" {
		t.Error(diff)
	}

	// What looks unchanged is read again if the repository has lost a piece of it.
	lost := m.files[filepath.Join(dir, "a-first-link")].item.Chunks[3]
	must(t, s.Delete(t.Context(), lost.ID))
	third, read := backUp("three")
	if read != 3<<20 || third.NewChunks != 2 { // the chunk, and the record of the archive
		t.Errorf("read %d, %d new chunks", read, third.NewChunks)
	}
	write(t, filepath.Join(dir, "empty"), []byte("more"), 0o600, time.Unix(0, 1))
	if _, read := backUp("four"); read != 4 {
		t.Errorf("read %d", read)
	}
	sound(t, s, newCatalog(t, s, key))
}

func TestCheckpointsLeaveNothingBehind(t *testing.T) {
	dir := makeTree(t)
	for name, key := range map[string]*envelope.Key{"plain": envelope.NewPlaintext(), "encrypted": newKey(t)} {
		t.Run(name, func(t *testing.T) {
			when := time.Unix(1e9, 0)
			plain, checked := newMemStore(), newMemStore()
			o := backup.Options{Name: "a", Dir: dir, Paths: []string{"."}, Time: when}
			_, err := backup.Run(t.Context(), plain, newCatalog(t, plain, key), o)
			must(t, err)
			checkpoints := map[string]int{}
			o.Checkpoint = time.Millisecond
			o.Checkpointed = func(name string) {
				if checkpoints[name]++; checkpoints[name] > 5 && checkpoints[name]%50 != 0 {
					return // to look at each takes longer than to make it
				}
				cat := newCatalog(t, checked, key)
				_, err := fsck.Archives(t.Context(), checked, cat, func(f fsck.Finding) {
					if f.Kind != fsck.Orphans { // the chunks of files that are not in the archive yet
						t.Error(f)
					}
				})
				if err != nil {
					t.Error(err)
				}
				if checked.committed != checked.puts {
					t.Error("not everything is committed")
				}
			}
			_, err = backup.Run(t.Context(), checked, newCatalog(t, checked, key), o)
			must(t, err)
			t.Logf("checkpoints: %v", checkpoints)
			if len(checkpoints) != 1 || checkpoints["a.checkpoint"] < 2 {
				t.Errorf("checkpoints %v", checkpoints)
			}
			cat := newCatalog(t, checked, key)
			sound(t, checked, cat)
			if !slices.Equal(slices.Collect(maps.Keys(cat.Manifest.Archives)), []string{"a"}) {
				t.Errorf("archives %v", cat.Manifest.Archives)
			}
			for id := range plain.objects {
				if _, ok := checked.objects[id]; !ok {
					t.Errorf("object %v is missing", id)
				}
			}
			if len(plain.objects) != len(checked.objects) {
				t.Errorf("%d objects, without checkpoints %d", len(checked.objects), len(plain.objects))
			}
		})
	}
}

func TestAnInterruptedBackupIsGoneOnWith(t *testing.T) {
	dir, key := makeTree(t), newKey(t)
	want := listing(t, dir)
	for _, after := range []int{1, 2, 5, 40, 150, 203, 205} { // files
		s, m := newMemStore(), &memory{}
		ctx, cancel := context.WithCancel(t.Context())
		var p progress.Files
		o := backup.Options{
			Name: "a", Dir: dir, Paths: []string{"."}, Known: interrupter{m, cancel, after}, Progress: &p, Checkpoint: time.Hour,
		}
		_, err := backup.Run(ctx, s, newCatalog(t, s, key), o)
		cancel()
		if err == nil {
			continue // it was done by then
		}
		var interrupted *backup.InterruptedError
		if !errors.As(err, &interrupted) || !errors.Is(err, context.Canceled) || interrupted.Archive != "a.checkpoint" {
			t.Fatalf("after %d files: %v", after, err)
		}
		cat := newCatalog(t, s, key)
		sound(t, s, cat)
		target := t.TempDir()
		a, err := cat.Archive(t.Context(), "a.checkpoint")
		must(t, err)
		_, err = restore.Run(t.Context(), cat, a, restore.Options{Target: target, Warn: func(path string, err error) { t.Error(path, err) }})
		must(t, err)
		for path, f := range listing(t, target) {
			if strings.HasSuffix(path, backup.PartSuffix) {
				whole := want[strings.TrimSuffix(path, backup.PartSuffix)]
				if !strings.HasPrefix(whole.Content, f.Content) {
					t.Errorf("%q is no part", path)
				}
			} else if f.Content != want[path].Content {
				t.Errorf("%q differs", path)
			}
		}
		_, done, _ := p.Count()
		p = progress.Files{}
		o.Known = m
		stats, err := backup.Run(t.Context(), s, newCatalog(t, s, key), o)
		must(t, err)
		_, read, _ := p.Count()
		if read+4096 > stats.Bytes && done > 1<<20 {
			t.Errorf("after %d files with %d bytes another %d were read, of %d", after, done, read, stats.Bytes)
		}
		sound(t, s, newCatalog(t, s, key))
	}
}

// interrupter is a memory that cancels after a number of files.
type interrupter struct {
	*memory
	cancel func()
	after  int
}

func (i interrupter) Remember(path string, info *fsmeta.Info, it *archive.Item) {
	i.memory.Remember(path, info, it)
	if len(i.files) == i.after {
		i.cancel()
	}
}

// A slow store gives a checkpoint time to be made within a file.
type slowStore struct{ *memStore }

func (s slowStore) Put(ctx context.Context, id repository.ID, data []byte) error {
	time.Sleep(time.Millisecond)
	return s.memStore.Put(ctx, id, data)
}

func TestACheckpointHasTheBeginningOfALargeFile(t *testing.T) {
	dir, s, key := t.TempDir(), newMemStore(), envelope.NewPlaintext()
	content := make([]byte, 16<<20)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	copy(content, bytes.Repeat([]byte("begin"), 100))
	write(t, dir+"/large", content, 0o600, time.Unix(1, 0))
	parts := 0
	_, err := backup.Run(t.Context(), slowStore{s}, newCatalog(t, s, key), backup.Options{
		Name: "a", Dir: dir, Paths: []string{"."}, Checkpoint: 20 * time.Millisecond,
		Checkpointed: func(name string) {
			cat := newCatalog(t, s, key)
			a, err := cat.Archive(t.Context(), name)
			must(t, err)
			target := t.TempDir()
			_, err = restore.Run(t.Context(), cat, a, restore.Options{Target: target})
			must(t, err)
			got, err := os.ReadFile(filepath.Join(target, "large"+backup.PartSuffix))
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			must(t, err)
			if len(got) == 0 || !bytes.HasPrefix(content, got) {
				t.Errorf("%d bytes are not the beginning", len(got))
			}
			parts++
		},
	})
	must(t, err)
	if parts == 0 {
		t.Error("no checkpoint had a part of it")
	}
	sound(t, s, newCatalog(t, s, key))
}
