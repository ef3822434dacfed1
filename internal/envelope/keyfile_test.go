package envelope

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/internal/rawpack"
	"garret/repository"
)

// goldenKey is a key file that the reference wrote.
const (
	goldenKey        = "testdata/attic.key"
	goldenKeyID      = "912e66c5d1c967480a7dc2166fb3982e79dd6af7718f6e55e4387a5fd19c755f"
	goldenPassphrase = "correct horse 1"
)

func goldenID(t testing.TB) repository.ID {
	t.Helper()
	id, err := repository.ParseID(goldenKeyID)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestKeyfileOfTheReferenceOpens(t *testing.T) {
	id := goldenID(t)
	k, err := LoadKeyfile(goldenKey, id, goldenPassphrase)
	if err != nil || k.Type() != KeyfileType {
		t.Fatal(k, err)
	}
	if _, err := LoadKeyfile(goldenKey, id, "wrong horse"); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := LoadKeyfile(goldenKey, repository.ID{1}, goldenPassphrase); !errors.Is(err, ErrKeyfile) {
		t.Errorf("another repository's: %v", err)
	}
	if _, err := LoadKeyfile("testdata/missing", id, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestKeyfileIsWrittenInTheReferencesForm(t *testing.T) {
	id := goldenID(t)
	k, err := LoadKeyfile(goldenKey, id, goldenPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.encodeKeyfile(goldenPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	// Salt, hash and what is encrypted differ; all else is the same.
	mask := func(file []byte) string {
		head, body, _ := bytes.Cut(file, []byte("\n"))
		packed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		r := rawpack.NewReader(packed)
		r.Map(func(key string) {
			switch value := r.Value(); key {
			case "salt", "hash", "data":
				clear(value[3:])
			}
		})
		var lengths []string
		for line := range strings.Lines(string(body)) {
			lengths = append(lengths, strings.Repeat("-", len(line)))
		}
		return string(head) + string(packed) + strings.Join(lengths, "\n")
	}
	if mask(got) != mask(want) {
		t.Errorf("got\n%q, want\n%q", mask(got), mask(want))
	}
	// And so is what is inside.
	again, err := decodeKeyfile(got, id, goldenPassphrase)
	if err != nil || again.material != k.material {
		t.Errorf("%v, %v", again, err)
	}
}

func TestSavedKeyfileIsTheOwnersAloneAndLoads(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "keys")
	k, err := NewKeyfile(repository.ID{7})
	if err != nil {
		t.Fatal(err)
	}
	path := KeyfilePath(dir, "", "/x/y")
	if err := k.SaveKeyfile(path, ""); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	got, err := LoadKeyfile(path, repository.ID{7}, "")
	if err != nil || got.material != k.material {
		t.Errorf("%v, %v", got, err)
	}
	before, _ := os.ReadFile(path)
	if err := k.SaveKeyfile(path, "other"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("saved over another: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := NewPlaintext().SaveKeyfile(filepath.Join(dir, "z"), ""); err == nil {
		t.Error("a plaintext key was saved")
	}
}

func TestKeyfilesAreNamedAsTheReferenceDoes(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ host, path, want string }{
		{"", "/some/path.attic", "some_path_attic"},
		{"", "repo", "repo"},
		{"", "/Büro/a-b_/", "Büro_a_b"},
		{"example.org", "/some/path", "example.org__some_path"},
		{"../x", "/p", ".._x__p"},
		{"", "/", "key"},
	} {
		if got := KeyfilePath(dir, tt.host, tt.path); got != filepath.Join(dir, tt.want) {
			t.Errorf("%q %q: %s, want %s", tt.host, tt.path, got, tt.want)
		}
	}
	for _, want := range []string{"r", "r.2", "r.3"} {
		got := KeyfilePath(dir, "", "r")
		if got != filepath.Join(dir, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if err := os.WriteFile(got, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeyfileIsFoundByTheRepositorysID(t *testing.T) {
	old, fresh := t.TempDir(), filepath.Join(t.TempDir(), "missing")
	key, err := os.ReadFile(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"a": nil, "b": []byte("ATTIC KEY 00\n"), tempPrefix + "1": key, "k": key, "c": bytes.Repeat([]byte("x"), 1<<20),
	} {
		if err := os.WriteFile(filepath.Join(old, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(old, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	dirs := []string{fresh, old}
	if got, err := FindKeyfile(dirs, goldenID(t)); got != filepath.Join(old, "k") || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := FindKeyfile(dirs, repository.ID{1}); !errors.Is(err, ErrNoKeyfile) {
		t.Error(err)
	}
}

func TestKeysDirFollowsTheEnvironment(t *testing.T) {
	home := t.TempDir()
	for _, tt := range []struct {
		garret, attic, xdg string
		dirs               []string
	}{
		{"/g", "/a", "/x", []string{"/g"}},
		{"", "/a", "/x", []string{"/a"}},
		{"", "", "/x", []string{"/x/garret/keys", home + "/.attic/keys"}},
		{"", "", "", []string{home + "/.config/garret/keys", home + "/.attic/keys"}},
	} {
		t.Setenv("HOME", home)
		t.Setenv("GARRET_KEYS_DIR", tt.garret)
		t.Setenv("ATTIC_KEYS_DIR", tt.attic)
		t.Setenv("XDG_CONFIG_HOME", tt.xdg)
		dirs, err := KeysDirs()
		if err != nil || strings.Join(dirs, " ") != strings.Join(tt.dirs, " ") {
			t.Errorf("%v, %v, want %v", dirs, err, tt.dirs)
		}
		if dir, err := KeysDir(); err != nil || dir != tt.dirs[0] {
			t.Errorf("%v, %v, want %v", dir, err, tt.dirs[0])
		}
	}
}

// keyfileOf returns the text of a key file with the packed map.
func keyfileOf(id repository.ID, packed []byte) []byte {
	return []byte(keyfileMagic + id.String() + "\n" + base64.StdEncoding.EncodeToString(packed) + "\n")
}

func TestMalformedKeyfilesAreRefused(t *testing.T) {
	good, err := os.ReadFile(goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	id := goldenID(t)
	with := func(iterations int64, alg string, version int64) []byte {
		b := rawpack.AppendMapHeader(nil, 6)
		b = rawpack.AppendInt(rawpack.AppendRaw(b, "version"), version)
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, "salt"), make([]byte, 32))
		b = rawpack.AppendInt(rawpack.AppendRaw(b, "iterations"), iterations)
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, "algorithm"), alg)
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, "hash"), make([]byte, 32))
		return keyfileOf(id, rawpack.AppendRaw(rawpack.AppendRaw(b, "data"), "x"))
	}
	for name, data := range map[string][]byte{
		"empty":               nil,
		"other text":          []byte("BORG_KEY " + goldenKeyID + "\n"),
		"head alone":          good[:strings.IndexByte(string(good), '\n')+1],
		"cut off":             good[:len(good)-100],
		"no base64":           append(bytes.Clone(good), '!'),
		"no map":              keyfileOf(id, []byte{1}),
		"work without end":    with(1<<40, algorithm, 1),
		"work just too much":  with(maxKDFIterations+1, algorithm, 1),
		"no work":             with(0, algorithm, 1),
		"another algorithm":   with(1, "md5", 1),
		"a version to come":   with(1, algorithm, 2),
		"much more than that": bytes.Repeat(good, 200),
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyfile(path, id, goldenPassphrase)
		isNewer := name == "another algorithm" || name == "a version to come"
		if !errors.Is(err, ErrKeyfile) || errors.Is(err, repository.ErrNewer) != isNewer {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeKeyfile(with(1, algorithm, 1), id, ""); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("sound, but for another passphrase: %v", err)
	}
}

func FuzzKeyfile(f *testing.F) {
	good, err := os.ReadFile(goldenKey)
	if err != nil {
		f.Fatal(err)
	}
	id := goldenID(f)
	_, body, _ := bytes.Cut(good, []byte("\n"))
	packed, _ := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(body), "\n", ""))
	f.Add(packed)
	f.Fuzz(func(t *testing.T, packed []byte) {
		// A few iterations are enough for the fuzzer; that many are refused is tested above.
		r := rawpack.NewReader(packed)
		r.Map(func(key string) {
			if key == "iterations" {
				if r.Int(1, maxKDFIterations) > 200_000 {
					t.Skip("too slow")
				}
			} else {
				r.Value()
			}
		})
		k, err := decodeKeyfile(keyfileOf(id, packed), id, goldenPassphrase)
		if (k == nil) == (err == nil) {
			t.Errorf("%v, %v", k, err)
		}
		if err != nil && !errors.Is(err, ErrKeyfile) && !errors.Is(err, ErrWrongPassphrase) {
			t.Error(err)
		}
	})
}

func TestOpenKeyAsksAgainThreeTimes(t *testing.T) {
	unset(t, "GARRET_PASSPHRASE")
	unset(t, "ATTIC_PASSPHRASE")
	id := goldenID(t)
	k, err := LoadKeyfile(goldenKey, id, goldenPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	k.UseNonces(new(counter))
	env, err := k.Seal(nil, []byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, _ := os.ReadFile(goldenKey)
	if err := os.WriteFile(filepath.Join(dir, "k"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	pass, err := NewPassphrase(id, goldenPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	pass.UseNonces(new(counter))
	passEnv, err := pass.Seal(nil, []byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range [][]byte{env, passEnv} {
		o := OpenOptions{RepositoryID: id, Location: "/repo", Envelope: env, KeysDirs: []string{dir}}
		if _, err := OpenKey(o); !errors.Is(err, ErrNoPassphrase) {
			t.Errorf("nobody to ask: %v", err)
		}
		answers := []string{"a", "b", goldenPassphrase}
		asked := 0
		o.Ask = func(prompt string) (string, error) {
			asked++
			return answers[min(asked, len(answers))-1], nil
		}
		if k, err := OpenKey(o); err != nil || k.Type() != Type(env[0]) || asked != 3 {
			t.Errorf("asked %d times: %v, %v", asked, k, err)
		}
		asked, answers = 0, []string{"a"}
		if _, err := OpenKey(o); !errors.Is(err, ErrWrongPassphrase) || asked != 3 {
			t.Errorf("asked %d times: %v", asked, err)
		}
		asked = 0
		gone := errors.New("gone")
		o.Ask = func(string) (string, error) { asked++; return "", gone }
		if _, err := OpenKey(o); !errors.Is(err, gone) || asked != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	}

	t.Setenv("ATTIC_PASSPHRASE", goldenPassphrase)
	o := OpenOptions{RepositoryID: id, Envelope: env, KeysDirs: []string{dir}}
	if _, err := OpenKey(o); err != nil {
		t.Errorf("ATTIC_PASSPHRASE: %v", err)
	}
	t.Setenv("GARRET_PASSPHRASE", "wrong")
	o.Ask = func(string) (string, error) { t.Error("asked"); return "", nil }
	if _, err := OpenKey(o); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("GARRET_PASSPHRASE: %v", err)
	}
	o.KeysDirs = []string{t.TempDir()}
	if _, err := OpenKey(o); !errors.Is(err, ErrNoKeyfile) {
		t.Errorf("no key file: %v", err)
	}
	o.Envelope = nil
	if _, err := OpenKey(o); !errors.Is(err, repository.ErrIntegrity) {
		t.Errorf("no envelope: %v", err)
	}
}

// unset removes a variable from the environment for the rest of the test.
func unset(t *testing.T, name string) {
	t.Setenv(name, "") // which restores it
	os.Unsetenv(name)
}

func TestDamagedCopyOfKeyfileHidesNoSoundOne(t *testing.T) {
	dir := t.TempDir()
	id := repository.ID{7}
	k, err := NewKeyfile(id)
	if err != nil {
		t.Fatal(err)
	}
	sound := filepath.Join(dir, "sound")
	if err := k.SaveKeyfile(sound, "x"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "a copy")
	if err := os.WriteFile(damaged, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := FindKeyfile([]string{dir}, id); err != nil || got != sound {
		t.Errorf("found %q, %v", got, err)
	}
	if err := os.Remove(sound); err != nil {
		t.Fatal(err)
	}
	if got, err := FindKeyfile([]string{dir}, id); err != nil || got != damaged {
		t.Errorf("without the sound one found %q, %v", got, err)
	}
}
