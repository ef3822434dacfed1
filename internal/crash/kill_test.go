//go:build unix

package crash

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"garret/internal/campaign"
	"garret/repository"
)

// kills returns how many processes are killed: GARRET_KILLS says so.
func kills(t *testing.T) int {
	return campaign.Set(t, "GARRET_KILLS", 40, 8)
}

// A killing is a repository that two clients use in turn, or at a time, and processes that are killed.
type killing struct {
	*bench
	seq      int
	counters map[[32]byte]counterRange // of every envelope there ever was
	span     time.Duration             // in which a process is killed: so long that some end before
	killed   int
	finished int
}

type counterRange struct{ from, to uint64 }

// TestKillAtAnyTime kills processes at random moments. After each of them the repository must hold what was acknowledged, or
// what the killed one was about to do, whole; and no counter of the encryption is used twice.
//
//	GARRET_KILLS=500 go test -run TestKillAtAnyTime -v ./internal/crash
func TestKillAtAnyTime(t *testing.T) {
	seed := seedOf(t)
	base := memoryFolder(t)
	k := &killing{
		bench: &bench{
			T: t, base: base, w: filepath.Join(base, "w"), binary: buildGarret(t, t.TempDir()), rng: rand.New(rand.NewPCG(seed, 0)),
		},
		counters: map[[32]byte]counterRange{},
	}
	check(t, os.Mkdir(k.w, 0o700))
	k.setEnv()
	t.Setenv("GARRET_PASSPHRASE", oldPass)
	k.trees()
	k.mustRun("init", "-e", "keyfile", "REPO")
	began := time.Now()
	k.mustRun("create", "REPO::first", "TREE/1")
	k.span = max(120*time.Millisecond, 3*time.Since(began)/2)
	state := k.look(oldPass)
	envelopes := len(k.counters)
	for n := kills(t); (k.killed < n || k.finished < n/4) && !t.Failed(); {
		switch k.rng.IntN(8) {
		case 0:
			k.lockHeld(state)
		case 1:
			state = k.both(state)
		default:
			state = k.one(state)
		}
	}
	k.noCounterTwice()
	if len(k.counters) <= envelopes {
		t.Errorf("there are %d envelopes, as at the beginning", envelopes)
	}
	t.Logf("%d processes killed, %d ended before they were; %d envelopes", k.killed, k.finished, len(k.counters))
}

func (k *killing) mustRun(args ...string) {
	k.Helper()
	cmd := k.command(0, args)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.Fatalf("garret %q: %v: %s", args, err, out)
	}
}

// command is a run of one of the clients, each of which has a cache of its own.
func (k *killing) command(client int, args []string) *exec.Cmd {
	cmd := exec.Command(k.binary, k.expand(args)...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("GARRET_CACHE_DIR=%s/cache-%d", k.w, client), "GARRET_RELOCATED_REPO_ACCESS_IS_OK=yes")
	return cmd
}

// anything returns a command at random, and a check for what it does to the names of the archives.
func (k *killing) anything(s *seenState) (args []string, after func(names map[string][32]byte)) {
	k.seq++
	names := slices.Sorted(maps.Keys(s.archives))
	if len(names) < 2 || k.rng.IntN(2) == 0 {
		name := fmt.Sprintf("a%d", k.seq)
		return []string{"create", "REPO::" + name, fmt.Sprintf("TREE/%d", 1+k.rng.IntN(3))}, func(m map[string][32]byte) { m[name] = [32]byte{} }
	}
	name := names[k.rng.IntN(len(names))]
	switch k.rng.IntN(5) {
	case 0:
		return []string{"compact", "REPO"}, func(map[string][32]byte) {}
	case 1:
		to := fmt.Sprintf("b%d", k.seq)
		return []string{"rename", "REPO::" + name, to}, func(m map[string][32]byte) { m[to] = m[name]; delete(m, name) }
	case 2:
		return []string{"check", "REPO"}, func(map[string][32]byte) {}
	default:
		return []string{"delete", "REPO::" + name}, func(m map[string][32]byte) { delete(m, name) }
	}
}

// kill starts a command and kills it some time later. It reports whether it had ended by itself, in success.
func (k *killing) kill(cmd *exec.Cmd) bool {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	check(k, cmd.Start())
	time.Sleep(time.Duration(k.rng.Int64N(int64(k.span))))
	_ = cmd.Process.Kill()
	err := cmd.Wait()
	switch {
	case err == nil:
		k.finished++
		return true
	case cmd.ProcessState.ExitCode() >= 0:
		k.Errorf("%v: %v: %s", cmd.Args, err, out.String())
	default:
		k.killed++
	}
	return false
}

// holds fails the test unless the repository holds one of some states. Data of archives that were there stays the same.
func (k *killing) holds(before *seenState, what string, may ...map[string][32]byte) *seenState {
	got, err := k.tryLook(k.rng.IntN(2) == 0, oldPass)
	if err != nil {
		k.Fatalf("%s: %v", what, err)
	}
	ok := slices.ContainsFunc(may, func(names map[string][32]byte) bool {
		return slices.Equal(slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(got.archives)))
	})
	if !ok {
		k.Fatalf("%s: the archives are %v, before it was %v", what, slices.Sorted(maps.Keys(got.archives)), before)
	}
	for name, sum := range got.archives {
		if old, known := before.archives[name]; known && old != sum {
			k.Fatalf("%s: archive %q has changed", what, name)
		}
	}
	k.countCounters()
	return got
}

// one kills one client.
func (k *killing) one(s *seenState) *seenState {
	args, after := k.anything(s)
	then := maps.Clone(s.archives)
	after(then)
	what := fmt.Sprintf("after %q was killed", args)
	if k.kill(k.command(k.rng.IntN(2), args)) {
		return k.holds(s, what, then)
	}
	return k.holds(s, what, s.archives, then)
}

// both runs two clients at a time, of which the first is killed. The other one waits for its turn, and must succeed.
func (k *killing) both(s *seenState) *seenState {
	args, after := k.anything(s)
	k.seq++
	name := fmt.Sprintf("c%d", k.seq)
	other := k.command(1, []string{"create", "--lock-wait", "60", "REPO::" + name, "TREE/2"})
	var out bytes.Buffer
	other.Stdout, other.Stderr = &out, &out
	first := k.command(0, append([]string{args[0], "--lock-wait", "60"}, args[1:]...))
	check(k, other.Start())
	ended := k.kill(first)
	if err := other.Wait(); err != nil {
		k.Fatalf("beside %q, which was killed: %v: %s", args, err, out.String())
	}
	then, neither := maps.Clone(s.archives), maps.Clone(s.archives)
	after(then)
	then[name], neither[name] = [32]byte{}, [32]byte{}
	what := fmt.Sprintf("after %q was killed, and another process was not", args)
	if ended {
		return k.holds(s, what, then)
	}
	return k.holds(s, what, neither, then)
}

// lockHeld kills a process that waits for a lock which another one holds. Nothing may have changed.
func (k *killing) lockHeld(s *seenState) {
	r, err := repository.Open(context.Background(), filepath.Join(k.w, "repo"), &repository.Options{Exclusive: true})
	check(k, err)
	args, _ := k.anything(s)
	cmd := k.command(0, append([]string{args[0], "--lock-wait", "-1"}, args[1:]...))
	if k.kill(cmd) {
		k.Errorf("%q has ended while another process had the lock", args)
	}
	check(k, r.Close())
	k.holds(s, fmt.Sprintf("after %q was killed while it waited", args), s.archives)
}

// countCounters notes which counters the envelopes in the repository use.
func (k *killing) countCounters() {
	ctx := context.Background()
	r, err := repository.Open(ctx, filepath.Join(k.w, "repo"), &repository.Options{ReadOnly: true})
	check(k, err)
	defer r.Close()
	const header = 1 + 32 + 8
	for id, err := range r.All(ctx) {
		check(k, err)
		env, err := r.Get(ctx, id)
		check(k, err)
		if len(env) < header {
			k.Fatalf("object %v has %d bytes", id, len(env))
		}
		from := binary.BigEndian.Uint64(env[33:])
		k.counters[[32]byte(env[1:])] = counterRange{from, from + uint64(len(env)-header+15)/16}
	}
}

// noCounterTwice fails the test if two envelopes have a counter in common.
func (k *killing) noCounterTwice() {
	all := slices.SortedFunc(maps.Values(k.counters), func(a, b counterRange) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			k.Errorf("the counters %v and %v overlap", all[i-1], all[i])
		}
	}
}
