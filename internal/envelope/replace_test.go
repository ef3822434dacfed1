package envelope

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"garret/internal/campaign"
	"garret/repository"
)

var regexpNumbers = regexp.MustCompile(`(?m)^ ?[0-9]+:`)

// replacing names the variable that makes the test below replace a key file without end.
const replacing = "GARRET_TEST_REPLACE_KEYFILE"

// A process that replaces a key file is killed, again and again: the file is the one or the other, whole.
func TestKilledReplacementLeavesAKeyFile(t *testing.T) {
	id := repository.ID{7}
	if path := os.Getenv(replacing); path != "" {
		a, errA := ReadKeyfile(path+".a", id)
		b, errB := ReadKeyfile(path+".b", id)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for {
			for _, f := range []*Keyfile{a, b} {
				if err := f.Replace(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	k, err := NewKeyfile(id)
	if err != nil {
		t.Fatal(err)
	}
	var texts [2][]byte
	for i, name := range []string{".a", ".b"} {
		if err := k.SaveKeyfile(path+name, name); err != nil {
			t.Fatal(err)
		}
		if texts[i], err = os.ReadFile(path + name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, texts[0], 0o600); err != nil {
		t.Fatal(err)
	}
	rounds := campaign.Share(t, 40, 8)
	seen := [2]int{}
	for i := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledReplacementLeavesAKeyFile$")
		cmd.Env = append(os.Environ(), replacing+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Millisecond + time.Duration(i)*997*time.Microsecond)
		cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("it ended by itself: %v", err)
		}
		got, err := os.ReadFile(path)
		switch {
		case err == nil && bytes.Equal(got, texts[0]):
			seen[0]++
		case err == nil && bytes.Equal(got, texts[1]):
			seen[1]++
		default:
			t.Fatalf("%q, %v", got, err)
		}
		if found, err := FindKeyfile([]string{dir}, id); err != nil || found != path {
			t.Fatalf("found %q, %v", found, err)
		}
	}
	t.Logf("the file was the one %d times, the other %d times", seen[0], seen[1])
}

func TestKeyfileIsReplacedOrLeft(t *testing.T) {
	dir := t.TempDir()
	id := repository.ID{7}
	k, err := NewKeyfile(id)
	if err != nil {
		t.Fatal(err)
	}
	path, link := filepath.Join(dir, "keys", "k"), filepath.Join(dir, "link")
	if err := k.SaveKeyfile(path, "old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	leftover, recent := filepath.Join(dir, "keys", tempPrefix+"1"), filepath.Join(dir, "keys", tempPrefix+"2")
	for _, name := range []string{leftover, recent} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(leftover, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := k.ChangePassphrase(link, "new"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is now %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file has %v, %v", info.Mode(), err)
	}
	again, err := LoadKeyfile(path, id, "new")
	if err != nil || again.material != k.material {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := LoadKeyfile(path, id, "old"); !errors.Is(err, ErrWrongPassphrase) {
		t.Errorf("with the old passphrase: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 2 || filepath.Join(dir, "keys", entries[0].Name()) != recent {
		t.Errorf("left behind: %v", entries)
	}
	if err := k.ChangePassphrase(filepath.Join(dir, "none"), "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}
