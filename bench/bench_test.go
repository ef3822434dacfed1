package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/bench/report"
)

// TestQuickRunOfGarret does all work there is with tiny data, so that the command keeps working.
func TestQuickRunOfGarret(t *testing.T) {
	dir := t.TempDir()
	svg, all := filepath.Join(dir, "chart.svg"), filepath.Join(dir, "all.json")
	var out, log bytes.Buffer
	err := run(context.Background(), []string{"-quick", "-dir", dir, "-programs", "none", "-svg", svg, "-json", all}, &out, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	var results report.Results
	data, err := os.ReadFile(all)
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	works := map[string]int{}
	for _, s := range results.Series {
		if s.Err != "" {
			t.Errorf("%s: %s", s.Work, s.Err)
		}
		works[s.Work] = len(s.Rounds)
		for _, u := range s.Rounds {
			if u.Wall <= 0 || u.Peak <= 0 {
				t.Errorf("%s: %+v", s.Work, u)
			}
		}
	}
	for work, rounds := range map[string]int{
		"create, source tree": 1, "create again, source tree": 1, "list, source tree": 1, "extract, source tree": 1,
		"check all data, source tree": 1, "create, tiny files": 1, "create, incompressible file": 1,
		"extract, compressible file": 1, "create, compressible file, 1 % changed": 1, "create a version of 4": 4,
		"delete one of 4 and compact": 1, "check all data, 4 versions": 1,
	} {
		if works[work] != rounds {
			t.Errorf("%s: %d rounds instead of %d", work, works[work], rounds)
		}
		if !strings.Contains(out.String(), "| "+work+" |") {
			t.Errorf("the tables have no line for %q:\n%s", work, &out)
		}
	}
	isXML(t, svg)
	left, err := filepath.Glob(filepath.Join(dir, "garret-bench-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q is left behind (%v)", left, err)
	}
}

// TestMain lets this program be a process that it starts itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childFlag {
		if err := start(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestQuickRunOfGrowth(t *testing.T) {
	dir := t.TempDir()
	svg := filepath.Join(dir, "chart.svg")
	var out, log bytes.Buffer
	err := run(context.Background(), []string{"-quick", "-only", growth, "-dir", dir, "-svg", svg}, &out, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for _, work := range []string{
		"commit one object", "open, get one object, close", "delete 2 MiB of 4, commit and compact",
		"compact 2 MiB of 4, as a command", "delete one of 10 archives", "back up unchanged, 2,000 files",
		"back up unchanged tree, per 1,000 files",
	} {
		_, rest, found := strings.Cut(out.String(), "| "+work+" |")
		rest, _, _ = strings.Cut(rest, "\n")
		if !found || strings.Count(rest, "×") != len(growthFactors)-1 {
			t.Errorf("%q is missing or not whole in\n%s", work, &out)
		}
	}
	if !strings.Contains(out.String(), "| Time | 100 objects | 1,000 objects | 10,000 objects |") {
		t.Errorf("the columns are not numbers of objects in\n%s", &out)
	}
	isXML(t, svg)
}

func isXML(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-only", "growth,tiny"}, {"-objects", "9"}, {"more"}, {"-rounds", "0"}, {"-versions", "1"}, {"-no-such"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestFailureIsToldAndTheRestGoesOn takes a program that can do nothing for a garret.
func TestFailureIsToldAndTheRestGoesOn(t *testing.T) {
	path, err := findFalse()
	if err != nil {
		t.Skip(err)
	}
	var out bytes.Buffer
	args := []string{"-quick", "-dir", t.TempDir(), "-only", "tiny", "-garret", path, "-programs", "tar"}
	if err := run(context.Background(), args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "create, tiny files") {
		t.Errorf("nothing is told of tar:\n%s", &out)
	}
}

func findFalse() (string, error) {
	for _, path := range []string{"/bin/false", "/usr/bin/false"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no program false here")
}

// TestInterruptKeepsWhatWasMeasured ends a run before its first work.
func TestInterruptKeepsWhatWasMeasured(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out bytes.Buffer
	garret, err := findFalse()
	if err != nil {
		t.Skip(err)
	}
	err = run(ctx, []string{"-quick", "-dir", t.TempDir(), "-only", "tiny", "-garret", garret, "-programs", "none"}, &out, io.Discard)
	if !errors.Is(err, context.Canceled) || !strings.Contains(out.String(), "medians of 1 rounds") {
		t.Errorf("got %v and\n%s", err, &out)
	}
}

func TestDataIsTheSameEachTime(t *testing.T) {
	var trees [2]string
	for i := range trees {
		trees[i] = filepath.Join(t.TempDir(), "tree")
		if err := makeTree(trees[i], 250, 1000, 1); err != nil {
			t.Fatal(err)
		}
		if err := changeTree(trees[i], 250, 1000, 1); err != nil {
			t.Fatal(err)
		}
	}
	files, size, err := sizeOf(trees[0])
	if err != nil || files != 251 || size == 0 {
		t.Fatal(files, size, err)
	}
	for i := range 250 {
		a, err := os.ReadFile(treeFile(trees[0], i))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(treeFile(trees[1], i))
		if err != nil || !bytes.Equal(a, b) {
			t.Fatal(i, err)
		}
	}
}

func TestChangedFileIsMostlyTheSame(t *testing.T) {
	const blocks = 1000
	path := filepath.Join(t.TempDir(), "file")
	if err := writeText(path, blocks*changedBlock); err != nil {
		t.Fatal(err)
	}
	if err := writeChanged(path+"2", path); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path + "2")
	if err != nil || len(b) != len(a)+insertion {
		t.Fatal(len(a), len(b), err)
	}
	b = b[insertion:]
	changed := 0
	for i := 0; i < len(a); i += changedBlock {
		if !bytes.Equal(a[i:i+changedBlock], b[i:i+changedBlock]) {
			changed++
		}
	}
	if changed < blocks/200 || changed > blocks/50 {
		t.Errorf("%d of %d blocks have changed", changed, blocks)
	}
}
