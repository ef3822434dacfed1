//go:build crash

package crash

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"garret/internal/campaign"
	"garret/internal/cli"
	"garret/repository"
)

// Crashes of the real program at every system call. Each workload is a few runs of the program, recorded; then the power
// fails after each of their calls, in several ways, and what is left must be what was acknowledged, or what was in flight.
//
//	go test -tags crash -v ./internal/crash              all; needs strace and a Linux
//	GARRET_CRASH_MIXED=50 go test -tags crash ...        more random states at each call
//	GARRET_TEST_SEED=N go test -tags crash ...           again

// A step is a run of the program.
type step struct {
	args  []string
	stdin string
	pass  string                   // to be set from here on
	env   []string                 // for this run alone
	slow  bool                     // its standard input comes in pieces, and it is interrupted in the middle of that
	blind bool                     // after it the repository cannot be read
	code  int                      // that it ends with, unless it is interrupted
	rots  bool                     // what edit does is damage
	edit  func(*testing.T, string) // instead of a run: something else that happens to the files
}

type workload struct {
	name    string
	steps   []step
	damaged bool // by what has happened so far: a check may find something
}

func object(id byte) string { return strings.Repeat(fmt.Sprintf("%02x", id), 32) }

func put(id byte, size int) step {
	return step{args: []string{"object", "put", "REPO", object(id)}, stdin: strings.Repeat(string('a'+rune(id)), size)}
}

func del(ids ...byte) step {
	s := step{args: []string{"object", "delete", "REPO"}}
	for _, id := range ids {
		s.args = append(s.args, object(id))
	}
	return s
}

func run(args ...string) step { return step{args: args} }

// smallSegments makes the segments of a repository small, so that there are several.
func smallSegments(t *testing.T, dir string) {
	name := filepath.Join(dir, "repo", "config")
	b, err := os.ReadFile(name)
	check(t, err)
	b = bytes.Replace(b, []byte("max_segment_size = 5242880"), []byte("max_segment_size = 20000"), 1)
	b = bytes.Replace(b, []byte("segments_per_dir = 10000"), []byte("segments_per_dir = 3"), 1)
	if !bytes.Contains(b, []byte("20000")) {
		t.Fatalf("the config has changed: %s", b)
	}
	check(t, os.WriteFile(name, b, 0o600))
}

// damage flips bits in the middle of the largest segment.
func damage(t *testing.T, dir string) {
	largest, size := "", int64(0)
	check(t, filepath.WalkDir(filepath.Join(dir, "repo", "data"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil && info.Size() > size {
				largest, size = path, info.Size()
			}
		}
		return err
	}))
	b, err := os.ReadFile(largest)
	check(t, err)
	b[len(b)/2] ^= 0x10
	check(t, os.WriteFile(largest, b, 0o600))
}

func workloads() []workload {
	initAs := func(enc string) []step {
		return []step{{args: []string{"init", "-e", enc, "REPO"}, pass: oldPass}, {edit: smallSegments}}
	}
	with := func(first []step, more ...step) []step { return append(slices.Clone(first), more...) }
	create := func(n int) step { return run("create", fmt.Sprintf("REPO::a%d", n), fmt.Sprintf("TREE/%d", n)) }
	objects := initAs("none")
	for i := range byte(12) {
		objects = append(objects, put(i%5+1, 3000*int(i%4)+10))
		if i%3 == 2 {
			objects = append(objects, del(i%5+1))
		}
	}
	archives := func(enc string) []step { return with(initAs(enc), create(1), create(2), create(3)) }
	exported := []step{run("key", "export", "REPO", "SAFE"), {blind: true, edit: func(t *testing.T, dir string) {
		check(t, os.RemoveAll(filepath.Join(dir, "keys")))
		check(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
	}}}
	yes := []string{"GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING=yes"}
	return []workload{
		{name: "objects", steps: with(objects, run("compact", "REPO"))},
		{name: "init none", steps: initAs("none")},
		{name: "init keyfile", steps: initAs("keyfile")},
		{name: "init passphrase", steps: initAs("passphrase")},
		{name: "create", steps: archives("none")},
		{name: "create encrypted", steps: archives("keyfile")},
		{name: "create interrupted", steps: with(initAs("none"), create(1), step{
			args: []string{"create", "-c", "1", "REPO::large", "TREE/2", "-"}, slow: true, code: 130,
		}, create(2))},
		{name: "delete", steps: with(archives("none"), run("delete", "REPO::a1"), run("delete", "REPO::a3"))},
		{name: "delete encrypted", steps: with(archives("keyfile"), run("delete", "REPO::a2"))},
		{name: "prune", steps: with(archives("none"), run("prune", "-H", "1", "REPO"))},
		{name: "compact", steps: with(archives("none"), run("delete", "REPO::a2"), run("compact", "REPO"))},
		{name: "rename", steps: with(archives("keyfile"), run("rename", "REPO::a2", "other"))},
		{name: "repair", steps: with(archives("none"), step{edit: damage, rots: true}, step{
			args: []string{"check", "--repair", "REPO"}, env: yes, code: 1,
		})},
		{name: "change passphrase", steps: with(initAs("keyfile"), create(1),
			step{args: []string{"change-passphrase", "REPO"}, env: []string{"GARRET_NEW_PASSPHRASE=" + newPass}},
			step{args: []string{"check", "REPO"}, pass: newPass})},
		{name: "key import", steps: with(with(with(initAs("keyfile"), create(1)), exported...), run("key", "import", "REPO", "SAFE"))},
	}
}

// A crasher crashes what runs on a bench.
type crasher struct {
	bench
	mixed  int // random states at each call
	stride int // only each stride-th call
	deep   int // each deep-th state is gone on with
}

func TestCrashAtEverySystemCall(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("GARRET_REQUIRE_STRACE") != "" {
			t.Fatal(err)
		}
		t.Skip("there is no strace")
	}
	binary, seed := buildGarret(t, t.TempDir()), seedOf(t)
	b := &crasher{bench: bench{binary: binary}, mixed: campaign.Set(t, "GARRET_CRASH_MIXED", 6, 1), stride: 4, deep: 10}
	if campaign.Full() {
		b.stride = 1
	}
	shm := memoryFolder(t)
	total := counts{}
	for i, w := range workloads() {
		t.Run(w.name, func(t *testing.T) {
			b := *b
			b.T, b.rng = t, rand.New(rand.NewPCG(seed, uint64(i)))
			b.base = filepath.Join(shm, fmt.Sprint(i))
			b.w = filepath.Join(b.base, "w")
			check(t, os.MkdirAll(b.w, 0o700))
			c := b.workload(w)
			t.Logf("%d calls, %d states, %d of them different, %d gone on with", c.calls, c.states, c.different, c.deep)
			total.add(c)
		})
	}
	t.Logf("in all: %d calls, %d states, %d of them different, %d gone on with", total.calls, total.states, total.different, total.deep)
}

type counts struct{ calls, states, different, deep int }

func (c *counts) add(o counts) {
	c.calls, c.states, c.different, c.deep = c.calls+o.calls, c.states+o.states, c.different+o.different, c.deep+o.deep
}

// drip gives a process input that never ends, some of it every now and then.
func (b *crasher) drip(w io.WriteCloser, stop <-chan struct{}) {
	defer w.Close()
	for {
		content := make([]byte, 30_000)
		for i := 0; i < len(content); i += 8 {
			binary.LittleEndian.PutUint64(content[i:], b.rng.Uint64())
		}
		if _, err := w.Write(content); err != nil {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// workload records a workload and crashes it.
func (b *crasher) workload(w workload) counts {
	b.setEnv()
	b.trees()
	before := &seenState{none: true, pass: oldPass}
	var c counts
	pass := oldPass
	for i, s := range w.steps {
		if s.pass != "" {
			pass = s.pass
		}
		if s.edit != nil {
			s.edit(b.T, b.w)
			w.damaged = w.damaged || s.rots
			b.damaged = w.damaged
			before = b.look(before.pass, pass)
			if before.noKey != s.blind {
				b.Fatalf("the key is there: %v", !before.noKey)
			}
			continue
		}
		m, err := New(b.w)
		check(b.T, err)
		trace := filepath.Join(b.base, fmt.Sprintf("trace.%d", i))
		b.record(s, trace, pass)
		inFlight, after := []string{before.pass, pass}, (*seenState)(nil)
		if slices.ContainsFunc(s.env, func(v string) bool { return strings.HasPrefix(v, "GARRET_NEW_PASSPHRASE=") }) {
			inFlight = append(inFlight, newPass)
			after = b.look(newPass)
		} else {
			after = b.look(inFlight...)
		}
		crashed := b.crash(m, trace, func(tree *Tree, n int) {
			b.verify(w, s, before, after, inFlight, tree, n)
		})
		c.add(crashed)
		before = after
		check(b.T, os.Remove(trace))
	}
	return c
}

// record runs a step under strace.
func (b *crasher) record(s step, trace, pass string) {
	command := Strace(trace, append([]string{b.binary}, b.expand(s.args)...)...)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(append(os.Environ(), "GARRET_PASSPHRASE="+pass), s.env...)
	cmd.Stdin = strings.NewReader(s.stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stop, dripped := make(chan struct{}), make(chan struct{})
	if s.slow {
		cmd.Stdin = nil
		in, err := cmd.StdinPipe()
		check(b.T, err)
		go func() { b.drip(in, stop); close(dripped) }()
		time.AfterFunc(2500*time.Millisecond, func() { _ = exec.Command("kill", "-INT", childOf(cmd.Process.Pid)).Run() })
		time.AfterFunc(5*time.Second, func() { close(stop) })
	}
	check(b.T, cmd.Start())
	err := cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if code != s.code {
		b.Fatalf("garret %q: exit code %d (%v): %s", s.args, code, err, out.String())
	}
	if s.slow {
		<-dripped
		b.Logf("interrupted: %s", strings.TrimSpace(out.String()))
	}
}

// childOf returns the process that strace runs.
func childOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	return strings.TrimSpace(string(b))
}

// crash calls verify with all that can be left after each call, which it finds at W.
func (b *crasher) crash(m *Medium, trace string, verify func(*Tree, int)) counts {
	var c counts
	f, err := os.Open(trace)
	check(b.T, err)
	defer f.Close()
	real := b.w + ".real"
	seen := map[[32]byte]bool{}
	err = m.Replay(f, func() error {
		c.calls++
		if c.calls%b.stride != 0 {
			return nil
		}
		for i := range int(Mixed) + b.mixed {
			tree := m.Crash(Fate(min(i, int(Mixed))), b.rng)
			c.states++
			if sum := tree.Sum(); seen[sum] {
				continue
			} else {
				seen[sum] = true
			}
			c.different++
			if c.different == 1 {
				// The first time, the real one makes room, for the paths are to be the same.
				if where, err := b.moved(real); err != nil || where != "" {
					return fmt.Errorf("%w%s", err, where)
				}
			}
			check(b.T, os.RemoveAll(b.w))
			check(b.T, tree.Write(b.w))
			verify(tree, c.different)
			if c.different%b.deep == 0 {
				c.deep++
			}
			if b.Failed() {
				return errors.New("no need to go on")
			}
		}
		return nil
	})
	check(b.T, err)
	if c.different > 0 {
		check(b.T, os.RemoveAll(b.w))
		check(b.T, os.Rename(real, b.w))
	}
	if where, err := m.Diff(); err != nil || where != "" {
		b.Fatalf("the trace is not all that was done: %v %s", err, where)
	}
	return c
}

func (b *crasher) moved(real string) (string, error) { return "", os.Rename(b.w, real) }

// verify holds what is left at W against what it may be.
func (b *crasher) verify(w workload, s step, before, after *seenState, passes []string, tree *Tree, n int) {
	fail := func(format string, args ...any) {
		b.Errorf("garret %q: state %d: %s\nbefore: %v\nafter: %v", s.args, n, fmt.Sprintf(format, args...), before, after)
		keep := filepath.Join(os.TempDir(), "garret-crash-failed")
		_ = os.RemoveAll(keep)
		if tree.Write(keep) == nil {
			b.Logf("it is kept in %s", keep)
		}
	}
	var first *seenState
	for _, variant := range []string{"as it is", "without index"} {
		if variant == "without index" {
			check(b.T, os.RemoveAll(b.w))
			check(b.T, tree.Write(b.w))
			for _, pattern := range []string{"index.*", "hints.*", "garret.tables", "garret.delta.*", "garret.sums.*"} {
				names, _ := filepath.Glob(filepath.Join(b.w, "repo", pattern))
				for _, name := range names {
					check(b.T, os.Remove(name))
				}
			}
		}
		if w.damaged && variant == "without index" {
			// Nothing can be read of a damaged log then, before it is repaired.
			if err := b.goOn(w, after); err != nil {
				fail("%s: %v", variant, err)
				return
			}
			continue
		}
		got, err := b.tryLook(false, passes...)
		if w.damaged && errors.Is(err, repository.ErrCheckNeeded) {
			// A repair that was interrupted has to be done again, and must bring the same.
			if err := b.goOn(w, after); err != nil {
				fail("%s: %v", variant, err)
				return
			}
			first = after
			continue
		}
		if err != nil && !(w.damaged && got != nil && got.findings > 0) {
			fail("%s: %v", variant, err)
			return
		}
		if !allowed(w, s, got, before, after) {
			fail("%s: it holds %v", variant, got)
			return
		}
		if first != nil && !first.equal(got) {
			fail("with index it holds %v, without %v", first, got)
			return
		}
		first = got
	}
	if w.damaged {
		if err := b.goOn(w, after); err != nil {
			fail("the repair again: %v", err)
		}
		return
	}
	if n%b.deep != 0 {
		return
	}
	// Each of these begins with what the crash has left, and with what the state before it remembers.
	for _, keepCache := range []bool{true, false} {
		check(b.T, os.RemoveAll(b.w))
		check(b.T, tree.Write(b.w))
		if !keepCache {
			check(b.T, os.RemoveAll(filepath.Join(b.w, "cache")))
		}
		if err := b.goOn(w, first); err != nil {
			fail("going on, with the cache %v: %v", keepCache, err)
			return
		}
	}
}

// allowed reports whether a state is one that the step may be interrupted in.
func allowed(w workload, s step, got, before, after *seenState) bool {
	if got.equal(before) || got.equal(after) {
		return true
	}
	if s.args[0] == "init" {
		return got.none
	}
	if s.slow {
		// Checkpoints are allowed, but what there was must be there as it was.
		for name, sum := range before.archives {
			if got.archives[name] != sum {
				return false
			}
		}
		for name := range got.archives {
			if _, ok := before.archives[name]; !ok && !strings.HasPrefix(name, "large") {
				return false
			}
		}
		return true
	}
	if w.damaged {
		// In the middle of a repair: what can be read of an archive is as it was, or as it is to be.
		for name, sum := range got.archives {
			if sum != before.archives[name] && sum != after.archives[name] {
				return false
			}
		}
		return true
	}
	return false
}

// garret runs a command in this process.
func (b *crasher) garret(args ...string) (int, string) {
	var out bytes.Buffer
	code := cli.Run(context.Background(), b.expand(args), strings.NewReader(""), &out, &out)
	return code, out.String()
}

// readsWhatARepairKeeps repairs the log, and holds the objects that are there then against those that were read before it.
func (b *crasher) readsWhatARepairKeeps() error {
	before, err := b.tryObjects()
	if err != nil {
		return fmt.Errorf("before the repair: %w", err)
	}
	if code, out := b.garret("check", "--repair", "--repository-only", "REPO"); code > 1 {
		return fmt.Errorf("repair of the log: exit code %d: %s", code, out)
	}
	kept, err := b.tryObjects()
	if err != nil {
		return fmt.Errorf("after the repair: %w", err)
	}
	for id, sum := range kept {
		if before[id] != sum {
			return fmt.Errorf("object %v is kept by the repair, and was not read before it", id)
		}
	}
	return nil
}

// goOn goes on with what a crash has left, as the person at the machine would: with the real commands.
func (b *crasher) goOn(w workload, s *seenState) error {
	expect := func(want int, args ...string) error {
		if code, out := b.garret(args...); code != want {
			return fmt.Errorf("garret %q: exit code %d: %s", args, code, out)
		}
		return nil
	}
	if s.noKey {
		return expect(0, "key", "import", "REPO", "SAFE")
	}
	if s.none {
		// Whatever it left must not be in the way of a new beginning; a key that it left is used.
		enc := "none"
		if names, _ := filepath.Glob(filepath.Join(b.w, "keys", "*")); len(names) > 0 {
			enc = "keyfile"
			os.Setenv("GARRET_PASSPHRASE", oldPass)
		}
		if err := expect(0, "init", "-e", enc, "REPO"); err != nil {
			return err
		}
	} else {
		os.Setenv("GARRET_PASSPHRASE", s.pass)
	}
	if len(s.archives) == 0 && len(s.objects) > 1 && w.name == "objects" {
		return expect(0, "check", "REPO")
	}
	if w.damaged {
		b.Setenv("GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING", "yes")
		if err := b.readsWhatARepairKeeps(); err != nil {
			return err
		}
		if code, out := b.garret("check", "--repair", "REPO"); code > 1 {
			return fmt.Errorf("repair: exit code %d: %s", code, out)
		}
		// However often it was interrupted, it brings the same.
		got, err := b.tryLook(true, oldPass)
		if err == nil && !maps.Equal(got.archives, s.archives) {
			err = fmt.Errorf("after the repair it holds %v, want %v", got, s)
		}
		return err
	}
	err := expect(0, "create", "REPO::after-the-crash", "TREE/2")
	for name := range s.archives {
		if err == nil {
			err = expect(0, "delete", "REPO::"+name)
		}
		break
	}
	if err == nil {
		err = expect(0, "check", "REPO")
	}
	if err == nil {
		target := filepath.Join(b.base, "target")
		check(b.T, os.RemoveAll(target))
		check(b.T, os.Mkdir(target, 0o700))
		err = expect(0, "extract", "REPO::after-the-crash", "--target", target)
	}
	return err
}

// tryObjects reads the objects of the repository in W, whatever is damaged, and changes nothing.
func (b *bench) tryObjects() (map[repository.ID][32]byte, error) {
	ctx := context.Background()
	r, err := repository.Open(ctx, filepath.Join(b.w, "repo"), &repository.Options{Damaged: true, ReadOnly: true, LockWait: time.Minute})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	objects := map[repository.ID][32]byte{}
	return objects, readObjects(ctx, r, objects, true)
}
