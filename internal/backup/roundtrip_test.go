package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/internal/fsmeta"
	"garret/internal/restore"
	"garret/repository"
)

// memStore is a repository in memory.
type memStore struct {
	mu        sync.Mutex
	objects   map[repository.ID][]byte
	damaged   map[repository.ID]bool
	puts      int
	committed int
	failPut   error
}

func newMemStore() *memStore {
	return &memStore{objects: map[repository.ID][]byte{}, damaged: map[repository.ID]bool{}}
}

func (s *memStore) Has(_ context.Context, id repository.ID) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.objects[id]
	return ok, nil
}

func (s *memStore) Get(_ context.Context, id repository.ID) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[id]
	if !ok {
		return nil, repository.ErrNotFound
	}
	if s.damaged[id] {
		return nil, repository.ErrIntegrity
	}
	return bytes.Clone(data), nil
}

func (s *memStore) Size(ctx context.Context, id repository.ID) (int, error) {
	data, err := s.Get(ctx, id)
	return len(data), err
}

func (s *memStore) Delete(_ context.Context, id repository.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[id]; !ok {
		return repository.ErrNotFound
	}
	delete(s.objects, id)
	return nil
}

func (s *memStore) Put(_ context.Context, id repository.ID, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failPut != nil {
		return s.failPut
	}
	s.objects[id] = bytes.Clone(data)
	delete(s.damaged, id)
	s.puts++
	return nil
}

func (s *memStore) List(_ context.Context, limit int, marker *repository.ID) ([]repository.ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []repository.ID
	for id := range s.objects {
		if marker == nil || bytes.Compare(id[:], marker[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b repository.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids[:min(limit, len(ids))], nil
}

func (s *memStore) Commit(context.Context) error {
	s.committed = s.puts
	return nil
}

// counter is a source of nonces for one test.
type counter struct {
	mu   sync.Mutex
	next uint64
}

func (c *counter) Reserve(blocks uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.next
	c.next += blocks
	return first, nil
}

func newCatalog(t *testing.T, s *memStore, key *envelope.Key) *catalog.Catalog {
	t.Helper()
	env, err := catalog.Manifest(t.Context(), s)
	if errors.Is(err, catalog.ErrNoManifest) {
		env = nil
	} else if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.New(s, key, env)
	if err != nil {
		t.Fatal(err)
	}
	return cat
}

func newKey(t *testing.T) *envelope.Key {
	t.Helper()
	key, err := envelope.NewKeyfile(repository.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	key.UseNonces(&counter{})
	return key
}

// run makes an archive of the directory dir, and restores it into a new one.
func roundTrip(t *testing.T, s *memStore, key *envelope.Key, dir, name string) (string, *backup.Stats) {
	t.Helper()
	cat := newCatalog(t, s, key)
	warn := func(path string, err error) { t.Errorf("backup of %q: %v", path, err) }
	stats, err := backup.Run(t.Context(), s, cat, backup.Options{Name: name, Dir: dir, Paths: []string{"."}, Warn: warn})
	if err != nil {
		t.Fatal(err)
	}
	if s.committed != s.puts {
		t.Error("not everything is committed")
	}
	cat = newCatalog(t, s, key)
	a, err := cat.Archive(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsck.Archives(t.Context(), s, cat, func(f fsck.Finding) { t.Error(f) }); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	warn = func(path string, err error) { t.Errorf("restoring %q: %v", path, err) }
	if _, err := restore.Run(t.Context(), cat, a, restore.Options{Target: target, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	return target, stats
}

// file is what a listing says of a file.
type file struct {
	Item    archive.Item
	Links   uint64
	Content string
}

// listing describes all that is in a directory.
func listing(t *testing.T, dir string) map[string]file {
	t.Helper()
	var owners fsmeta.Owners
	files := map[string]file{}
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
		rel, _ := filepath.Rel(dir, path)
		f := file{Item: *fsmeta.NewItem(rel, info, &owners)}
		switch info.Type() {
		case fsmeta.TypeRegular:
			data, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			f.Content, f.Links = string(data), info.Nlink
		case fsmeta.TypeSymlink:
			f.Content, _ = os.Readlink(path)
			f.Item.Mode = fsmeta.TypeSymlink
		}
		files[rel] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t *testing.T, path string, data []byte, mode os.FileMode, mtime time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeTree makes a tree with something of everything in it.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for i := range 200 {
		write(t, fmt.Sprintf("%s/many/%03d", dir, i), random(rng.IntN(3000)), 0o644, time.Unix(int64(1e9+i), int64(i)))
	}
	write(t, dir+"/empty", nil, 0o600, time.Unix(0, 1))
	write(t, dir+"/large", random(3<<20), 0o640, time.Unix(-3, 5))
	write(t, dir+"/zeros", make([]byte, 11<<20), 0o444, time.Unix(2e9, 0))
	write(t, dir+"/suid", []byte("x"), 0o755|os.ModeSetuid, time.Unix(3e9, 7))
	write(t, dir+"/latin1-\xe9\xff", []byte("bytes"), 0o600, time.Unix(4, 4))
	write(t, dir+"/line\nfeed", []byte("odd"), 0o600, time.Unix(4, 4))
	must(t, os.Link(dir+"/large", dir+"/many/link"))
	must(t, os.Link(dir+"/large", dir+"/a-first-link"))
	must(t, os.Symlink("../large", dir+"/many/symlink"))
	must(t, os.Symlink("/nowhere/\xff", dir+"/broken"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o620))
	must(t, os.MkdirAll(dir+"/closed/inside", 0o755))
	must(t, os.Chmod(dir+"/closed/inside", 0o555))
	must(t, os.Chmod(dir+"/closed", 0o750|os.ModeSticky))
	for _, d := range []string{"closed/inside", "closed", "many", "."} {
		must(t, os.Chtimes(filepath.Join(dir, d), time.Unix(5, 5), time.Unix(1234567, 891)))
	}
	return dir
}

func TestWhatIsBackedUpComesBackIdentical(t *testing.T) {
	for name, key := range map[string]*envelope.Key{"plain": envelope.NewPlaintext(), "encrypted": newKey(t)} {
		t.Run(name, func(t *testing.T) {
			dir, s := makeTree(t), newMemStore()
			target, stats := roundTrip(t, s, key, dir, "one")
			if diff := cmp.Diff(listing(t, dir), listing(t, target)); diff != "" {
				t.Error(diff)
			}
			if stats.Files != 208 || stats.Dirs != 4 || stats.Others != 3 {
				t.Errorf("stats: %+v", *stats)
			}
			before := s.puts
			_, stats = roundTrip(t, s, key, dir, "two")
			if n := s.puts - before; n > 2 { // the archive's record, the manifest
				t.Errorf("the same once more stored %d objects (%+v)", n, *stats)
			}
		})
	}
}

func TestRestoringReplacesWhatIsInTheWay(t *testing.T) {
	dir, s, key := t.TempDir(), newMemStore(), envelope.NewPlaintext()
	write(t, dir+"/d/file", []byte("new"), 0o644, time.Unix(1, 0))
	write(t, dir+"/other", []byte("new"), 0o644, time.Unix(1, 0))
	must(t, os.Link(dir+"/other", dir+"/zlink"))
	must(t, os.Symlink("new", dir+"/symlink"))
	cat := newCatalog(t, s, key)
	if _, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "a", Dir: dir, Paths: []string{"."}}); err != nil {
		t.Fatal(err)
	}
	target, outside := t.TempDir(), t.TempDir()
	write(t, outside+"/file", []byte("old"), 0o644, time.Unix(1, 0))
	must(t, os.Symlink(outside, target+"/d"))
	must(t, os.Symlink(outside+"/file", target+"/other"))
	must(t, os.Symlink("old", target+"/symlink"))
	must(t, os.Mkdir(target+"/zlink", 0o755))
	must(t, os.Chmod(target, 0o711))
	a, err := cat.Archive(t.Context(), "a")
	must(t, err)
	warn := func(path string, err error) { t.Errorf("restoring %q: %v", path, err) }
	if _, err := restore.Run(t.Context(), cat, a, restore.Options{Target: target, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	want, got := listing(t, dir), listing(t, target)
	delete(want, ".") // whose metadata is not restored where there was something before
	delete(got, ".")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the target is %v, %v", info.Mode(), err)
	}
	if data, _ := os.ReadFile(outside + "/file"); string(data) != "old" {
		t.Errorf("the file outside is %q", data)
	}
}

// noise returns so many bytes, always the same, that are cut into many chunks.
func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// collect returns a function for Options.Warn, and what it was told.
func collect() (func(string, error), map[string]error) {
	warnings := map[string]error{}
	return func(path string, err error) { warnings[path] = err }, warnings
}

func TestWhatCannotBeReadIsReportedAndTheRestStored(t *testing.T) {
	dir, s := t.TempDir(), newMemStore()
	cat := newCatalog(t, s, envelope.NewPlaintext())
	write(t, dir+"/a", []byte("a"), 0o644, time.Unix(1, 0))
	write(t, dir+"/z", []byte("z"), 0o644, time.Unix(1, 0))
	warn, warnings := collect()
	stats, err := backup.Run(t.Context(), s, cat, backup.Options{
		Name: "x", Dir: dir, Paths: []string{"a", "missing/file", "gone", "z"}, Warn: warn,
	})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Files != 2 || stats.Warnings != 2 || len(warnings) != 2 {
		t.Errorf("stats %+v, warnings %v", *stats, warnings)
	}
	for path, err := range warnings {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestAFileThatKeepsChangingIsStoredWithAMark(t *testing.T) {
	dir, s := t.TempDir(), newMemStore()
	write(t, dir+"/busy", noise(1<<20), 0o644, time.Unix(1, 0))
	must(t, os.Link(dir+"/busy", dir+"/zlink"))
	warn, warnings := collect()
	stats, err := backup.Run(t.Context(), &busyStore{memStore: s, path: dir + "/busy", changes: -1},
		newCatalog(t, s, envelope.NewPlaintext()),
		backup.Options{Name: "x", Dir: dir, Paths: []string{"."}, Warn: warn, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(warnings[dir+"/busy"], backup.ErrChanged) || len(warnings) != 1 || stats.Files != 2 || stats.Warnings != 1 {
		t.Errorf("stats %+v, warnings %v", *stats, warnings)
	}
}

func TestAFileThatChangedOnceIsReadAgain(t *testing.T) {
	dir, s := t.TempDir(), newMemStore()
	write(t, dir+"/busy", noise(1<<20), 0o644, time.Unix(1, 0))
	warn := func(path string, err error) { t.Errorf("backup of %q: %v", path, err) }
	stats, err := backup.Run(t.Context(), &busyStore{memStore: s, path: dir + "/busy", changes: 1},
		newCatalog(t, s, envelope.NewPlaintext()),
		backup.Options{Name: "x", Dir: dir, Paths: []string{"."}, Warn: warn, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Files != 1 || stats.Bytes != 1<<20+1 {
		t.Errorf("stats %+v", *stats)
	}
}

// busyStore is a store that gives a file all new content, one byte longer, whenever it is asked for an object. It is
// asked for the first pieces of the file before the last ones are cut.
type busyStore struct {
	*memStore
	path    string
	changes int // how often; negative: always
}

func (s *busyStore) Size(ctx context.Context, id repository.ID) (int, error) {
	if err := s.change(); err != nil {
		return 0, err
	}
	return s.memStore.Size(ctx, id)
}

func (s *busyStore) change() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != 0 {
		s.changes--
		f, err := os.OpenFile(s.path, os.O_WRONLY, 0) // and not truncated: empty it would be as good as whole
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		content := make([]byte, info.Size()+1)
		rng := rand.NewChaCha8([32]byte{byte(s.changes), byte(s.changes >> 8)})
		rng.Read(content)
		if _, err := f.Write(content); err != nil {
			return err
		}
	}
	return nil
}

func TestSkippedDirectoriesAreToldOnce(t *testing.T) {
	dir, s := t.TempDir(), newMemStore()
	write(t, dir+"/repo/inside", []byte("x"), 0o644, time.Unix(1, 0))
	write(t, dir+"/file", []byte("x"), 0o644, time.Unix(1, 0))
	d, err := fsmeta.OpenDir(dir)
	must(t, err)
	defer d.Release()
	info, err := d.Lstat("repo")
	must(t, err)
	var skipped []string
	stats, err := backup.Run(t.Context(), s, newCatalog(t, s, envelope.NewPlaintext()), backup.Options{
		Name: "x", Dir: dir, Paths: []string{"."},
		Skip: []fsmeta.FileID{info.FileID}, Skipped: func(path string) { skipped = append(skipped, path) },
	})
	if err != nil || stats.Files != 1 || stats.Dirs != 1 || len(skipped) != 1 || skipped[0] != dir+"/repo" {
		t.Errorf("stats %+v, skipped %q, %v", *stats, skipped, err)
	}
}

func TestAnErrorOfTheStoreEndsTheBackup(t *testing.T) {
	dir, s := makeTree(t), newMemStore()
	s.failPut = unix.ENOSPC
	cat := newCatalog(t, s, envelope.NewPlaintext())
	if _, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Dir: dir, Paths: []string{"."}}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if len(cat.Manifest.Archives) != 0 {
		t.Error("the archive is in the manifest")
	}
}

func TestACancelledBackupEndsSoonAndCommitsNothing(t *testing.T) {
	dir, s := makeTree(t), newMemStore()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := backup.Run(ctx, s, newCatalog(t, s, envelope.NewPlaintext()), backup.Options{Name: "x", Dir: dir, Paths: []string{"."}})
	if !errors.Is(err, context.Canceled) || s.committed != 0 {
		t.Errorf("got %v, %d committed", err, s.committed)
	}
}

func TestADamagedChunkIsStoredAnew(t *testing.T) {
	dir, s, key := t.TempDir(), newMemStore(), envelope.NewPlaintext()
	write(t, dir+"/file", []byte("content"), 0o644, time.Unix(1, 0))
	roundTrip(t, s, key, dir, "one")
	s.damaged[key.ID([]byte("content"))] = true
	roundTrip(t, s, key, dir, "two")
}

func TestADamagedFileDoesNotLookWhole(t *testing.T) {
	dir, s, key := t.TempDir(), newMemStore(), newKey(t)
	content := noise(1 << 20)
	write(t, dir+"/big", content, 0o644, time.Unix(1, 0))
	write(t, dir+"/small", []byte("fine"), 0o644, time.Unix(1, 0))
	must(t, os.Link(dir+"/big", dir+"/zlink"))
	cat := newCatalog(t, s, key)
	if _, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Dir: dir, Paths: []string{"."}}); err != nil {
		t.Fatal(err)
	}
	a, err := cat.Archive(t.Context(), "x")
	must(t, err)
	var from, to int // what is lost
	for it, err := range cat.Items(t.Context(), a) {
		must(t, err)
		if it.Path == "big" {
			if len(it.Chunks) < 3 {
				t.Fatalf("only %d chunks", len(it.Chunks))
			}
			from, to = int(it.Chunks[0].Size), int(it.Chunks[0].Size+it.Chunks[1].Size)
			delete(s.objects, it.Chunks[1].ID)
			last := it.Chunks[len(it.Chunks)-1]
			clear(content[len(content)-int(last.Size):])
			s.objects[last.ID][3] ^= 1
		}
	}
	clear(content[from:to])

	var findings []fsck.Finding
	if _, err := fsck.Archives(t.Context(), s, cat, func(f fsck.Finding) { findings = append(findings, f) }); err != nil {
		t.Fatal(err)
	}
	if len(findings) != 2 || findings[1].Kind != fsck.DamagedLink || findings[0].Path != "big" || findings[0].Offset != int64(from) || findings[0].Size != int64(to-from) {
		t.Errorf("findings: %v", findings)
	}

	target := t.TempDir()
	warn, warnings := collect()
	stats, err := restore.Run(t.Context(), cat, a, restore.Options{Target: target, Warn: warn})
	must(t, err)
	if len(warnings) != 2 || stats.Files != 1 {
		t.Errorf("stats %+v, warnings %v", *stats, warnings)
	}
	var damage *catalog.DamageError
	if !errors.As(warnings["big"], &damage) || damage.Offset != int64(from) || damage.Size != int64(to-from) {
		t.Errorf("warning %v", warnings["big"])
	}
	if got, err := os.ReadFile(target + "/big" + restore.DamagedSuffix); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what is left: %d bytes, %v", len(got), err)
	}
	for _, name := range []string{"big", "zlink"} {
		if _, err := os.Lstat(target + "/" + name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _ := os.ReadFile(target + "/small"); string(got) != "fine" {
		t.Errorf("small: %q", got)
	}
}

func TestHardLinksWithoutTheirFirstName(t *testing.T) {
	dir, s := t.TempDir(), newMemStore()
	write(t, dir+"/a/first", []byte("content"), 0o644, time.Unix(1, 0))
	must(t, os.Mkdir(dir+"/b", 0o755))
	must(t, os.Link(dir+"/a/first", dir+"/b/second"))
	must(t, os.Link(dir+"/a/first", dir+"/b/third"))
	cat := newCatalog(t, s, envelope.NewPlaintext())
	if _, err := backup.Run(t.Context(), s, cat, backup.Options{Name: "x", Dir: dir, Paths: []string{"."}}); err != nil {
		t.Fatal(err)
	}
	a, err := cat.Archive(t.Context(), "x")
	must(t, err)
	target := t.TempDir()
	warn := func(path string, err error) { t.Errorf("restoring %q: %v", path, err) }
	match := func(path string) bool { return path == "b" || filepath.Dir(path) == "b" }
	if _, err := restore.Run(t.Context(), cat, a, restore.Options{Target: target, Match: match, Warn: warn}); err != nil {
		t.Fatal(err)
	}
	files := listing(t, target)
	if len(files) != 4 || files["b/second"].Content != "content" || files["b/third"].Links != 2 {
		t.Errorf("got %v", files)
	}
}

func TestTheFolderBehindALinkIsStored(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	target, _ := roundTrip(t, newMemStore(), newKey(t), link, "x")
	if data, err := os.ReadFile(filepath.Join(target, "file")); string(data) != "content" {
		t.Errorf("restored: %q, %v", data, err)
	}
}

func TestAFolderBehindOneThatCannotBeReadIsStored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "closed")
	if err := os.MkdirAll(filepath.Join(dir, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o100); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	roundTrip(t, newMemStore(), newKey(t), filepath.Join(dir, "mine"), "x")
	s := newMemStore()
	cat := newCatalog(t, s, newKey(t))
	warn := func(path string, err error) { t.Errorf("backup of %q: %v", path, err) }
	opts := backup.Options{Name: "x", Dir: dir, Paths: []string{"mine"}, Warn: warn}
	if _, err := backup.Run(t.Context(), s, cat, opts); err != nil {
		t.Fatal(err)
	}
}

func TestTheListOfAnUnchangedFileHasTheNamesOfNow(t *testing.T) {
	dir, s, known := t.TempDir(), newMemStore(), new(memory)
	write(t, dir+"/file", []byte("content"), 0o640, time.Unix(1, 0))
	const list = "\x02\x00\x00\x00" + // for the owner, root, the group, the mask and others
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x00\x00\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	if err := unix.Setxattr(dir+"/file", "system.posix_acl_access", []byte(list), 0); err != nil {
		t.Skipf("the file system of %s has no access control lists: %v", dir, err)
	}
	cat := newCatalog(t, s, newKey(t))
	for name, numeric := range map[string]bool{"names": false, "numbers": true} {
		opts := backup.Options{Name: name, Dir: dir, Paths: []string{"file"}, Known: known, NumericOwner: numeric}
		_, err := backup.Run(t.Context(), s, cat, opts)
		must(t, err)
		a, err := cat.Archive(t.Context(), name)
		must(t, err)
		for it, err := range cat.Items(t.Context(), a) {
			must(t, err)
			want := "user::rw-\nuser:root:r--:0\ngroup::r--\nmask::r--\nother::---"
			if numeric {
				want = "user::rw-\nuser:0:r--:0\ngroup::r--\nmask::r--\nother::---"
			}
			if it.ACLAccess == nil || *it.ACLAccess != want || (it.User == nil) != numeric || len(it.Chunks) != 1 {
				t.Errorf("%s: %+v", name, *it)
			}
		}
	}
	if known.same != 1 {
		t.Errorf("%d files were unchanged", known.same)
	}
}
