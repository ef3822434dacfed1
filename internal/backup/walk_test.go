package backup

import (
	"slices"
	"testing"
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

func TestNamesAreInTheOrderOfCodePoints(t *testing.T) {
	// A stray byte 0xff counts as U+DCFF: after most of what there is, before U+FF21 and all beyond U+FFFF.
	want := []string{"", "a", "a\x01", "aa", "b", "é", "漢", "\x80", "\xff", "\xffa", "Ａ", "😀"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareNames)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
