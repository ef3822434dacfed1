//go:build unix

package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"garret/internal/cli"
	"garret/internal/envelope"
	"garret/repository"
)

// rotCases returns how many cases there are of each kind of file: GARRET_ROT_CASES says so.
func rotCases(t *testing.T) int {
	n := 60
	if testing.Short() {
		n = 15
	}
	if s := os.Getenv("GARRET_ROT_CASES"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		check(t, err)
	}
	return n
}

// rot damages a content in one of many ways; nil stands for a file that is missing.
func rot(rng *rand.Rand, b, old []byte) (string, []byte) {
	b = bytes.Clone(b)
	if len(b) == 0 {
		return "garbage", []byte{byte(rng.Uint32())}
	}
	from := rng.IntN(len(b))
	to := min(len(b), from+1+rng.IntN(100))
	switch rng.IntN(8) {
	case 0, 1, 2:
		b[from] ^= 1 << rng.IntN(8)
		return fmt.Sprintf("bit at %d", from), b
	case 3:
		clear(b[from/512*512 : min(len(b), from/512*512+512)])
		return "zeros", b
	case 4:
		for i := from; i < to; i++ {
			b[i] = byte(rng.Uint32())
		}
		return fmt.Sprintf("garbage %d to %d", from, to), b
	case 5:
		return fmt.Sprintf("cut at %d", from), b[:from]
	case 6:
		return fmt.Sprintf("without %d to %d", from, to), slices.Delete(b, from, to)
	default:
		if old == nil || bytes.Equal(old, b) {
			return "missing", nil
		}
		return "an old copy", bytes.Clone(old)
	}
}

// TestRottenFiles damages the files beside the log, those of the client, and the key. What can be read then is right; who
// stores and deletes all the same does no harm; and when the file is as it was again, all is as it was.
func TestRottenFiles(t *testing.T) {
	seed := seedOf(t)
	base := memoryFolder(t)
	b := &bench{T: t, base: base, w: filepath.Join(base, "w"), rng: rand.New(rand.NewPCG(seed, 3))}
	check(t, os.Mkdir(b.w, 0o700))
	b.setEnv()
	t.Setenv("GARRET_RELOCATED_REPO_ACCESS_IS_OK", "yes")
	b.trees()
	t.Setenv("GARRET_PASSPHRASE", oldPass)
	for _, enc := range []string{"none", "keyfile"} {
		b.mustDo("init", "-e", enc, "REPO")
		b.mustDo("create", "REPO::one", "TREE/1")
		m, err := New(b.w)
		check(t, err)
		old := m.Crash(Kept, nil)
		b.mustDo("create", "REPO::two", "TREE/2")
		m, err = New(b.w)
		check(t, err)
		now, want := m.Crash(Kept, nil), b.look(oldPass)
		for _, path := range slices.Sorted(maps.Keys(now.Files)) {
			kind := filepath.Base(path)
			switch {
			case strings.HasPrefix(path, "repo/") && !slices.Contains([]string{"config", "garret.nonce", "garret.reserve"}, kind):
				continue // those of the index have a test of their own, in package repository
			case strings.HasSuffix(path, ".lock"):
				continue
			case enc == "none" && strings.Contains(path, "/nonce"):
				continue
			case enc == "keyfile" && !strings.HasPrefix(path, "keys/") && !strings.HasSuffix(path, "nonce"):
				continue // an encrypted one has nothing else of its own, and takes long to open
			}
			t.Run(enc+"/"+filepath.Dir(path)[:4]+"/"+kind, func(t *testing.T) {
				b := *b
				b.T = t
				for i := range rotCases(t) {
					if b.rotten(path, now, old.Files[path], want, i); t.Failed() {
						t.Fatalf("GARRET_TEST_SEED=%d", seed)
					}
				}
			})
		}
		check(t, os.RemoveAll(b.w))
		check(t, os.Mkdir(b.w, 0o700))
	}
}

// do runs a command in this process.
func (b *bench) do(args ...string) (int, string) {
	var out bytes.Buffer
	code := cli.Run(context.Background(), b.expand(args), strings.NewReader(""), &out, &out)
	return code, out.String()
}

func (b *bench) mustDo(args ...string) {
	b.Helper()
	if code, out := b.do(args...); code != 0 {
		b.Fatalf("garret %q: exit code %d: %s", args, code, out)
	}
}

// rotten damages one file once.
func (b *bench) rotten(path string, now *Tree, old []byte, want *seenState, n int) {
	how, after := rot(b.rng, now.Files[path], old)
	if bytes.Equal(after, now.Files[path]) && after != nil {
		return
	}
	what := fmt.Sprintf("case %d: %s: %s", n, path, how)
	check(b.T, os.RemoveAll(b.w))
	check(b.T, now.Write(b.w))
	name := filepath.Join(b.w, path)
	if check(b.T, os.Remove(name)); after != nil {
		check(b.T, os.WriteFile(name, after, 0o600))
	}
	isKey := strings.HasPrefix(path, "keys/")
	got, err := b.tryLook(b.rng.IntN(2) == 0, oldPass)
	expected := errors.Is(err, repository.ErrInvalid) || errors.Is(err, repository.ErrCheckNeeded) ||
		errors.Is(err, envelope.ErrNoKeyfile) || errors.Is(err, envelope.ErrKeyfile) || errors.Is(err, envelope.ErrWrongPassphrase)
	isConfig := filepath.Base(path) == "config"
	switch {
	case err != nil && !(expected || isConfig):
		b.Errorf("%s: %v", what, err)
	case err != nil || got.noKey || got.none:
		if !isKey && !isConfig {
			b.Errorf("%s: nothing can be read: %v", what, err)
		}
	case !got.equal(want) && !isConfig:
		b.Errorf("%s: it holds %v, want %v", what, got, want)
	case isConfig:
		for name, sum := range got.archives {
			if want.archives[name] != sum {
				b.Errorf("%s: archive %q is another", what, name)
			}
		}
	}
	stored := false
	if !isKey { // it is only read, and takes long
		for _, args := range [][]string{{"create", "REPO::three", "TREE/3"}, {"delete", "REPO::one"}, {"check", "REPO"}} {
			code, out := b.do(args...)
			stored = stored || code == 0 && args[0] == "create"
			// What is known of the repository keeps another one from taking its place: if in doubt, it says what to remove.
			refused := code == 2 && strings.Contains(path, "known.json") && strings.Contains(out, "known.json")
			if code != 0 && !isConfig && !refused {
				b.Errorf("%s: garret %q: exit code %d: %s", what, args, code, out)
			}
		}
	}
	// When the file is as it was, or what has come of it is not to be put back, all that was not deleted is there.
	if isConfig || isKey {
		check(b.T, os.WriteFile(name, now.Files[path], 0o600))
	}
	got, err = b.tryLook(true, oldPass)
	if err != nil {
		b.Errorf("%s: afterwards: %v", what, err)
		return
	}
	if sum := got.archives["two"]; sum != want.archives["two"] {
		b.Errorf("%s: afterwards the archives are %v, stored %v", what, got, stored)
	}
	if _, there := got.archives["three"]; stored && !there {
		b.Errorf("%s: what was stored is gone: %v", what, got)
	}
}
