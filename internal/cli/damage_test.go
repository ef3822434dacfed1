package cli

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/campaign"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/restore"
	"garret/repository"
)

// A patient is an open repository to be damaged.
type patient struct {
	t    *testing.T
	repo *repository.Repository
	cat  *catalog.Catalog
}

func openPatient(t *testing.T, path string) *patient {
	t.Helper()
	ctx := t.Context()
	repo, err := repository.Open(ctx, path, &repository.Options{Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &patient{t: t, repo: repo}
	env, err := catalog.Manifest(ctx, repo)
	p.ok(err)
	key, err := envelope.OpenKey(envelope.OpenOptions{RepositoryID: repo.ID(), Location: path, Envelope: env})
	p.ok(err)
	if key.Type().Encrypts() {
		key.UseNonces(envelope.NewNonceReserver(repo, filepath.Join(t.TempDir(), "nonce"), envelope.NonceEnd(env)))
	}
	p.cat, err = catalog.New(repo, key, env)
	p.ok(err)
	return p
}

func (p *patient) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) close() {
	p.t.Helper()
	p.ok(p.repo.Commit(p.t.Context()))
	p.ok(p.repo.Close())
}

func (p *patient) remove(id repository.ID) {
	p.t.Helper()
	p.ok(p.repo.Delete(p.t.Context(), id))
}

func (p *patient) get(id repository.ID) []byte {
	p.t.Helper()
	env, err := p.repo.Get(p.t.Context(), id)
	p.ok(err)
	return env
}

// spoil changes a bit of what an object holds; its checksum is right. It is one of the last bytes, the sum of the compressed
// data: one in their midst may say where a repeated text is repeated from, and change nothing.
func (p *patient) spoil(id repository.ID) {
	p.t.Helper()
	env := p.get(id)
	env[len(env)-1] ^= 4
	p.ok(p.repo.Put(p.t.Context(), id, env))
}

func (p *patient) put(data []byte) repository.ID {
	p.t.Helper()
	env, err := p.cat.Key.Seal(nil, data)
	p.ok(err)
	id := p.cat.Key.ID(data)
	p.ok(p.repo.Put(p.t.Context(), id, env))
	return id
}

func (p *patient) archive(name string) *archive.Archive {
	p.t.Helper()
	a, err := p.cat.Archive(p.t.Context(), name)
	p.ok(err)
	return a
}

// refer makes the manifest name an archive.
func (p *patient) refer(name string, id repository.ID, at time.Time) {
	p.t.Helper()
	archives := maps.Clone(p.cat.Manifest.Archives)
	archives[name] = archive.ArchiveRef{ID: id, Time: at}
	p.ok(p.cat.Save(p.t.Context(), p.repo, archives))
}

// victim returns a file of several chunks, or of one if there is none.
func (p *patient) victim(name string) *archive.Item {
	p.t.Helper()
	var found *archive.Item
	for it, err := range p.cat.Items(p.t.Context(), p.archive(name)) {
		p.ok(err)
		if len(it.Chunks) > 0 && (found == nil || len(it.Chunks) > len(found.Chunks)) && it.Chunks[0] != it.Chunks[len(it.Chunks)-1] {
			found = it
		}
	}
	return found
}

// A disease is a kind of damage.
type disease struct {
	name   string
	data   bool   // only --verify-data sees it
	kind   string // what the check finds
	loses  bool   // items, or archives
	damage func(p *patient, first string) (hit repository.ID)
}

var diseases = []disease{
	{"chunk missing", false, "lost chunk", false, func(p *patient, first string) repository.ID {
		id := p.victim(first).Chunks[0].ID
		p.remove(id)
		return id
	}},
	{"chunk of another", true, "lost chunk", false, func(p *patient, first string) repository.ID {
		chunks := p.victim(first).Chunks
		p.ok(p.repo.Put(p.t.Context(), chunks[0].ID, p.get(chunks[len(chunks)-1].ID)))
		return chunks[0].ID
	}},
	{"chunk spoiled", true, "lost chunk", false, func(p *patient, first string) repository.ID {
		chunks := p.victim(first).Chunks
		p.spoil(chunks[len(chunks)-1].ID)
		return chunks[len(chunks)-1].ID
	}},
	{"first items missing", false, "lost items", true, func(p *patient, first string) (id repository.ID) {
		p.remove(p.archive(first).Items[0])
		return
	}},
	{"items in the middle missing", false, "lost items", true, func(p *patient, first string) (id repository.ID) {
		items := p.archive(first).Items
		p.remove(items[len(items)/2])
		return
	}},
	{"last items missing", false, "lost items", true, func(p *patient, first string) (id repository.ID) {
		items := p.archive(first).Items
		p.remove(items[len(items)-1])
		return
	}},
	{"items spoiled", false, "lost items", true, func(p *patient, first string) (id repository.ID) {
		p.spoil(p.archive(first).Items[0])
		return
	}},
	{"garbage among the items", false, "lost items", true, func(p *patient, first string) (id repository.ID) {
		a := p.archive(first)
		a.Items = slices.Insert(slices.Clone(a.Items), len(a.Items)/2, p.put([]byte("\x07no item at all\xff\x80")))
		p.refer(first, p.put(a.Encode()), a.Time)
		return
	}},
	{"record missing", false, "lost archive", true, func(p *patient, first string) (id repository.ID) {
		p.remove(p.cat.Manifest.Archives[first].ID)
		return
	}},
	{"record spoiled", false, "lost archive", true, func(p *patient, first string) (id repository.ID) {
		p.spoil(p.cat.Manifest.Archives[first].ID)
		return
	}},
	{"no archive", false, "lost archive", false, func(p *patient, first string) (id repository.ID) {
		p.refer("never", p.victim(first).Chunks[0].ID, time.Unix(1, 0))
		return
	}},
	{"manifest missing", false, "lost manifest", false, func(p *patient, _ string) (id repository.ID) {
		p.remove(archive.ManifestID)
		return
	}},
	{"manifest spoiled", false, "lost manifest", false, func(p *patient, _ string) (id repository.ID) {
		p.spoil(archive.ManifestID)
		return
	}},
	{"orphan", false, "orphans", false, func(p *patient, _ string) (id repository.ID) {
		p.put([]byte("nothing refers to me"))
		return
	}},
}

// status runs a command and returns its exit code and what it printed.
func status(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// A hospital is a sound repository, and the trees that its archives hold.
type hospital struct {
	repo     string // its copies take this place, as its keys are known by it
	original string
	names    []string
	trees    map[string]map[string]string // archive, path, content
}

// contents reads the regular files of a tree.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil && os.Geteuid() != 0 {
			return nil // as an ordinary user, not all that was stored can be read
		}
		files[strings.TrimPrefix(path, dir)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// extract returns what an archive holds by path, and which of it passes for damaged.
func (h *hospital) extract(t *testing.T, name string) (files map[string]string, damaged map[string]bool) {
	t.Helper()
	target := t.TempDir()
	code, _, stderr := status(t, "extract", "--target", target, h.repo+"::"+name)
	files, damaged = contents(t, target), map[string]bool{}
	for path, content := range maps.Clone(files) {
		if whole, ok := strings.CutSuffix(path, restore.DamagedSuffix); ok {
			delete(files, path)
			files[whole], damaged[whole] = content, true
		}
	}
	warns := len(damaged) > 0 || os.Geteuid() != 0 // who cannot make devices
	if code != exitOK && (!warns || code != exitWarning) {
		t.Errorf("extract %s: exit code %d: %s", name, code, stderr)
	}
	return files, damaged
}

// newHospital takes a repository that is at its place.
func newHospital(t *testing.T, repo string) *hospital {
	t.Helper()
	h := &hospital{repo: repo, original: repo + ".original", trees: map[string]map[string]string{}}
	p := openPatient(t, repo)
	for _, e := range p.cat.Archives() {
		h.names = append(h.names, e.Name)
	}
	p.close()
	for _, name := range h.names {
		h.trees[name], _ = h.extract(t, name)
	}
	if err := os.Rename(repo, h.original); err != nil {
		t.Fatal(err)
	}
	return h
}

// admit puts a fresh copy at the repository's place.
func (h *hospital) admit(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(h.repo); err != nil {
		t.Fatal(err)
	}
	copyTree(t, h.original, h.repo)
}

// compare makes sure that what archives hold is what they held, as far as it can be.
func (h *hospital) compare(t *testing.T, loses bool, mayDiffer map[string]bool) {
	t.Helper()
	p := openPatient(t, h.repo)
	left := p.cat.Manifest.Archives
	p.close()
	for _, name := range h.names {
		if _, ok := left[name]; !ok {
			if !loses {
				t.Errorf("archive %s has vanished", name)
			}
			continue
		}
		want := h.trees[name]
		got, damaged := h.extract(t, name)
		for path, content := range got {
			was, ok := want[path]
			if !ok || was != content && (!damaged[path] || !mayDiffer[path] || len(was) != len(content)) {
				t.Errorf("%s in %s has changed", path, name)
			}
		}
		for path := range want {
			if _, ok := got[path]; !ok && !loses && !mayDiffer[path] {
				t.Errorf("%s in %s is lost", path, name)
			}
		}
	}
}

// usersOf returns the paths of the files that have a chunk, and of the links to them, as they are extracted.
func (p *patient) usersOf(id repository.ID) map[string]bool {
	p.t.Helper()
	users := map[string]bool{}
	for _, e := range p.cat.Archives() {
		for it, err := range p.cat.Items(p.t.Context(), p.archive(e.Name)) {
			p.ok(err)
			if slices.ContainsFunc(it.Chunks, func(c archive.Chunk) bool { return c.ID == id }) || users["/"+it.Source] {
				users["/"+it.Path] = true
			}
		}
	}
	return users
}

// cure checks, repairs, and checks again.
func (h *hospital) cure(t *testing.T, d disease) {
	t.Helper()
	if code, out, errs := status(t, "check", h.repo); code != exitWarning && !d.data || code != exitOK && d.data {
		t.Errorf("check: exit code %d\n%s%s", code, out, errs)
	}
	code, out, errs := status(t, "check", "--verify-data", "--json", h.repo)
	if code != exitWarning || !strings.Contains(out, `"kind":"`+d.kind+`"`) {
		t.Errorf("check --verify-data: exit code %d, no %q in\n%s%s", code, d.kind, out, errs)
	}
	if code, _, errs = status(t, "check", "--verify-data", "--repair", h.repo); code != exitWarning || !strings.Contains(errs, "\nRepaired: ") {
		t.Errorf("repair: exit code %d: %s", code, errs)
	}
	if strings.Count(errs, "The repair will:") != 1 {
		t.Errorf("it is not asked once: %s", errs)
	}
	code, out, errs = status(t, "check", "--verify-data", "--repair", h.repo)
	if code != exitOK || out != "" || strings.Contains(errs, "\nRepaired: ") {
		t.Errorf("after the repair: exit code %d\n%s%s", code, out, errs)
	}
}

// borgChecks has Borg check the repository. It reads what it has upgraded.
func (h *hospital) borgChecks(t *testing.T, dir string) {
	t.Helper()
	borg := borgCommand(t)
	if borg == "" {
		return
	}
	for _, args := range [][]string{{"upgrade", "--inplace", h.repo}, {"check", "--verify-data", h.repo}} {
		cmd := exec.CommandContext(t.Context(), borg, args...)
		cmd.Env = append(os.Environ(),
			"ATTIC_KEYS_DIR="+os.Getenv("GARRET_KEYS_DIR"), "BORG_BASE_DIR="+filepath.Join(dir, "borg"),
			"BORG_PASSPHRASE=correct horse 1", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
			"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("borg %q: %v\n%s", args, err, out)
		}
	}
}

// borgCommand returns where Borg is; where it need not be, an empty path.
func borgCommand(t *testing.T) string {
	t.Helper()
	borg, err := exec.LookPath("borg")
	if err != nil && os.Getenv("GARRET_REQUIRE_BORG") == "1" {
		t.Fatal("GARRET_REQUIRE_BORG is set, and there is no borg")
	}
	if err != nil {
		t.Log("there is no borg to check it too")
	}
	return borg
}

// treeOfMany makes a tree whose items need several chunks, with links to a file of several.
func treeOfMany(t *testing.T, dir string) {
	t.Helper()
	makeTree(t, dir)
	large := filepath.Join(dir, "a-large")
	var content []byte
	r := rand.New(rand.NewPCG(1, 2))
	for range 1 << 19 {
		content = append(content, byte(r.Uint32()))
	}
	if err := os.WriteFile(large, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(large, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		name := filepath.Join(dir, fmt.Sprintf("%0200d", i))
		if err := os.WriteFile(name, []byte(strconv.Itoa(i%7)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamageIsRepaired makes each kind of damage in repositories of each kind. What a check finds a repair mends, a second
// one finds nothing, what is left extracts, and Borg agrees.
func TestDamageIsRepaired(t *testing.T) {
	each, kind := campaign.Each(t, 6), 0
	for _, encryption := range []string{"none", "passphrase", "keyfile"} {
		for _, source := range []string{"garret", "attic"} {
			kind++
			t.Run(source+" "+encryption, func(t *testing.T) {
				dir := useTestEnv(t)
				t.Setenv("GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING", "yes")
				repo := filepath.Join(dir, "repo")
				if source == "attic" {
					keys, err := filepath.Abs(filepath.Join(golden, "keys"))
					if err != nil {
						t.Fatal(err)
					}
					t.Setenv("GARRET_KEYS_DIR", keys)
					copyTree(t, filepath.Join(golden, "archive-"+encryption), repo)
				} else {
					tree := filepath.Join(dir, "tree")
					treeOfMany(t, tree)
					t.Chdir(dir)
					garret(t, "init", "-e", encryption, repo)
					garret(t, "create", repo+"::one", "tree")
					if err := os.WriteFile(filepath.Join(tree, "more"), []byte("more"), 0o644); err != nil {
						t.Fatal(err)
					}
					garret(t, "create", repo+"::two", "tree")
				}
				h := newHospital(t, repo)
				for i, d := range diseases {
					if (i+kind)%each != 0 {
						continue
					}
					t.Run(d.name, func(t *testing.T) {
						if source == "garret" && encryption == "passphrase" && i%3 != 0 {
							t.Skip("Attic's repository with a passphrase has this")
						}
						h.admit(t)
						p := openPatient(t, repo)
						hit := d.damage(p, h.names[0])
						p.close()
						h.cure(t, d)
						p = openPatient(t, h.original)
						users := p.usersOf(hit)
						p.ok(p.repo.Close())
						h.compare(t, d.loses, users)
						if source == "garret" && (encryption == "none" || encryption == "keyfile" && i%3 == 0) {
							h.borgChecks(t, dir)
						}
					})
				}
			})
		}
	}
}

// TestRandomDamageOfARepository damages segments, indexes and objects at random. One repair, asked for once or, where it
// turns out that there is more to do, twice, leaves a repository in which nothing is found; what is left of its archives
// extracts, and each file is as it was, or the archive says that something of it is lost.
func TestRandomDamageOfARepository(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	rounds := campaign.Share(t, 20, 4)
	for _, encryption := range []string{"none", "keyfile"} {
		t.Run(encryption, func(t *testing.T) {
			dir := useTestEnv(t)
			t.Setenv("GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING", "yes")
			repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
			t.Chdir(dir)
			garret(t, "init", "-e", encryption, repo)
			if err := os.Mkdir(tree, 0o755); err != nil {
				t.Fatal(err)
			}
			for n := range 3 {
				for range 15 {
					content := make([]byte, r.IntN(20_000)*r.IntN(6))
					for i := range content {
						content[i] = byte(r.Uint32())
					}
					if err := os.WriteFile(filepath.Join(tree, strconv.Itoa(r.IntN(40))), content, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				garret(t, "create", fmt.Sprintf("%s::%d", repo, n), "tree")
			}
			h := newHospital(t, repo)
			stores, archives, twice := 0, 0, 0
			defer func() {
				t.Logf("%d rounds: %d repairs of the repository, %d of archives; asked twice: %d", rounds, stores, archives, twice)
				if !t.Failed() && stores+archives == 0 {
					t.Error("nothing was repaired")
				}
			}()
			for round := range rounds {
				h.admit(t)
				var done []string
				for range 1 + r.IntN(3) {
					done = append(done, h.harm(t, r))
				}
				code, out, errs := status(t, "check", "--verify-data", "--repair", repo)
				if code != exitOK && code != exitWarning {
					t.Fatalf("round %d, %q: repair: exit code %d\n%s%s", round, done, code, out, errs)
				}
				stores += len(storeRepaired.FindAllString(errs, -1))
				archives += len(archivesRepaired.FindAllString(errs, -1))
				twice += max(0, strings.Count(errs, "The repair will:")-1)
				code, out2, errs2 := status(t, "check", "--verify-data", "--repair", repo)
				if code != exitOK || out2 != "" {
					t.Fatalf("round %d, %q: after the repair: exit code %d\n%s%s\nthe repair said\n%s%s", round, done, code, out2, errs2, out, errs)
				}
				h.compareByItems(t)
				if t.Failed() {
					t.Fatalf("round %d, %q: the repair said\n%s%s", round, done, out, errs)
				}
			}
		})
	}
}

var (
	storeRepaired    = regexp.MustCompile(`(?m)^Repaired: [\d,]+ objects?\.$`)
	archivesRepaired = regexp.MustCompile(`(?m)^Repaired: [\d,]+ archives?\.$`)
)

// harm does some damage, and says what.
func (h *hospital) harm(t *testing.T, r *rand.Rand) string {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(h.repo, "data", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	segments = slices.DeleteFunc(segments, func(path string) bool { return strings.Contains(path, "beforerecover") })
	path := segments[r.IntN(len(segments))]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	kind := r.IntN(6)
	if kind < 2 { // an object, if the repository still opens
		repo, err := repository.Open(t.Context(), h.repo, &repository.Options{Exclusive: true})
		if err == nil {
			defer repo.Close()
			ids, err := repo.List(t.Context(), 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			id := ids[r.IntN(len(ids))]
			if kind == 0 {
				err = repo.Delete(t.Context(), id)
			} else if env, getErr := repo.Get(t.Context(), ids[r.IntN(len(ids))]); getErr == nil {
				err = repo.Put(t.Context(), id, env)
			}
			if err == nil {
				err = repo.Commit(t.Context())
			}
			return fmt.Sprintf("object %v: %d, %v", id, kind, err)
		}
		kind = 2
	}
	switch kind {
	case 2, 3:
		at := r.IntN(len(data))
		data[at] ^= byte(1 + r.IntN(255))
		name += fmt.Sprintf(": flipped at %d", at)
	case 4:
		at := r.IntN(len(data))
		data = data[:at]
		name += fmt.Sprintf(": cut off at %d", at)
	case 5:
		files, err := filepath.Glob(filepath.Join(h.repo, "*[0-9]"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(files, filepath.Join(h.repo, "garret.tables")) {
			os.Remove(f)
		}
		return "the index: removed"
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// compareByItems makes sure that what archives hold is what they held, but for files of which they say that something is
// lost.
func (h *hospital) compareByItems(t *testing.T) {
	t.Helper()
	p := openPatient(t, h.repo)
	patched := map[string]map[string]bool{}
	for _, e := range p.cat.Archives() {
		patched[e.Name] = map[string]bool{}
		for it, err := range p.cat.Items(t.Context(), p.archive(e.Name)) {
			p.ok(err)
			patched[e.Name]["/"+it.Path] = it.Patched()
		}
	}
	p.close()
	for name, patches := range patched {
		want := h.trees[name]
		got, damaged := h.extract(t, name)
		for path, content := range got {
			if patches[path] != damaged[path] {
				t.Errorf("%s in %s: patched %v, extracted as damaged %v", path, name, patches[path], damaged[path])
			}
			if strings.HasPrefix(name, "salvaged") {
				for _, tree := range h.trees { // it may be of any of them
					was, ok := tree[path]
					if want = tree; ok && (was == content || patches[path] && len(was) == len(content)) {
						break
					}
				}
			}
			if was, ok := want[path]; !ok || was != content && (!patches[path] || len(was) != len(content)) {
				t.Errorf("%s in %s has changed, and does not say so", path, name)
			}
		}
	}
}
