//go:build soak && unix

package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"garret/repository"
)

// The soak of the program: many clients on one repository at once, each a process, built with the race detector. They wait
// for each other's locks. Beside them, one server lives as long as the test: see soakserver_test.go.

const soakWriters = 3 // of which the last goes through a server

// soak is what the clients share.
type soak struct {
	*bench
	ctx   context.Context
	end   context.CancelFunc // at a failure
	rsh   string
	plain string // the program without the race detector
	seed  uint64

	random  atomic.Uint64
	writers [soakWriters]*writer

	mu     sync.Mutex
	counts map[string]int
}

// A writer is a client with a tree of its own, which changes, and with archives of its own.
type writer struct {
	*soak
	number int
	dir    string
	rng    *rand.Rand
	seq    int

	// archives are those that were acknowledged, and what was in the tree. Who reads them holds mu, for they stay as long.
	mu       sync.RWMutex
	archives map[string][32]byte
}

// soakTime returns how long a soak lasts: GARRET_SOAK says so, as in 5m.
func soakTime(t *testing.T) time.Duration {
	s := os.Getenv("GARRET_SOAK")
	if s == "" {
		return 30 * time.Minute
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		t.Fatalf("GARRET_SOAK=%q is no time of at least a second", s)
	}
	return d
}

// TestSoak has clients create, extract, check, delete, prune, compact and mount at once, on one repository, for half an hour
// or as long as GARRET_SOAK says. What is extracted must be what was stored, and nothing may fail.
//
//	GARRET_SOAK=5m go test -tags soak -race -timeout 60m -v -run TestSoak ./internal/crash
func TestSoak(t *testing.T) {
	seed := seedOf(t)
	s := newSoak(t, seed)
	s.mustRun(client{}, "init", "-e", "keyfile", "REPO")
	d := soakTime(t)
	s.ctx, s.end = context.WithTimeout(context.Background(), d)
	defer s.end()
	var running sync.WaitGroup
	for _, w := range s.writers {
		running.Go(w.work)
	}
	running.Go(func() { s.repeat(time.Second, s.extract) })
	running.Go(func() { s.repeat(2*time.Second, s.check) })
	running.Go(func() { s.repeat(4*time.Second, s.compact) })
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
		f.Close()
		running.Go(func() { s.repeat(4*time.Second, s.mount) })
	} else {
		t.Logf("nothing is mounted: %v", err)
	}
	running.Go(func() { s.serve(d) })
	running.Wait()
	if !t.Failed() {
		s.finish()
	}
}

func newSoak(t *testing.T, seed uint64) *soak {
	base := memoryFolder(t)
	s := &soak{
		bench: &bench{T: t, base: base, w: filepath.Join(base, "w"), binary: buildGarret(t, t.TempDir(), "-race")},
		plain: buildGarret(t, t.TempDir()), rsh: filepath.Join(base, "rsh"), seed: seed, counts: map[string]int{},
	}
	check(t, os.Mkdir(s.w, 0o700))
	check(t, os.WriteFile(s.rsh, []byte("#!/bin/sh\nshift\nexec sh -c \"$*\"\n"), 0o700))
	s.setEnv()
	t.Setenv("GARRET_PASSPHRASE", oldPass)
	for i := range s.writers {
		w := &writer{
			soak: s, number: i, dir: filepath.Join(base, fmt.Sprint("client-", i)), rng: s.newRand(), archives: map[string][32]byte{},
		}
		check(t, os.MkdirAll(filepath.Join(w.dir, "tree"), 0o700))
		s.writers[i] = w
	}
	return s
}

func (s *soak) newRand() *rand.Rand { return rand.New(rand.NewPCG(s.seed, s.random.Add(1))) }

func (s *soak) failf(format string, args ...any) {
	s.Helper()
	s.Errorf(format, args...)
	if s.end != nil {
		s.end()
	}
}

func (s *soak) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// repeat does something again and again until the end, with pauses of at most some time.
func (s *soak) repeat(pause time.Duration, f func(rng *rand.Rand)) {
	rng := s.newRand()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(time.Duration(rng.Int64N(int64(pause)))):
			f(rng)
		}
	}
}

// client is who runs a command: those with the same number share a cache.
type client struct {
	number int
	remote bool
	dir    string // where; empty: somewhere
}

// run runs a command, which must end with exit code 0, and returns what it printed.
func (s *soak) run(c client, args ...string) (string, bool) {
	s.Helper()
	args = s.expand(append([]string{args[0], "--lock-wait", "900"}, args[1:]...))
	if c.remote {
		for i := range args {
			args[i] = strings.Replace(args[i], filepath.Join(s.w, "repo"), "host:"+filepath.Join(s.w, "repo"), 1)
		}
	}
	cmd := exec.Command(s.binary, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("GARRET_CACHE_DIR=%s/cache-%d", s.w, c.number), "GARRET_RSH="+s.rsh,
		"GARRET_REMOTE_PATH="+s.binary, "GARRET_RELOCATED_REPO_ACCESS_IS_OK=yes", "GORACE=atexit_sleep_ms=0")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.failf("garret %q: %v: %s%s", args, err, errs.String(), out.String())
		return "", false
	}
	s.count(args[0])
	return out.String(), true
}

func (s *soak) mustRun(c client, args ...string) string {
	s.Helper()
	out, ok := s.run(c, args...)
	if !ok {
		s.FailNow()
	}
	return out
}

// writers' work: change the tree, store it, and forget something.

func (w *writer) client() client {
	return client{number: w.number, remote: w.number == soakWriters-1, dir: w.dir}
}

func (w *writer) work() {
	w.repeat(500*time.Millisecond, func(*rand.Rand) {
		w.changeTree()
		if !w.create() {
			return
		}
		switch n := w.rng.IntN(12); {
		case n == 0:
			w.prune()
		case n == 1:
			w.rename()
		case len(w.archives) > 4 || n < 4:
			w.delete()
		}
	})
}

// changeTree changes some files: new ones, others that go, content and modes that differ.
func (w *writer) changeTree() {
	for range 1 + w.rng.IntN(8) {
		folder := filepath.Join(w.dir, "tree", fmt.Sprint(w.rng.IntN(4)))
		path := filepath.Join(folder, fmt.Sprint(w.rng.IntN(8)))
		var err error
		switch w.rng.IntN(6) {
		case 0:
			err = os.RemoveAll(path)
		case 1:
			err = os.Chmod(path, fs.FileMode(0o600|w.rng.IntN(0o200)))
		default:
			err = os.MkdirAll(folder, 0o700)
			content := make([]byte, w.rng.IntN(1<<uint(4+w.rng.IntN(14))))
			_, _ = rand.NewChaCha8([32]byte{byte(w.number), byte(w.rng.IntN(256)), byte(w.rng.IntN(2))}).Read(content)
			err = errors.Join(err, os.RemoveAll(path), os.WriteFile(path, content, 0o600))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.failf("change the tree: %v", err)
		}
	}
}

// digest returns one of all there is in a folder: paths, modes, times and content.
func digest(root string) (sum [32]byte, err error) {
	h := sha256.New()
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(h, "%q %v %d\n", rel, info.Mode(), info.ModTime().UnixNano())
		if !info.Mode().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(h, "%d %x\n", len(content), sha256.Sum256(content))
		return err
	})
	return [32]byte(h.Sum(nil)), err
}

func (w *writer) create() bool {
	w.seq++
	name := fmt.Sprintf("c%d-%d", w.number, w.seq)
	want, err := digest(filepath.Join(w.dir, "tree"))
	if err != nil {
		w.failf("%v", err)
		return false
	}
	if _, ok := w.run(w.client(), "create", "REPO::"+name, "tree"); !ok {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.archives[name] = want
	return true
}

func (w *writer) names() []string { return slices.Sorted(maps.Keys(w.archives)) }

func (w *writer) delete() {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := w.names()
	name := names[w.rng.IntN(len(names))]
	if _, ok := w.run(w.client(), "delete", "REPO::"+name); ok {
		delete(w.archives, name)
	}
}

func (w *writer) rename() {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := w.names()
	name := names[w.rng.IntN(len(names))]
	w.seq++
	to := fmt.Sprintf("c%d-%d", w.number, w.seq)
	if _, ok := w.run(w.client(), "rename", "REPO::"+name, to); ok {
		w.archives[to] = w.archives[name]
		delete(w.archives, name)
	}
}

// prune keeps the newest archives of some hours, which is one unless an hour has just ended.
func (w *writer) prune() {
	w.mu.Lock()
	defer w.mu.Unlock()
	out, ok := w.run(w.client(), "prune", "--json", "-H", "2", "--prefix", fmt.Sprintf("c%d-", w.number), "REPO")
	if !ok {
		return
	}
	var result struct {
		Archives []struct {
			Name string
			Keep bool
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		w.failf("prune --json: %v: %s", err, out)
		return
	}
	kept := 0
	for _, a := range result.Archives {
		if _, is := w.archives[a.Name]; !is {
			w.failf("prune knows archive %q, and it should not be there", a.Name)
		}
		if a.Keep {
			kept++
		} else {
			delete(w.archives, a.Name)
		}
	}
	if kept != len(w.archives) || kept < 1 || kept > 2 {
		w.failf("prune has kept %d archives, and left %v", kept, w.names())
	}
}

// any calls f with an archive that stays until it returns, if there is one, and what is in it.
func (s *soak) any(rng *rand.Rand, f func(name string, want [32]byte)) {
	w := s.writers[rng.IntN(soakWriters)]
	w.mu.RLock()
	defer w.mu.RUnlock()
	if names := w.names(); len(names) > 0 {
		name := names[rng.IntN(len(names))]
		f(name, w.archives[name])
	}
}

// reader returns a client that may have seen the repository before, or not, and may go through a server.
func (s *soak) reader(rng *rand.Rand) client {
	return client{number: rng.IntN(soakWriters + 1), remote: rng.IntN(3) == 0}
}

func (s *soak) extract(rng *rand.Rand) {
	s.any(rng, func(name string, want [32]byte) {
		c := s.reader(rng)
		s.extractAndCompare(c, name, want)
	})
}

func (s *soak) extractAndCompare(c client, name string, want [32]byte) {
	var err error
	if c.dir, err = os.MkdirTemp(s.base, "out-"); err != nil {
		s.failf("%v", err)
		return
	}
	defer os.RemoveAll(c.dir)
	if _, ok := s.run(c, "extract", "REPO::"+name); !ok {
		return
	}
	if got, err := digest(filepath.Join(c.dir, "tree")); err != nil || got != want {
		s.failf("archive %q is extracted as something else than what was stored: %v", name, err)
	}
}

// check looks at the repository as a whole. The archives that are there all the time must be listed.
func (s *soak) check(rng *rand.Rand) {
	c := s.reader(rng)
	switch rng.IntN(4) {
	case 0:
		s.run(c, "check", "--verify-data", "REPO")
	case 1:
		s.run(c, "info", "REPO")
	case 2:
		s.list(c, rng)
	default:
		s.run(c, "check", "REPO")
	}
}

func (s *soak) list(c client, rng *rand.Rand) {
	s.any(rng, func(name string, _ [32]byte) {
		if out, ok := s.run(c, "list", "--short", "REPO"); ok && !strings.Contains("\n"+out, "\n"+name+"\n") {
			s.failf("archive %q is not listed: %s", name, out)
		}
		s.run(c, "list", "REPO::"+name)
	})
}

func (s *soak) compact(rng *rand.Rand) { s.run(s.reader(rng), "compact", "REPO") }

func (s *soak) mount(rng *rand.Rand) {
	s.any(rng, func(name string, want [32]byte) {
		point, err := os.MkdirTemp(s.base, "mount-")
		if err != nil {
			s.failf("%v", err)
			return
		}
		defer os.Remove(point)
		if _, ok := s.run(s.reader(rng), "mount", "REPO::"+name, point); !ok {
			return
		}
		if got, err := digest(filepath.Join(point, "tree")); err != nil || got != want {
			s.failf("archive %q is mounted as something else than what was stored: %v", name, err)
		}
		s.run(client{}, "umount", point)
	})
}

// finish looks at everything once more.
func (s *soak) finish() {
	s.mustRun(client{}, "check", "--verify-data", "REPO")
	var names []string
	for _, w := range s.writers {
		names = append(names, w.names()...)
		for name, want := range w.archives {
			s.extractAndCompare(client{number: 9}, name, want)
		}
	}
	listed := strings.Fields(s.mustRun(client{}, "list", "--short", "REPO"))
	slices.Sort(listed)
	if slices.Sort(names); !slices.Equal(listed, names) {
		s.Errorf("the archives are %v, and should be %v", listed, names)
	}
	r, err := repository.Open(context.Background(), filepath.Join(s.w, "repo"), &repository.Options{ReadOnly: true})
	check(s, err)
	report, err := r.Check(context.Background(), repository.CheckOptions{})
	check(s, errors.Join(err, r.Close()))
	if !report.OK() {
		s.Errorf("check finds %v", report.Findings)
	}
	s.Logf("commands that were run: %v", s.counts)
}

func median(all []int64) int64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}
