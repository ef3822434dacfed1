package cli

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/campaign"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// A forgetting is a repository into which two clients store, and from which they delete, in turn.
type forgetting struct {
	*testing.T
	rnd      *rand.Rand
	dir      string
	repo     string
	pool     []string // contents of files
	tree     map[string]string
	archives map[string]map[string]string // by name: the contents of the files
	made     int
}

func newForgetting(t *testing.T, encryption string) *forgetting {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	f := &forgetting{T: t, rnd: rand.New(rand.NewPCG(seed, 0)), dir: useTestEnv(t), archives: map[string]map[string]string{}}
	f.repo = filepath.Join(f.dir, "repo")
	for i := range 40 {
		content := make([]byte, f.rnd.IntN(3000)<<(f.rnd.IntN(10)/9*7)) // a few have several chunks
		for j := range content {
			content[j] = byte(f.rnd.Uint32())
		}
		f.pool = append(f.pool, fmt.Sprintf("content %d %x", i, content))
	}
	f.check(os.Mkdir(filepath.Join(f.dir, "tree"), 0o755))
	t.Chdir(f.dir)
	garret(t, "init", "-e", encryption, f.repo)
	return f
}

func (f *forgetting) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// client lets the next command be run by a client, whose cache may be lost, or put back to what it was some time ago.
func (f *forgetting) client() {
	cache := filepath.Join(f.dir, fmt.Sprintf("cache-%d", f.rnd.IntN(2)))
	old := cache + "-old"
	f.Setenv("GARRET_CACHE_DIR", cache)
	switch f.rnd.IntN(8) {
	case 0:
		f.check(os.RemoveAll(cache))
	case 1:
		if _, err := os.Stat(old); err == nil {
			f.check(os.RemoveAll(cache))
			copyTree(f.T, old, cache)
		}
	case 2:
		if _, err := os.Stat(cache); err == nil {
			f.check(os.RemoveAll(old))
			copyTree(f.T, cache, old)
		}
	}
}

func (f *forgetting) names() []string { return slices.Sorted(maps.Keys(f.archives)) }

// some returns some of the archives, at least one.
func (f *forgetting) some() []string {
	names := f.names()
	f.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names[:1+f.rnd.IntN(min(3, len(names)))]
}

// change changes a few files of the tree.
func (f *forgetting) change() {
	if f.tree == nil {
		f.tree = map[string]string{}
	}
	for range 1 + f.rnd.IntN(6) {
		path := filepath.Join("tree", strconv.Itoa(f.rnd.IntN(12)))
		if f.rnd.IntN(4) == 0 {
			f.check(os.RemoveAll(path))
			delete(f.tree, path)
			continue
		}
		f.tree[path] = f.pool[f.rnd.IntN(len(f.pool))]
		f.check(os.WriteFile(path, []byte(f.tree[path]), 0o644))
	}
}

func (f *forgetting) step() {
	f.client()
	switch n := f.rnd.IntN(10); {
	case n < 5 || len(f.archives) == 0:
		f.change()
		f.made++
		name := fmt.Sprintf("a-%d", f.made)
		garret(f.T, "create", f.repo+"::"+name, "tree")
		f.archives[name] = maps.Clone(f.tree)
	case n < 8:
		names := f.some()
		args := slices.Concat([]string{"delete", f.repo + "::" + names[0]}, names[1:])
		garret(f.T, args...)
		for _, name := range names {
			delete(f.archives, name)
		}
	case n < 9:
		from := f.some()[0]
		f.made++
		to := fmt.Sprintf("a-%d", f.made)
		garret(f.T, "rename", f.repo+"::"+from, to)
		f.archives[to] = f.archives[from]
		delete(f.archives, from)
	default:
		garret(f.T, "prune", "--keep-hourly", "1", "--keep-within", "1H", f.repo)
		garret(f.T, "prune", "--keep-yearly", "1", "-p", "a-", f.repo) // of archives that are all of this year, mostly
		left := strings.Fields(garret(f.T, "list", "--short", f.repo))
		if len(f.archives) > 0 && len(left) == 0 {
			f.Fatal("nothing is left")
		}
		maps.DeleteFunc(f.archives, func(name string, _ map[string]string) bool { return !slices.Contains(left, name) })
	}
}

// verify makes sure that every archive is there and whole, and nothing else.
func (f *forgetting) verify() {
	f.Helper()
	left := strings.Fields(garret(f.T, "list", "--short", f.repo))
	if diff := cmp.Diff(f.names(), slices.Sorted(slices.Values(left)), cmp.Transformer("none", func(s []string) []string {
		return append([]string{}, s...)
	})); diff != "" {
		f.Fatalf("archives: %s", diff)
	}
	for _, name := range f.names() {
		target := filepath.Join(f.dir, "out")
		garret(f.T, "extract", "--target", target, f.repo+"::"+name)
		got := map[string]string{}
		f.check(filepath.WalkDir(target, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(target, path)
			f.check(err)
			data, err := os.ReadFile(path)
			got[rel] = string(data)
			return err
		}))
		if !maps.Equal(got, f.archives[name]) {
			f.Fatalf("archive %q has %d files that are not those stored", name, len(got))
		}
		f.check(os.RemoveAll(target))
	}
	garret(f.T, "check", f.repo)
}

// verifyObjects counts the objects of a repository that is not encrypted: each must be in use.
func (f *forgetting) verifyObjects() {
	f.Helper()
	ctx := f.Context()
	r, err := repository.Open(ctx, f.repo, nil)
	f.check(err)
	defer r.Close()
	env, err := catalog.Manifest(ctx, r)
	f.check(err)
	cat, err := catalog.New(r, envelope.NewPlaintext(), env)
	f.check(err)
	needed := map[repository.ID]bool{archive.ManifestID: true}
	for _, e := range cat.Archives() {
		needed[e.ID] = true
		rec, err := cat.Archive(ctx, e.Name)
		f.check(err)
		for _, id := range rec.Items {
			needed[id] = true
		}
		for it, err := range cat.Items(ctx, rec) {
			f.check(err)
			for _, c := range it.Chunks {
				needed[c.ID] = true
			}
		}
	}
	n, err := r.Len(ctx)
	f.check(err)
	if n != len(needed) {
		f.Fatalf("there are %d objects, and %d are needed", n, len(needed))
	}
}

// TestNothingIsLostAndNothingIsLeft lets two clients create, delete, prune and rename, whose caches are lost at times or put
// back to what they were. After each step every archive must be whole, and every object needed.
func TestNothingIsLostAndNothingIsLeft(t *testing.T) {
	steps := campaign.Share(t, 60, 15)
	f := newForgetting(t, "none")
	for range steps {
		f.step()
		f.verify()
		f.verifyObjects()
	}
}

func TestNothingIsLostOfEncryptedArchives(t *testing.T) {
	f := newForgetting(t, "keyfile")
	for range campaign.Share(t, 12, 3) {
		f.step()
		f.verify()
	}
}

// TestBorgReadsWhatIsLeft lets Borg check and extract what is left after archives have been deleted and renamed.
func TestBorgReadsWhatIsLeft(t *testing.T) {
	borg := peer(t, "borg")
	f := newForgetting(t, "none")
	for range 25 {
		f.step()
	}
	f.verify()
	if len(f.archives) == 0 {
		f.archives["a-0"] = maps.Clone(f.tree)
		garret(t, "create", f.repo+"::a-0", "tree")
	}
	run := func(dir string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(borg, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "BORG_BASE_DIR="+filepath.Join(f.dir, "borg"),
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("borg %q: %v\n%s%s", args, err, out, stderr.String())
		}
		return out
	}
	name := f.names()[0]
	var ours jsonInfo
	f.check(json.Unmarshal([]byte(garret(t, "info", "--json", f.repo+"::"+name)), &ours))
	run(f.dir, "upgrade", "--inplace", f.repo)
	run(f.dir, "check", "--verify-data", f.repo)

	// Both count the same. (Borg leaves the lists of files out of some numbers, as Attic does not.)
	var theirs struct {
		Archives []struct {
			Stats struct {
				Files        int64 `json:"nfiles"`
				Deduplicated int64 `json:"deduplicated_size"`
			}
		}
		Cache struct {
			Stats struct {
				Chunks       int64 `json:"total_unique_chunks"`
				Deduplicated int64 `json:"unique_csize"`
			}
		}
	}
	f.check(json.Unmarshal(run(f.dir, "info", "--json", f.repo+"::"+name), &theirs))
	if s := theirs.Cache.Stats; s.Chunks != ours.All.Chunks || s.Deduplicated != ours.All.Deduplicated {
		t.Errorf("Borg counts %+v of all archives, and we %+v", s, ours.All)
	}
	if s := theirs.Archives[0].Stats; s.Files != ours.This.Files || s.Deduplicated != ours.This.Deduplicated {
		t.Errorf("Borg counts %+v of archive %q, and we %+v", s, name, *ours.This)
	}
	out := filepath.Join(f.dir, "borg-out")
	f.check(os.Mkdir(out, 0o755))
	run(out, "extract", f.repo+"::"+name)
	for path, want := range f.archives[name] {
		if got, err := os.ReadFile(filepath.Join(out, path)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes instead of %d, %v", path, len(got), len(want), err)
		}
	}
}

// program returns the path of this test's program under the name by which it is garret.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "garret")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKilledDeletionsAreDoneOrNot kills processes that delete, at any time.
func TestKilledDeletionsAreDoneOrNot(t *testing.T) {
	garretPath := program(t)
	f := newForgetting(t, "none")
	killed := 0
	for i := range campaign.Share(t, 20, 4) {
		for len(f.archives) < 4 {
			f.change()
			f.made++
			name := fmt.Sprintf("a-%d", f.made)
			garret(t, "create", f.repo+"::"+name, "tree")
			f.archives[name] = maps.Clone(f.tree)
		}
		f.client()
		names := f.some()
		cmd := exec.Command(garretPath, slices.Concat([]string{"delete", f.repo + "::" + names[0]}, names[1:])...)
		f.check(cmd.Start())
		time.Sleep(time.Duration(f.rnd.IntN(120)) * time.Millisecond)
		f.check(cmd.Process.Kill())
		if cmd.Wait() != nil {
			killed++
		}
		left := strings.Fields(garret(t, "list", "--short", f.repo))
		gone := 0
		for _, name := range names {
			if !slices.Contains(left, name) {
				gone++
				delete(f.archives, name)
			}
		}
		if gone != 0 && gone != len(names) {
			t.Fatalf("round %d: %d of %d archives are deleted", i, gone, len(names))
		}
		f.verify()
		f.verifyObjects()
		garret(t, "info", f.repo)
	}
	t.Logf("%d of 20 were killed before they were done", killed)
}

// TestSeveralReadersBringOneTableUpToDate runs info in several processes that all know nothing.
func TestSeveralReadersBringOneTableUpToDate(t *testing.T) {
	garretPath := program(t)
	f := newForgetting(t, "none")
	for i := range 4 {
		f.change()
		garret(t, "create", fmt.Sprintf("%s::a-%d", f.repo, i), "tree")
	}
	want := garret(t, "info", f.repo)
	for range 3 {
		f.Setenv("GARRET_CACHE_DIR", t.TempDir())
		var running sync.WaitGroup
		for range 5 {
			running.Go(func() {
				cmd := exec.Command(garretPath, "info", f.repo)
				var stderr strings.Builder
				cmd.Stderr = &stderr
				if out, err := cmd.Output(); err != nil || string(out) != want || stderr.Len() > 0 {
					t.Errorf("%v: %s%s", err, out, stderr.String())
				}
			})
		}
		running.Wait()
		if got := garret(t, "info", f.repo); got != want {
			t.Errorf("got %s", got)
		}
	}
}
