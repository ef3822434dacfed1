// Package garret has no code: it is the place of the test of the module's architecture.
package garret

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// floors reads the table in doc/architecture.md: package to the number of its floor, the highest first.
func floors(t *testing.T) map[string]int {
	f, err := os.Open("doc/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := map[string]int{}
	in, floor := false, 0
	for s := bufio.NewScanner(f); s.Scan(); {
		switch words := strings.Fields(s.Text()); {
		case s.Text() == "```floors":
			in = true
		case strings.HasPrefix(s.Text(), "```"):
			in = false
		case !in || len(words) == 0:
		case words[0] == "--":
			floor++
		default:
			table["garret/"+words[0]] = floor
		}
	}
	if len(table) == 0 {
		t.Fatal("doc/architecture.md has no table of floors")
	}
	return table
}

// TestImportsPointDownward holds the imports of every package against the floors.
func TestImportsPointDownward(t *testing.T) {
	table := floors(t)
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := e.Name(); e.IsDir() && path != "." && (name[0] == '.' || name == "testdata") {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); e.IsDir() && path != "." && err == nil {
			return fs.SkipDir // a module of its own
		}
		if e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		pkg := "garret/" + filepath.ToSlash(filepath.Dir(path))
		floor, ok := table[pkg]
		if !ok {
			t.Errorf("%s: doc/architecture.md has no floor for its package", path)
			return nil
		}
		found[pkg] = true
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if below, ours := table[imported]; ours && below <= floor {
				t.Errorf("%s imports %s, which is not on a lower floor", path, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range table {
		if !found[pkg] {
			t.Errorf("doc/architecture.md has a floor for %s, which does not exist", pkg)
		}
	}
}
