package cli

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"garret/internal/location"
	"garret/internal/ui"
)

// command returns the words of a command line of this program that a person can type, in the folder where they are. shellLine
// makes a line of them.
func command(args ...string) []string { return append(ownWords(), args...) }

// commandAbout is command with a repository, or an archive in it, as the last argument, which is found from anywhere.
func (a *app) commandAbout(loc location.Location, args ...string) []string {
	if loc.Host != "" && a.remote != "" {
		args = append(args, "--remote-path", a.remote)
	}
	return command(append(args, pathArgument(loc.String()))...)
}

// shellLine writes words such that a shell takes each as it is.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// ownWords returns what a person types to run this program once more.
func ownWords() []string {
	self, err := os.Executable()
	if err != nil {
		return []string{"garret"}
	}
	if builtByGoRun(self) { // it may be gone when we are
		if _, err := os.Stat(filepath.Join("cmd", "garret", "main.go")); err == nil {
			return []string{"go", "run", "./cmd/garret"}
		}
		return []string{"go", "run", "garret/cmd/garret"}
	}
	for _, name := range []string{os.Args[0], "garret"} { // as it was typed, if that leads here
		if found, err := exec.LookPath(name); err == nil && sameFile(found, self) {
			return []string{pathArgument(name)}
		}
	}
	return []string{self}
}

// builtByGoRun reports whether a program lies where the go command puts what it runs: in a folder for the moment, or in its
// cache, as KE/KEY-d/NAME, where KEY is a checksum in hexadecimal.
func builtByGoRun(path string) bool {
	if strings.Contains(path, string(filepath.Separator)+"go-build") {
		return true
	}
	dir := filepath.Dir(path)
	key, ok := strings.CutSuffix(filepath.Base(dir), "-d")
	sum, err := hex.DecodeString(key)
	return ok && err == nil && len(sum) == 32 && filepath.Base(filepath.Dir(dir)) == key[:2]
}

func sameFile(a, b string) bool {
	ia, errA := os.Stat(a)
	ib, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// pathArgument returns a path or a location such that no command takes it for an option.
func pathArgument(s string) string {
	if strings.HasPrefix(s, "-") {
		return "./" + s
	}
	return s
}

// shellWord writes an argument such that a shell takes it as it is.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:+,@%=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	if ui.Line(s) != s { // a terminal would obey, or the command be torn apart
		var b strings.Builder
		for _, c := range []byte(s) {
			if c < ' ' || c >= 0x7f || c == '\'' || c == '\\' {
				fmt.Fprintf(&b, `\%03o`, c)
			} else {
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
