package cli

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"garret/internal/ui"
)

// repositoryCommands are the commands that open a repository, or make one, as they are given for the repository at REPO and a
// folder DIR. What they would do first, without a repository, must go well.
var repositoryCommands = []string{
	"init REPO", "init --append-only REPO", "init -e keyfile REPO", "init -e passphrase REPO",
	"backup DIR/tree",
	"create REPO::a DIR/tree", "create --dry-run REPO::a DIR/tree",
	"import-tar REPO::a DIR/a.tar",
	"list REPO", "list REPO::a", "info REPO", "info REPO::a", "info --transactions REPO",
	"find REPO x", "diff REPO::a b",
	"extract -t DIR/out REPO::a", "extract --dry-run REPO::a", "verify REPO::a", "export-tar REPO::a DIR/out.tar",
	"mount --foreground REPO DIR/point",
	"delete REPO::a", "prune --keep-daily 1 REPO", "rename REPO::a b",
	"comment REPO::a text", "tag --add x REPO::a",
	"check REPO", "check --verify-data REPO", "check --repair REPO", "check --repair --verify-data REPO",
	"check --repair --repository-only REPO", "check --repair --archives-only REPO", "check --max-duration 5 REPO",
	"compact REPO", "rollback REPO 1",
	"object list REPO", "object get REPO ID", "object put REPO ID", "object delete REPO ID",
	"key export REPO DIR/key", "key export --paper REPO", "key import REPO DIR/a.tar", "key import --replace REPO DIR/a.tar",
	"change-passphrase REPO",
}

// nearCommands are those of them that are done on the repository's own machine alone.
var nearCommands = []string{"init --append-only REPO", "info --transactions REPO", "rollback REPO 1"}

func TestEveryRepositoryCommandIsKnownToTests(t *testing.T) {
	a := &app{ui: ui.New(nil, nil)}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.TrimPrefix(cmd.CommandPath(), "garret ")
		if strings.Contains(cmd.Use, "REPO") && !slices.ContainsFunc(repositoryCommands, func(line string) bool {
			return strings.HasPrefix(line, path+" ")
		}) {
			t.Errorf("%q is not among them", path)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(a.root())
}

// peer returns the path of another backup program, or skips the test if there is none and none is required.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if required := "GARRET_REQUIRE_" + strings.ToUpper(name); os.Getenv(required) == "1" {
			t.Fatalf("%s is set, and there is no %s", required, name)
		}
		t.Skipf("there is no %s to hold garret against", name)
	}
	return path
}

// everything returns all that there is to see of a folder.
func everything(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		seen := info.Mode().String() + " " + info.ModTime().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			seen += " " + string(content)
		}
		all[path] = seen
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestOtherRepositories runs every command on repositories of other programs, near and through a server.
func TestOtherRepositories(t *testing.T) {
	run := func(t *testing.T, dir string, vars []string, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), vars...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	for _, c := range []struct {
		name, what string
		make       func(t *testing.T, dir, repo string)
	}{
		{"Borg", "a Borg 1 repository, which borg opens", func(t *testing.T, dir, repo string) {
			borg := peer(t, "borg")
			vars := []string{"BORG_BASE_DIR=" + filepath.Join(dir, "borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes"}
			run(t, dir, vars, borg, "init", "-e", "none", repo)
			run(t, dir, vars, borg, "create", repo+"::a", "tree")
		}},
		{"restic", "a restic repository, which restic opens", func(t *testing.T, dir, repo string) {
			restic := peer(t, "restic")
			vars := []string{"RESTIC_PASSWORD=secret", "RESTIC_REPOSITORY=" + repo, "RESTIC_CACHE_DIR=" + filepath.Join(dir, "restic")}
			run(t, dir, vars, restic, "init")
			run(t, dir, vars, restic, "backup", "tree")
		}},
		{"kopia", "a kopia repository, which kopia opens", func(t *testing.T, _, repo string) {
			files := map[string]string{
				"kopia.repository.f": `{"tool":"https://github.com/kopia/kopia"}`, "kopia.blobcfg.f": "x",
				".shards": "{}", "p0/a1/b2.f": "x", "q4/5c/6d.f": "x", "_log/1.f": "x",
			}
			for name, content := range files {
				writeFile(t, filepath.Join(repo, name), content)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := useTestEnv(t)
			t.Setenv("GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING", "yes")
			t.Setenv("GARRET_ROLLBACK_I_KNOW_WHAT_I_AM_DOING", "yes")
			t.Setenv("GARRET_NEW_PASSPHRASE", "correct horse 2")
			writeFile(t, filepath.Join(dir, "tree", "a"), "content")
			writeFile(t, filepath.Join(dir, "a.tar"), "")
			for _, folder := range []string{"point", "out"} {
				if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			repo := filepath.Join(dir, "repo")
			c.make(t, dir, repo)
			before := everything(t, repo)
			places := []string{repo}
			if c.name == "Borg" && !testing.Short() { // each command starts a process there
				rsh := filepath.Join(dir, "rsh")
				writeFile(t, rsh, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n")
				if err := os.Chmod(rsh, 0o700); err != nil {
					t.Fatal(err)
				}
				t.Setenv("GARRET_RSH", rsh)
				t.Setenv("GARRET_REMOTE_PATH", "garret")
				places = append(places, "host:"+repo)
			}
			for _, place := range places {
				t.Setenv(repoVar, place)
				for _, line := range repositoryCommands {
					args := strings.Fields(strings.NewReplacer("REPO", place, "DIR", dir, "ID", strings.Repeat("0", 64)).Replace(line))
					var stdout, stderr bytes.Buffer
					code := Run(t.Context(), args, strings.NewReader("data"), &stdout, &stderr)
					if place != repo && code == exitError && slices.Contains(nearCommands, line) {
						continue
					}
					want := "garret: \"" + repo + "\" is " + c.what + "; nothing in it has been changed\n"
					told := strings.TrimPrefix(stderr.String(), `Warning: "garret verify" has been deprecated. Use "garret extract --dry-run" instead.`+"\n")
					if code != exitNoRepository || told != want || stdout.Len() > 0 {
						t.Errorf("%q at %s: exit code %d, %q, %q, want %q", line, place, code, stdout.String(), told, want)
					}
				}
			}
			if after := everything(t, repo); !maps.Equal(before, after) {
				for path := range after {
					if before[path] != after[path] {
						t.Errorf("%s is not as it was", path)
					}
				}
				t.Error("the repository has changed")
			}
		})
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
