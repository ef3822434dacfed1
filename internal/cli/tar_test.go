package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// goldenCopy returns a copy of a repository that Attic wrote, and what Attic says of it.
func goldenCopy(t *testing.T, dir, name string) (string, goldenRepo) {
	t.Helper()
	repo := filepath.Join(dir, "repo")
	copyTree(t, filepath.Join(golden, name), repo)
	var want goldenRepo
	data, err := os.ReadFile(filepath.Join(golden, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	return repo, want
}

func TestTarsKeepAllThatAtticKept(t *testing.T) {
	dir := useTestEnv(t)
	repo, want := goldenCopy(t, dir, "archive-none")
	for name := range want.Archives {
		file := filepath.Join(dir, name+".tar.gz")
		garret(t, "export-tar", repo+"::"+name, file)
		garret(t, "import-tar", repo+"::again-"+name, file)
		if out := garret(t, "diff", "--mtime", repo+"::"+name, "again-"+name); out != "" {
			t.Errorf("archive %q as a tar and back differs:\n%s", name, out)
		}
	}
	garret(t, "check", repo)
}

// gnuTarAll are the options for all that GNU tar can keep.
var gnuTarAll = []string{"--xattrs", "--xattrs-include=*", "--acls"}

// gnuTar runs GNU tar, or skips the test.
func gnuTar(t *testing.T, args ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can restore owners and devices")
	}
	version, err := exec.CommandContext(t.Context(), "tar", "--version").Output()
	if err != nil || !strings.Contains(string(version), "GNU tar") {
		t.Skip("there is no GNU tar")
	}
	args = append([]string{"--warning=no-timestamp"}, args...)
	cmd := exec.CommandContext(t.Context(), "tar", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	switch said := stderr.String(); {
	case strings.Contains(said, "not supported"), strings.Contains(said, "not permitted"):
		t.Skipf("the file system cannot hold what is in the archive: %s", said)
	case err != nil:
		t.Fatalf("tar %q: %v: %s", args, err, said)
	case said != "":
		t.Logf("tar %q: %s", args, said)
	}
}

// TestGNUTarReadsAndWritesWhatGarretDoes takes a golden archive the long way round: out as a tar, onto the disk by GNU tar,
// back into a tar by it, and in again.
func TestGNUTarReadsAndWritesWhatGarretDoes(t *testing.T) {
	dir := useTestEnv(t)
	repo, want := goldenCopy(t, dir, "archive-none")
	file, tree := filepath.Join(dir, "one.tar"), filepath.Join(dir, "tree")
	garret(t, "export-tar", repo+"::one", file)
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	gnuTar(t, append(gnuTarAll, "-C", tree, "-xpf", file)...)
	for _, it := range want.Archives["one"].Items {
		compareGolden(t, tree, it)
	}
	posix, gnu := filepath.Join(dir, "posix.tar"), filepath.Join(dir, "gnu.tar")
	gnuTar(t, append(gnuTarAll, "-C", tree, "--format=posix", "-cf", posix, "input")...)
	gnuTar(t, "-C", tree, "--format=gnu", "-cf", gnu, "input")
	garret(t, "import-tar", repo+"::posix", posix)
	garret(t, "import-tar", repo+"::gnu", gnu)
	if out := garret(t, "diff", "--mtime", repo+"::one", "posix"); out != "" {
		t.Errorf("the archive differs from what GNU tar makes of it:\n%s", out)
	}
	// The older format has neither fractions of seconds nor attributes.
	for line := range strings.Lines(garret(t, "diff", repo+"::one", "gnu")) {
		if !strings.HasPrefix(line, "changed  xattrs user.") && !strings.HasPrefix(line, "changed  ACL") {
			t.Error(line)
		}
	}
	garret(t, "check", repo)
}

// A canceller cancels a context as soon as something is written.
type canceller struct{ cancel func() }

func (c canceller) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

func TestAnInterruptedTarLeavesNothing(t *testing.T) {
	dir := useTestEnv(t)
	repo, _ := goldenCopy(t, dir, "archive-none")
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	code := Run(ctx, []string{"export-tar", "-v", repo + "::one", filepath.Join(out, "one.tar")}, nil, io.Discard, canceller{cancel})
	if entries, err := os.ReadDir(out); code != exitInterrupted || err != nil || len(entries) > 0 {
		t.Errorf("exit code %d, and there is %v, %v", code, entries, err)
	}

	// Nor does it wait for who writes the tar.
	ctx, cancel = context.WithCancel(t.Context())
	stdin, _ := io.Pipe()
	time.AfterFunc(100*time.Millisecond, cancel)
	if code := Run(ctx, []string{"import-tar", repo + "::new", "-"}, stdin, io.Discard, io.Discard); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if list := garret(t, "list", "--short", repo); strings.Contains(list, "new") {
		t.Errorf("the archives are %s", list)
	}
	garret(t, "check", repo)
}
