package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// commands returns the commands under a heading of the README: the lines that are indented.
func commands(t *testing.T, readme, heading string) string {
	t.Helper()
	_, section, ok := strings.Cut(readme, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			script.WriteString(command)
		}
	}
	if script.Len() == 0 {
		t.Fatalf("section %q of the README has no commands", heading)
	}
	return script.String()
}

// The tour of the README is followed to the letter, by a person with some pictures and an old Attic repository.
func TestTheTourOfTheREADME(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command to install it with")
	}
	home := t.TempDir()
	for name, content := range map[string]string{
		"Pictures/2025/beach.jpg":  strings.Repeat("waves ", 50000),
		"Pictures/2026/garden.jpg": strings.Repeat("roses ", 70000),
		"Pictures/.cache/thumb":    "small",
	} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(home, "old/attic"), os.DirFS(filepath.Join(golden, "archive-none"))); err != nil {
		t.Fatal(err)
	}
	env := []string{ // what the person has, and what they would type when asked
		"HOME=" + home,
		"PATH=" + filepath.Join(home, "go/bin") + ":" + filepath.Dir(goCommand) + ":" + os.Getenv("PATH"),
		"GARRET_PASSPHRASE=correct horse", "GARRET_NEW_PASSPHRASE=correct horse",
		"GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING=yes",
	}
	for _, name := range []string{"GOMODCACHE", "GOPROXY", "GOFLAGS", "GOSUMDB"} {
		if out, err := exec.Command(goCommand, "env", name).Output(); err == nil {
			env = append(env, name+"="+strings.TrimSpace(string(out)))
		}
	}
	if out, err := exec.Command(goCommand, "env", "GOCACHE").Output(); err == nil {
		env = append(env, "GOCACHE="+strings.TrimSpace(string(out)))
	}
	for _, heading := range []string{"A tour", "Archives as folders", "An old Attic repository"} {
		if fuse, err := fuseCondition(); heading == "Archives as folders" && (err != nil || !fuse) {
			t.Logf("%s: skipped, as this process may not mount (%v)", heading, err)
			continue
		}
		cmd := exec.Command("sh", "-eux", "-c", commands(t, string(readme), heading))
		cmd.Dir, cmd.Env = "../..", env
		out, err := cmd.CombinedOutput()
		t.Logf("%s:\n%s", heading, out)
		if err != nil {
			t.Fatalf("%s: %v", heading, err)
		}
	}
	want, err := os.ReadFile(filepath.Join(home, "Pictures/2025/beach.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(home, "restored", home, "Pictures/2025/beach.jpg"))
	if err != nil || string(got) != string(want) {
		t.Errorf("the picture is not as it was: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Join(home, "from-attic")); err != nil || len(entries) == 0 {
		t.Errorf("nothing came back from the old repository: %v", err)
	}
}
