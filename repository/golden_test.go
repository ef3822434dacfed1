package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is what the reference says of one of its repositories.
type golden struct {
	Open struct {
		State map[string]string
		Error string
	}
	Check            *bool
	AfterRepair      map[string]string `json:"after_repair"`
	CheckAfterRepair *bool             `json:"check_after_repair"`
}

// contents returns what a repository holds as the golden files have it: key to SHA-256 of the value, or to "damaged".
func contents(t *testing.T, r *Repository) map[string]string {
	t.Helper()
	state := map[string]string{}
	for id, err := range r.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.Get(context.Background(), id)
		switch {
		case errors.Is(err, ErrIntegrity):
			state[id.String()] = "damaged"
		case err != nil:
			t.Fatal(err)
		default:
			sum := sha256.Sum256(data)
			state[id.String()] = hex.EncodeToString(sum[:])
		}
	}
	if n, err := r.Len(context.Background()); err != nil || n != len(state) {
		t.Fatalf("length is %d (%v), listed are %d", n, err, len(state))
	}
	return state
}

// copyGolden copies a golden repository to a folder that may be changed.
func copyGolden(t *testing.T, name string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(to, os.DirFS(filepath.Join("testdata/golden", name))); err != nil {
		t.Fatal(err)
	}
	return to
}

func removeIndex(t *testing.T, path string) {
	t.Helper()
	for _, pattern := range []string{"index.*", "hints.*", "garret.*"} {
		files, _ := filepath.Glob(filepath.Join(path, pattern))
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// better has the golden repositories of which something else is expected than what the reference says. doc/format.md
// has a table of them with the reasons.
var better = map[string]string{
	"kv-bit-rot":         "open gives an error for the one damaged object, not for the repository",
	"kv-missing-segment": "open gives errors for the objects of the lost segment, not for the repository",
}

// goldenRepositories returns what the reference says of each, by name.
func goldenRepositories(t *testing.T) map[string]*golden {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden repositories", err)
	}
	all := map[string]*golden{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = new(golden)
		if err := json.Unmarshal(b, all[name]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestGoldenRepositories(t *testing.T) {
	for name, want := range goldenRepositories(t) {
		t.Run(name, func(t *testing.T) { testGolden(t, name, want) })
	}
}

func testGolden(t *testing.T, name string, want *golden) {
	ctx := context.Background()
	path := copyGolden(t, name)
	before := snapshot(t, path)

	r, err := Open(ctx, path, &Options{ReadOnly: true})
	switch {
	case want.Open.Error == "CheckNeeded":
		if !errors.Is(err, ErrCheckNeeded) {
			t.Fatalf("open gives %v, want ErrCheckNeeded", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		got := contents(t, r)
		if want.Open.State == nil {
			damaged := 0
			for id, sum := range got {
				if sum == "damaged" {
					damaged++
				} else if after := want.AfterRepair[id]; after != sum {
					t.Errorf("%s is %s, want %s", id, sum, after)
				}
			}
			if damaged != len(got)-len(want.AfterRepair) || better[name] == "" {
				t.Errorf("%d of %d objects are damaged, %d are left after repair", damaged, len(got), len(want.AfterRepair))
			}
		} else if diff := cmp.Diff(want.Open.State, got); diff != "" {
			t.Errorf("state (-want +got):\n%s", diff)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, path)); diff != "" {
		t.Errorf("reading has changed files:\n%s", diff)
	}
	if want.Check == nil {
		return
	}
	for _, withIndex := range []bool{true, false} {
		path := copyGolden(t, name)
		if !withIndex {
			removeIndex(t, path)
		}
		r, err := OpenForCheck(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Check(ctx, CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			t.Logf("index %v: %v", withIndex, f)
		}
		if withIndex && report.OK() != *want.Check {
			t.Errorf("check says %v, want %v", report.OK(), *want.Check)
		}
		for i := range 2 {
			report, err = r.Check(ctx, CheckOptions{Repair: true})
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && !report.OK() {
				t.Errorf("second repair finds %v", report.Findings)
			}
		}
		state := contents(t, r)
		if diff := cmp.Diff(want.AfterRepair, state); diff != "" {
			t.Errorf("state after repair, index %v (-want +got):\n%s", withIndex, diff)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err = Open(ctx, path, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(state, contents(t, r)); diff != "" {
			t.Errorf("state after repair and open (-repaired +opened):\n%s", diff)
		}
		if report, err = r.Check(ctx, CheckOptions{}); err != nil || !report.OK() {
			t.Errorf("check after repair: %v %v", report.Findings, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGoldenRepositoriesAreReadWithoutARepair opens each with its index and without. Where the reference gives up, it has to
// give what the reference's repair would leave.
func TestGoldenRepositoriesAreReadWithoutARepair(t *testing.T) {
	opened := 0
	for name, want := range goldenRepositories(t) {
		state := want.Open.State
		if state == nil {
			state = want.AfterRepair
		}
		for _, withIndex := range []bool{true, false} {
			path := copyGolden(t, name)
			if !withIndex {
				removeIndex(t, path)
			}
			before := snapshot(t, path)
			r, err := Open(context.Background(), path, &Options{Damaged: true, ReadOnly: true})
			if err != nil {
				t.Errorf("%s, index %v: %v", name, withIndex, err)
				continue
			}
			opened++
			t.Logf("%s, index %v: %v", name, withIndex, r.Damage())
			if err := r.Damage(); err != nil && !errors.Is(err, ErrCheckNeeded) {
				t.Errorf("%s, index %v: %v does not match ErrCheckNeeded", name, withIndex, err)
			}
			got := contents(t, r)
			maps.DeleteFunc(got, func(_, sum string) bool { return sum == "damaged" })
			if diff := cmp.Diff(state, got); diff != "" {
				t.Errorf("%s, index %v: state (-want +got):\n%s", name, withIndex, diff)
			}
			mustClose(t, r)
			if diff := cmp.Diff(before, snapshot(t, path)); diff != "" {
				t.Errorf("%s, index %v: reading has changed files:\n%s", name, withIndex, diff)
			}
		}
	}
	if opened != 24 {
		t.Errorf("%d of 24 are opened", opened)
	}
}

// snapshot returns the content of all files below a folder.
func snapshot(t *testing.T, path string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(path, func(p string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		sum := sha256.Sum256(b)
		files[strings.TrimPrefix(p, path)] = string(bytes.ToLower(sum[:]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
