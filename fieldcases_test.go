package garret

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	fieldReference = regexp.MustCompile(`^(?:-|(?:borg|restic|kopia|attic|bupstash|bbolt|badger|pebble)#[0-9]+)$`)
	fieldTest      = regexp.MustCompile("^`[^`]+`$")
	goTest         = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// TestFieldCasesAreHeld reads the tables of doc/field-cases.md, and wants every test to exist that they name.
func TestFieldCasesAreHeld(t *testing.T) {
	const file = "doc/field-cases.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have := testsAndScripts(t)
	cases, reported := 0, 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		row := strings.ReplaceAll(strings.TrimSpace(line), `\|`, "\x00")
		cells := strings.Split(strings.Trim(row, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "Reference" || cells[0] == "---" {
			continue
		}
		cases++
		switch {
		case len(cells) != 5 || cells[1] == "" || cells[2] == "" || cells[3] == "":
			t.Errorf("%s: %q does not have five columns", file, line)
			continue
		case !fieldReference.MatchString(cells[0]):
			t.Errorf("%s: %q is no reference", file, cells[0])
		case cells[0] != "-":
			reported++
		}
		if name := strings.Trim(cells[4], "`"); !fieldTest.MatchString(cells[4]) || !have[name] {
			t.Errorf("%s: %s: there is no test or script %s", file, cells[0], cells[4])
		}
	}
	if cases < 60 || reported < 40 {
		t.Errorf("%s has %d cases, of which %d were reported: the tables are not read as they are written", file, cases, reported)
	}
}

// testsAndScripts returns the names of all Go tests and of the scripts of the command line.
func testsAndScripts(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(path, ".txtar"):
			have[d.Name()] = true
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range goTest.FindAllSubmatch(text, -1) {
				have[string(m[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}
