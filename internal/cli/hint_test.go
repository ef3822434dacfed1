package cli

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The ways in which a command stands in a text: between quotation marks, as an example on a line of its own, perhaps with
// an explanation, and behind a colon at the end.
var commandForms = []*regexp.Regexp{
	regexp.MustCompile(`"((?:ssh HOST )?garret [a-z][^"]*)"`),
	regexp.MustCompile(`(?m)^  ((?:\S[^|\n]* \| |[A-Z_]+="[^"]*" )?garret [a-z].*?)(?:   .*)?$`),
	regexp.MustCompile(`(?m): ((?:%s -dc FILE \| )?garret .*)$`),
}

// printedCommands returns the commands in the texts of the program, with the file that has them, and what looks like a
// command and has none of the forms.
func printedCommands(t *testing.T) (found, strange map[string]string) {
	t.Helper()
	var names []string
	for _, c := range (&app{stdout: &output{}}).root().Commands() {
		names = append(names, c.Name())
	}
	bare := regexp.MustCompile(`\bgarret (` + strings.Join(names, "|") + `)\b.*`)
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../repository/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found, strange = map[string]string{}, map[string]string{}
	for _, path := range append(files, more...) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range commandForms {
				for _, m := range form.FindAllStringSubmatch(text, -1) {
					found[m[1]] = path
				}
				text = form.ReplaceAllString(text, "")
			}
			for _, m := range bare.FindAllString(text, -1) {
				strange[m] = path
			}
			return true
		})
	}
	return found, strange
}

func TestNoCommandIsPrintedThatTheTestsDoNotFind(t *testing.T) {
	found, strange := printedCommands(t)
	for text, path := range strange {
		t.Errorf("%s: %q: a command stands between quotation marks, as an example, or behind a colon at the end", path, text)
	}
	if len(found) < 80 {
		t.Errorf("only %d commands are found", len(found))
	}
}

// completions are what a person adds to a command that is only named.
var completions = map[string]string{
	"garret extract --dry-run": " ::monday",
	"garret verify":            " ::monday",
	"garret delete":            " ::monday",
	"garret tag --add ":        "holiday ::monday",
	"garret prune":             " --dry-run -d 7",
	"garret mount":             " /mnt/photos",
	"garret umount":            " /mnt/photos",
	"garret rollback":          " --dry-run 4711",
	"garret key":               " --help",
	"garret object":            " --help",
	"garret key export":        " /backup/photos /media/stick/photos.key",
	"garret comment":           " ::monday 'the first one'",
	"garret rename":            " ::monday sunday",
	"garret tag":               " --add holiday ::monday",
	"garret mount -a":          " 'm*' /mnt/photos",

	"garret mount --match-archives": " 'm*' /mnt/photos",
}

// filledIn replaces the words in whose place a person puts something.
var filledIn = strings.NewReplacer(
	"extract --stdout REPO::ARCHIVE PATH", "extract --stdout /backup/photos::monday Pictures/IMG_1234.jpg",
	"extract REPO::ARCHIVE PATH...", "extract /backup/photos::monday Pictures", "--target FOLDER", "--target /tmp/back",
	"extract REPO::ARCHIVE", "extract /backup/photos::monday",
	"REPO::LAST PATH", "/backup/photos::tuesday Pictures", "PATH...", "~/Pictures", "REPO::ARCHIVE", "/backup/photos::new",
	"REPO", "/backup/photos", "MOUNTPOINT", "/mnt/photos", "%s -dc FILE", "gzip -dc old-backup.tar.gz", "HOST", "host",
	"COMMAND [ARGUMENT...]", "echo data",
)

// TestEveryCommandThatIsPrintedRuns types all commands of the help and the messages, in a world in which what they are about is there.
func TestEveryCommandThatIsPrintedRuns(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	plain, encrypted := newHintWorld(t, shell, "none"), newHintWorld(t, shell, "keyfile")
	whole := newHintWorld(t, shell, "none --append-only") // of which every state is there
	found, _ := printedCommands(t)
	for _, text := range slices.Sorted(maps.Keys(found)) {
		if fuse, err := fuseCondition(); strings.Contains(text, "mount ") && (err != nil || !fuse) {
			continue
		}
		w := plain
		switch {
		case strings.Contains(text, "rollback"):
			w = whole
		case strings.Contains(text, "key") || strings.Contains(text, "passphrase"):
			w = encrypted
		}
		w.try(t, text+completions[text], found[text])
	}
}

// A hintWorld is a folder with repositories, files and other programs, of which each command has a copy.
type hintWorld struct {
	shell, template string
	transaction     string // one that can be gone back to
}

func newHintWorld(t *testing.T, shell, encryption string) *hintWorld {
	t.Helper()
	w := &hintWorld{shell: shell, template: t.TempDir()}
	for name, content := range map[string]string{
		"home/Pictures/2024/cat.jpg": "cat", "home/Pictures/IMG_1234.jpg": "img", "Pictures/2024/cat.jpg": "cat",
		"Pictures/IMG_1234.jpg": "img", "home/ann/budget.ods": "budget", "mail/inbox": "mail", "main.go": "package main", "etc/hosts": "hosts",
		"bin/jq": "cat", "bin/lp": "cat", "bin/less": "cat", "bin/xxd": "cat", "bin/pg_dump": "echo dump", "bin/pass": "echo correct horse",
		"bin/ssh": `shift; eval "$*"`, "stick/empty": "",
	} {
		path := filepath.Join(w.template, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if dir, _, _ := strings.Cut(name, "/"); dir == "bin" {
			content = "#!/bin/sh\n" + content + "\n"
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"backup", "mnt/photos"} {
		if err := os.MkdirAll(filepath.Join(w.template, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := w.run(t, w.template, "garret init -e "+encryption+` /backup/photos
		for a in monday tuesday wednesday home-2019-1 trip-1; do garret create --tag trip ::$a Pictures home/ann/budget.ods mail; echo $a >mail/$a; done
		garret export-tar ::monday old-backup.tar.gz
		if test "`+encryption+`" = keyfile; then
			garret key export /backup/photos /media/stick/photos.key
			garret key export --paper >paper
		fi
		for r in home mail servers ann shared; do garret init -e none /backup/$r; done
		garret create /backup/mail::monday mail
		echo; garret info --transactions --json`)
	var numbers []string
	for line := range strings.Lines(out) {
		var transaction struct{ Transaction int }
		if json.Unmarshal([]byte(line), &transaction) == nil && transaction.Transaction > 0 {
			numbers = append(numbers, strconv.Itoa(transaction.Transaction))
		}
	}
	if len(numbers) < 2 {
		t.Fatalf("there is no transaction to go back to: %s", out)
	}
	w.transaction = numbers[len(numbers)-2]
	return w
}

// try types a command.
func (w *hintWorld) try(t *testing.T, text, path string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.template)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountBelow(dir) })
	script := strings.ReplaceAll(filledIn.Replace(text), "4711", w.transaction)
	switch {
	case strings.Contains(text, "garret init"):
		script = "rm -r /backup/photos\n" + script
	case strings.Contains(text, "garret key export"):
		script = "rm -f /media/stick/photos.key\n" + script
	case strings.Contains(text, "garret create"):
		script = "garret delete ::monday\n" + script
	case strings.Contains(text, "garret umount"):
		script = "garret mount /backup/photos /mnt/photos\n" + script
	case strings.Contains(text, "garret key import --paper"):
		script += " <paper"
	}
	if out, err := w.typed(dir, script); err != nil {
		t.Errorf("%s: %q: %v\n%s", path, text, err, out)
	}
}

func (w *hintWorld) run(t *testing.T, dir, script string) string {
	t.Helper()
	out, err := w.typed(dir, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func (w *hintWorld) typed(dir, script string) ([]byte, error) {
	for _, top := range []string{"/backup/", "/mnt/"} {
		script = strings.ReplaceAll(script, top, dir+top)
	}
	script = strings.NewReplacer("/media/stick/", dir+"/stick/", "/tmp/back", dir+"/back", " /etc ", " etc ", "/var/lib/libvirt/images", "Pictures").Replace(script)
	cmd := exec.Command(w.shell, "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), testEnv(dir)...),
		"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GARRET_REPO="+filepath.Join(dir, "backup/photos"),
		"GARRET_PASSPHRASE=correct horse", "GARRET_NEW_PASSPHRASE=another horse")
	for _, question := range []string{"UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "RELOCATED_REPO_ACCESS_IS_OK", "OLDER_REPO_ACCESS_IS_OK", "CHECK_I_KNOW_WHAT_I_AM_DOING", "ROLLBACK_I_KNOW_WHAT_I_AM_DOING"} {
		cmd.Env = append(cmd.Env, "GARRET_"+question+"=yes")
	}
	return cmd.CombinedOutput()
}

func TestWhatGoRunHasBuiltIsRecognised(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	for path, want := range map[string]bool{
		"/tmp/go-build751378993/b001/exe/garret":            true,
		"/home/ann/.cache/go-build/0a/" + sum + "-d/garret": true,
		"/var/gocache/0a/" + sum + "-d/garret":              true,
		"/var/gocache/0b/" + sum + "-d/garret":              false,
		"/usr/local/bin/garret":                             false,
		"/home/ann/go/bin/garret":                           false,
	} {
		if got := builtByGoRun(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func TestCommandsAreWrittenForAShell(t *testing.T) {
	shell, err := exec.LookPath("bash") // $'…' is not known to every sh
	if err != nil {
		t.Skip("there is no bash")
	}
	words := []string{"plain", "two words", "it's", "$(x)", "*", "~/x", "a\nb", "tab\tand\x1besc", "-dash", "", "\xff", `back\slash`}
	out, err := exec.Command(shell, "-c", `printf '<%s>' `+shellLine(words)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "<" + strings.Join(words, "><") + ">"; string(out) != want {
		t.Errorf("%q instead of %q", out, want)
	}
}
