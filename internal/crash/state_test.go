package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
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
	"testing"
	"time"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/repository"
)

// What the tests share that run the real program: where it runs, and what its repository holds.

const (
	oldPass = "correct horse"
	newPass = "battery staple"
)

// buildGarret builds the program. The flags are those of the compiler.
func buildGarret(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	binary := filepath.Join(dir, "garret")
	args := append(append([]string{"build"}, flags...), "-o", binary, "garret/cmd/garret")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// seedOf returns the seed of a test, which GARRET_TEST_SEED can set.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return seed
}

// memoryFolder returns a folder in memory, if there is such a thing: nothing here has to survive a real crash.
func memoryFolder(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "garret-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bench is where a workload runs: W has the repository, the keys and the cache, which a crash is about.
type bench struct {
	*testing.T
	base, w string
	binary  string
	damaged bool
	rng     *rand.Rand
}

// seenState is what the repository in W holds: its objects, and its archives by name.
type seenState struct {
	objects  map[repository.ID][32]byte
	archives map[string][32]byte
	pass     string
	none     bool // there is no repository, or nothing in it yet
	noKey    bool
	findings int
}

func (s *seenState) equal(o *seenState) bool {
	return s.none == o.none && s.noKey == o.noKey && maps.Equal(s.archives, o.archives) &&
		maps.Equal(s.objects, o.objects)
}

func (s *seenState) String() string {
	return fmt.Sprintf("%d objects, archives %v, none %v, passphrase %q", len(s.objects),
		slices.Sorted(maps.Keys(s.archives)), s.none, s.pass)
}

// trees makes the files that are backed up: several small trees that have much in common.
func (b *bench) trees() {
	common := make([]byte, 60_000)
	for i := range common {
		common[i] = byte(b.rng.Uint32())
	}
	for i := 1; i <= 3; i++ {
		dir := filepath.Join(b.base, "tree", strconv.Itoa(i), "sub")
		check(b.T, os.MkdirAll(dir, 0o700))
		for k := range 4 {
			content := bytes.Clone(common[:10_000+5000*k])
			if k == 0 {
				content[i] ^= 0xff
			}
			check(b.T, os.WriteFile(filepath.Join(dir, strconv.Itoa(k)), content, 0o600))
		}
	}
}

func (b *bench) setEnv() {
	b.Setenv("HOME", filepath.Join(b.base, "home"))
	b.Setenv("GARRET_KEYS_DIR", filepath.Join(b.w, "keys"))
	b.Setenv("GARRET_CACHE_DIR", filepath.Join(b.w, "cache"))
	b.Setenv("GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
	b.Setenv("GARRET_OLDER_REPO_ACCESS_IS_OK", "yes")
}

// look says what the repository in W holds. It changes nothing.
func (b *bench) look(passes ...string) *seenState {
	b.Helper()
	s, err := b.tryLook(true, passes...)
	if err != nil && (s == nil || s.findings == 0) {
		b.Fatalf("the real state: %v", err)
	}
	return s
}

func (b *bench) tryLook(readOnly bool, passes ...string) (*seenState, error) {
	ctx := context.Background()
	s := &seenState{objects: map[repository.ID][32]byte{}, archives: map[string][32]byte{}}
	r, err := repository.OpenForCheck(ctx, filepath.Join(b.w, "repo"), &repository.Options{
		ReadOnly: readOnly, LockWait: time.Minute, // a process that is just being started has all that is open here
	})
	if errors.Is(err, repository.ErrNotExist) || errors.Is(err, repository.ErrInvalid) {
		if _, statErr := os.Stat(filepath.Join(b.w, "repo", "config")); errors.Is(statErr, fs.ErrNotExist) {
			s.none = true
			return s, nil
		}
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	report, err := r.Check(ctx, repository.CheckOptions{})
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if s.findings = len(report.Findings); s.findings > 0 {
		err = fmt.Errorf("check: %v", report.Findings)
	}
	return s, errors.Join(err, b.read(ctx, r, s, passes))
}

// read reads all objects and all archives.
func (b *bench) read(ctx context.Context, r *repository.Repository, s *seenState, passes []string) error {
	if err := readObjects(ctx, r, s.objects, s.findings > 0); err != nil {
		return err
	}
	env, err := catalog.Manifest(ctx, r)
	if errors.Is(err, catalog.ErrNoManifest) {
		s.none = len(s.objects) == 0
		return nil
	}
	if err != nil {
		return err
	}
	var key *envelope.Key
	for _, pass := range passes {
		os.Setenv("GARRET_PASSPHRASE", pass)
		key, err = envelope.OpenKey(envelope.OpenOptions{RepositoryID: r.ID(), Location: filepath.Join(b.w, "repo"), Envelope: env})
		if err == nil {
			s.pass = pass
			break
		}
	}
	if errors.Is(err, envelope.ErrNoKeyfile) {
		s.noKey = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the key: %w", err)
	}
	cat, err := catalog.New(r, key, env)
	if err != nil {
		return err
	}
	if _, err := fsck.Archives(ctx, r, cat, func(f fsck.Finding) { err = errors.Join(err, errors.New(f.String())) }); err != nil {
		return err
	}
	if err != nil && !b.damaged {
		return err
	}
	for _, e := range cat.Archives() {
		sum, err := readArchive(ctx, cat, e.Name)
		if err != nil && b.damaged {
			continue
		}
		if err != nil {
			return fmt.Errorf("archive %q: %w", e.Name, err)
		}
		s.archives[e.Name] = sum
	}
	return nil
}

// readObjects reads all objects there are, or all that are whole.
func readObjects(ctx context.Context, r *repository.Repository, objects map[repository.ID][32]byte, mayBeDamaged bool) error {
	for id, err := range r.All(ctx) {
		if err != nil {
			return err
		}
		data, err := r.Get(ctx, id)
		if errors.Is(err, repository.ErrIntegrity) && mayBeDamaged {
			continue
		}
		if err != nil {
			return err
		}
		objects[id] = sha256.Sum256(data)
	}
	return nil
}

func readArchive(ctx context.Context, cat *catalog.Catalog, name string) (sum [32]byte, err error) {
	a, err := cat.Archive(ctx, name)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	for it, err := range cat.Items(ctx, a) {
		if err != nil {
			return sum, err
		}
		fmt.Fprintf(h, "%s %o %d\n", it.Path, it.Mode, len(it.Chunks))
		for data, err := range cat.Read(ctx, len(it.Chunks), func(i int) repository.ID { return it.Chunks[i].ID }, 2) {
			if err != nil {
				return sum, err
			}
			h.Write(data)
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// expand puts the paths in the place of the names for them.
func (b *bench) expand(args []string) []string {
	r := strings.NewReplacer("REPO", filepath.Join(b.w, "repo"), "TREE", filepath.Join(b.base, "tree"),
		"SAFE", filepath.Join(b.base, "exported"))
	out := slices.Clone(args)
	for i := range out {
		out[i] = r.Replace(out[i])
	}
	return out
}
