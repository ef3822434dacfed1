//go:build unix

package crash

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
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
	"testing"
	"time"

	"garret/internal/cli"
	"garret/internal/envelope"
	"garret/internal/rawpack"
	"garret/internal/rottest"
	"garret/repository"
)

// A rotting is a repository, with its key and a client's cache, of which files are damaged.
type rotting struct {
	*bench
	id       string
	now      *Tree
	want     *seenState
	counters []counterRange // of all envelopes, if it is encrypted
	runs     int
}

// eachBinary is how many of the commands are run by this process for one that is run by the real program. Its start takes
// longer than what it does.
const eachBinary = 150

// TestRottenFiles damages the files beside the log, those of the client, and the key. What can be read then is right; who
// stores and deletes all the same does no harm; no counter is used twice; and when the file is as it was again, all is as it
// was. The files of the index and the log have tests of their own in package repository, and there are more in cli, envelope
// and rpc: GARRET_ROT_CASES says for all of them how many cases there are of each kind.
func TestRottenFiles(t *testing.T) {
	seed := seedOf(t)
	base := memoryFolder(t)
	binary := buildGarret(t, t.TempDir()) // with the home folder that there is, in which the modules are
	// The environment is one for all that run side by side: they have keys and caches in the same two folders.
	for name, value := range map[string]string{
		"HOME": filepath.Join(base, "home"), "GARRET_KEYS_DIR": filepath.Join(base, "keys"), "GARRET_CACHE_DIR": filepath.Join(base, "cache"),
		"GARRET_PASSPHRASE": oldPass, "GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING": "yes", "GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
		"GARRET_OLDER_REPO_ACCESS_IS_OK": "yes", "GARRET_RELOCATED_REPO_ACCESS_IS_OK": "yes",
	} {
		was, set := os.LookupEnv(name)
		check(t, os.Setenv(name, value))
		t.Cleanup(func() {
			if os.Unsetenv(name); set {
				os.Setenv(name, was)
			}
		})
	}
	for _, dir := range []string{"keys", "cache"} {
		check(t, os.Mkdir(filepath.Join(base, dir), 0o700))
	}
	(&bench{T: t, base: base, rng: rand.New(rand.NewPCG(seed, 2))}).trees()
	for i, kind := range []string{
		"none/repo/config", "none/repo/garret.reserve", "none/cache/known.json", "none/cache/garret.files", "none/cache/garret.chunks",
		"none/cache/garret.chunks.N", "none/cache/garret.chunks.lock",
		"keyfile/repo/config", "keyfile/repo/garret.nonce", "keyfile/cache/nonce", "keyfile/cache/nonce.lock", "keyfile/key file",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := &bench{T: t, base: base, w: filepath.Join(base, fmt.Sprint("w", i)), binary: binary, rng: rand.New(rand.NewPCG(seed, uint64(10+i)))}
			check(t, os.Mkdir(b.w, 0o700))
			h := &rotting{bench: b}
			enc, kind, _ := strings.Cut(kind, "/")
			old := h.prepare(enc)
			var paths []string
			for path := range h.now.Files {
				if kindOf(path) == kind {
					paths = append(paths, path)
				}
			}
			if len(paths) != 1 {
				t.Fatalf("%q are of that kind, of %q", paths, slices.Sorted(maps.Keys(h.now.Files)))
			}
			var tally rottest.Tally
			for cases := rottest.Cases(t, 40, 10); tally.Cases() < cases; {
				if outcome := h.rotten(paths[0], old.Files[paths[0]], tally.Cases()); outcome != "" {
					tally.Add(outcome)
				}
				if t.Failed() {
					t.Fatalf("GARRET_TEST_SEED=%d", seed)
				}
			}
			tally.Log(t)
		})
	}
}

// kindOf returns what a file is, by its path.
func kindOf(path string) string {
	switch dir, name, _ := strings.Cut(path, "/"); dir {
	case "keys":
		return "key file"
	case "cache":
		name = filepath.Base(name)
		if strings.HasPrefix(name, "garret.chunks.") && !strings.HasSuffix(name, ".lock") {
			name = "garret.chunks.N"
		}
		return "cache/" + name
	default:
		return dir + "/" + name
	}
}

// prepare makes the repository, and returns a copy of everything from before it was as it is.
func (h *rotting) prepare(enc string) (old *Tree) {
	h.Helper()
	for _, dir := range []string{"keys", "cache"} {
		check(h, os.Mkdir(filepath.Join(h.w, dir), 0o700))
	}
	h.mustDo("init", "-e", enc, "REPO")
	h.share()
	// More segments, in more folders, than there would be, as in a large repository.
	config := filepath.Join(h.w, "repo", "config")
	text, err := os.ReadFile(config)
	check(h, err)
	changed := strings.NewReplacer("= 10000\n", "= 4\n", "= 5242880\n", "= 20000\n").Replace(string(text))
	if strings.Count(changed, "= 4\n") != 1 || strings.Count(changed, "= 20000\n") != 1 {
		h.Fatalf("the config is %s", text)
	}
	check(h, os.WriteFile(config, []byte(changed), 0o600))
	if enc == "keyfile" {
		h.weaken(10)
	}
	h.mustDo("create", "REPO::one", "TREE/1")
	old = h.tree()
	h.mustDo("create", "REPO::two", "TREE/2")
	h.now, h.want = h.tree(), h.look(oldPass)
	if len(h.want.archives) != 2 {
		h.Fatal(h.want)
	}
	if enc == "keyfile" {
		h.counters = h.countersNow()
	}
	return old
}

// share puts what is this repository's of the two folders into its own, with links in its place. All of it goes by the
// repository's id.
func (h *rotting) share() {
	h.Helper()
	r, err := repository.Open(context.Background(), filepath.Join(h.w, "repo"), nil)
	check(h, err)
	id := r.ID().String()
	check(h, r.Close())
	h.id = id
	mine := filepath.Join(h.base, "cache", id)
	if err := os.Rename(mine, filepath.Join(h.w, "cache", id)); errors.Is(err, fs.ErrNotExist) {
		err = os.Mkdir(filepath.Join(h.w, "cache", id), 0o700)
		check(h, err)
	} else {
		check(h, err)
	}
	check(h, os.Symlink(filepath.Join(h.w, "cache", id), mine))
	keys, err := filepath.Glob(filepath.Join(h.base, "keys", "*"))
	check(h, err)
	for _, key := range keys {
		text, err := os.ReadFile(key)
		if err != nil || !strings.HasPrefix(string(text), "ATTIC KEY "+id) { // another one's, which may be missing just now
			continue
		}
		to := filepath.Join(h.w, "keys", filepath.Base(key))
		check(h, os.Rename(key, to))
		check(h, os.Symlink(to, key))
	}
}

// forgetOthers removes what was remembered of a repository with another id, which a config had that was damaged.
func (h *rotting) forgetOthers() {
	text, err := os.ReadFile(filepath.Join(h.w, "repo", "config"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		key, id, _ := strings.Cut(line, "=")
		other, err := repository.ParseID(strings.TrimSpace(id))
		if err == nil && strings.TrimSpace(key) == "id" && other.String() != h.id {
			check(h, os.RemoveAll(filepath.Join(h.base, "cache", other.String())))
		}
	}
}

func (h *rotting) tree() *Tree {
	m, err := New(h.w)
	check(h, err)
	return m.Crash(Kept, nil)
}

// weaken writes the key file anew with so few rounds of PBKDF2 that it takes no time to open it.
func (h *rotting) weaken(rounds int) {
	h.Helper()
	files, err := os.ReadDir(filepath.Join(h.w, "keys"))
	check(h, err)
	if len(files) != 1 {
		h.Fatal(files)
	}
	path := filepath.Join(h.w, "keys", files[0].Name())
	text, err := os.ReadFile(path)
	check(h, err)
	head, body, _ := strings.Cut(string(text), "\n")
	packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	check(h, err)
	var salt, box []byte
	var iterations int64
	r := rawpack.NewReader(packed)
	r.Map(func(key string) {
		switch key {
		case "salt":
			salt = r.Raw()
		case "data":
			box = bytes.Clone(r.Raw())
		case "iterations":
			iterations = r.Int(1, 1<<30)
		default:
			r.Value()
		}
	})
	check(h, r.Err())
	xor := func(rounds int) []byte {
		key, err := pbkdf2.Key(sha256.New, oldPass, salt, rounds, 32)
		check(h, err)
		block, err := aes.NewCipher(key)
		check(h, err)
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(box, box)
		return key
	}
	xor(int(iterations))
	plain := bytes.Clone(box)
	mac := hmac.New(sha256.New, xor(rounds))
	mac.Write(plain)
	packed = rawpack.AppendMapHeader(nil, 6)
	packed = rawpack.AppendInt(rawpack.AppendRaw(packed, "version"), 1)
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "salt"), salt)
	packed = rawpack.AppendInt(rawpack.AppendRaw(packed, "iterations"), int64(rounds))
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "algorithm"), "sha256")
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "hash"), mac.Sum(nil))
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "data"), box)
	out := head + "\n"
	for text := base64.StdEncoding.EncodeToString(packed); text != ""; {
		n := min(70, len(text))
		out += text[:n] + "\n"
		text = text[n:]
	}
	check(h, os.WriteFile(path, []byte(out), 0o600))
}

// do runs a command, in this process as a rule.
func (h *rotting) do(args ...string) (int, string) {
	var out bytes.Buffer
	if h.runs++; h.runs%eachBinary == 0 {
		cmd := exec.Command(h.binary, h.expand(args)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			h.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	code := cli.Run(context.Background(), h.expand(args), strings.NewReader(""), &out, &out)
	return code, out.String()
}

func (h *rotting) mustDo(args ...string) {
	h.Helper()
	if code, out := h.do(args...); code != 0 {
		h.Fatalf("garret %q: exit code %d: %s", args, code, out)
	}
}

// rotten damages one file once, and says what came of it; nothing, if the damage has changed nothing.
func (h *rotting) rotten(path string, old []byte, n int) string {
	how, after := rottest.Rot(h.rng, h.now.Files[path], old)
	if after != nil && bytes.Equal(after, h.now.Files[path]) {
		return ""
	}
	what := fmt.Sprintf("case %d: %s: %s", n, path, how)
	check(h, os.RemoveAll(h.w))
	check(h, h.now.Write(h.w))
	name := filepath.Join(h.w, path)
	if check(h, os.Remove(name)); after != nil {
		check(h, os.WriteFile(name, after, 0o600))
	}
	isConfig, isKey := path == "repo/config", strings.HasPrefix(path, "keys/")
	found := (isConfig || isKey) && h.mustReadRight(what) // nothing else is asked when all is read, and it follows
	done := h.use(what, path, isConfig, isKey)
	if isConfig {
		h.forgetOthers()
	}
	if h.counters != nil {
		if isConfig { // for the program to tell us the envelopes
			check(h, os.WriteFile(name, h.now.Files[path], 0o600))
		}
		h.mustUseNoCounterTwice(what)
	}
	// When the file is as it was, or what has come of it is not to be put back, all that was not deleted is there.
	if isConfig || isKey {
		check(h, os.WriteFile(name, h.now.Files[path], 0o600))
	}
	got, err := h.tryLook(true, oldPass)
	if err != nil {
		h.Errorf("%s: afterwards: %v", what, err)
		return ""
	}
	want := maps.Clone(h.want.archives)
	if done["delete"] {
		delete(want, "one")
	}
	for archive, sum := range want {
		if got.archives[archive] != sum {
			h.Errorf("%s: afterwards the archives are %v, done was %v", what, got, done)
		}
	}
	if _, there := got.archives["three"]; done["create"] != there {
		h.Errorf("%s: create succeeded: %v, the archives are %v", what, done["create"], got)
	}
	switch {
	case !found && !done["told"]:
		return "harmless"
	case isConfig || isKey:
		return "found; all is there with a copy of the file"
	default:
		return "found and made anew"
	}
}

// mustReadRight reads all there is, and reports whether there was an error, which must be one that says what is the matter.
// What can be read is what was stored.
func (h *rotting) mustReadRight(what string) (found bool) {
	got, err := h.tryLook(h.rng.IntN(2) == 0, oldPass)
	if err == nil && !got.none && !got.noKey {
		if !got.equal(h.want) {
			h.Errorf("%s: it holds %v, want %v", what, got, h.want)
		}
		return false
	}
	expected := err == nil
	for _, e := range []error{
		repository.ErrInvalid, repository.ErrCheckNeeded, envelope.ErrNoKeyfile, envelope.ErrKeyfile, envelope.ErrWrongPassphrase,
	} {
		expected = expected || errors.Is(err, e)
	}
	if !expected {
		h.Errorf("%s: it cannot be read: %v %v", what, err, got)
	}
	return true
}

// use stores and deletes, whatever is said to it. It returns which commands succeeded, and whether any of them had to say
// something ("told").
func (h *rotting) use(what, path string, isConfig, isKey bool) map[string]bool {
	done := map[string]bool{}
	commands := [][]string{{"create", "REPO::three", "TREE/3"}, {"delete", "REPO::one"}, {"check", "REPO"}}
	if h.rng.IntN(3) > 0 {
		commands = commands[h.rng.IntN(2):][:1]
	}
	if isConfig && h.rng.IntN(2) == 0 {
		commands = slices.Insert(commands, h.rng.IntN(1+len(commands)), []string{"check", "--repair", "REPO"})
	}
	for _, args := range commands {
		code, out := h.do(args...)
		done[args[0]] = done[args[0]] || code == 0
		done["told"] = done["told"] || code != 0 || strings.Contains(out, "damaged") || strings.Contains(out, "anew")
		if code != 0 && !strings.HasPrefix(out, "garret: ") && !strings.Contains(out, "\ngarret: ") {
			h.Errorf("%s: garret %q: exit code %d says %q", what, args, code, out)
		}
		// What is known of the repository keeps another one from taking its place: if in doubt, it says what to remove.
		refused := code == 2 && strings.Contains(path, "known.json") && strings.Contains(out, "known.json")
		if code != 0 && !isConfig && !isKey && !refused {
			h.Errorf("%s: garret %q: exit code %d: %s", what, args, code, out)
		}
	}
	return done
}

// countersNow returns the counters that the envelopes in the repository use.
func (h *rotting) countersNow() (all []counterRange) {
	ctx := context.Background()
	r, err := repository.Open(ctx, filepath.Join(h.w, "repo"), &repository.Options{ReadOnly: true, LockWait: time.Minute})
	check(h, err)
	defer r.Close()
	for id, err := range r.All(ctx) {
		check(h, err)
		env, err := r.Get(ctx, id)
		check(h, err)
		const header = 1 + 32 + 8
		if len(env) < header {
			h.Fatalf("object %v has %d bytes", id, len(env))
		}
		from := binary.BigEndian.Uint64(env[33:])
		all = append(all, counterRange{from, from + uint64(len(env)-header+15)/16})
	}
	return all
}

// mustUseNoCounterTwice holds the counters of what was stored since against all others.
func (h *rotting) mustUseNoCounterTwice(what string) {
	all := append(h.countersNow(), h.counters...)
	slices.SortFunc(all, func(a, b counterRange) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	all = slices.Compact(all) // envelopes that are there still
	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			h.Errorf("%s: the counters %v and %v overlap", what, all[i-1], all[i])
		}
	}
}
