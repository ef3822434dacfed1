package backup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"garret/internal/archive"
)

func TestSafePath(t *testing.T) {
	for in, want := range map[string]string{
		".": ".", "": ".", "/": ".", "..": ".", "../..": ".", "a": "a", "a/": "a", "./a": "a", "/a/b/": "a/b", "//a": "a",
		"../a": "a", "../../a/b": "a/b", "/../a": "a", "a/../../b": "b", "..a": "..a", "a/..b": "a/..b", "...": "...",
	} {
		if got := SafePath(in); got != want {
			t.Errorf("SafePath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWalkMakesPathsAbsoluteAsEverybodyDoes(t *testing.T) {
	t.Chdir(t.TempDir())
	w := recall{}
	for _, path := range []string{"a", "./a/../b", "..", "../a", ".", "/a/b", "/a//b/../c/"} {
		want, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.absolute(path); err != nil || got != want {
			t.Errorf("absolute(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestEachFileIsStoredOnceAndUnderItsOwnName(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"work/a/b", "a", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	work := filepath.Join(dir, "work")
	for _, tt := range []struct {
		paths []string
		want  []string // in the archive; nil: they clash
	}{
		{[]string{"a", "a/", "./a/b", "a"}, []string{"a"}},
		{[]string{"a/b", "a"}, []string{"a"}},
		{[]string{"a/b", "."}, []string{"."}},
		{[]string{"a", "../c"}, []string{"a", "c"}},
		{[]string{".", "../c"}, []string{".", "c"}},
		{[]string{".", work}, []string{".", SafePath(work)}},
		{[]string{"a", "../a"}, nil},
		{[]string{".", "../a"}, nil},
		{[]string{"../a/b", "a"}, nil},
	} {
		roots, _, err := findRoots(work, tt.paths)
		var got []string
		for _, r := range roots {
			got = append(got, r.path)
		}
		if tt.want == nil {
			if !errors.Is(err, ErrSameName) {
				t.Errorf("%q: %q, %v", tt.paths, got, err)
			}
		} else if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v, want %q", tt.paths, got, err, tt.want)
		}
	}
}

func TestNamesAreInTheOrderOfCodePoints(t *testing.T) {
	// A stray byte 0xff counts as U+DCFF: after most of what there is, before U+FF21 and all beyond U+FFFF.
	want := []string{"", "a", "a\x01", "aa", "b", "é", "漢", "\x80", "\xff", "\xffa", "Ａ", "😀"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, archive.CompareNames)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALinkIsFollowedOnlyWhereItsPathSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "real/sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"link", "real/inside"} {
		if err := os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, l)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		dir   string
		paths []string
		want  []string // in the archive; nil: refused
	}{
		{dir, []string{"link", "link/sub"}, nil},
		{dir, []string{"real", "real/inside/sub"}, nil},
		{dir, []string{"real", "real/inside/"}, nil},
		{dir, []string{"real", "real/inside"}, []string{"real"}},
		{dir, []string{"link/", "link/sub"}, []string{"link"}},
		{dir, []string{"link", "link/", "link/sub"}, []string{"link"}},
		{dir, []string{"link/sub"}, []string{"link/sub"}},
		{dir, []string{"real", "real/missing"}, []string{"real", "real/missing"}},
		{filepath.Join(dir, "link"), []string{".", "sub"}, []string{"."}},
	} {
		roots, _, err := findRoots(tt.dir, tt.paths)
		var got []string
		for _, r := range roots {
			got = append(got, r.path)
		}
		if tt.want == nil {
			if !errors.Is(err, ErrBelowLink) {
				t.Errorf("%q: %q, %v", tt.paths, got, err)
			}
		} else if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v, want %q", tt.paths, got, err, tt.want)
		}
	}
}
