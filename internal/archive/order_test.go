package archive_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"garret/internal/archive"
)

func TestPathsAreInTheOrderOfAWalk(t *testing.T) {
	want := []string{
		".", "!", "a", "a/a", "a/a/z", "a/b", "a!", "a!/b", "a-b", "a.b", "ab", "b/c", "é", "é/é", "漢", "\xff", "\xff/a", "\xffa", "Ａ", "😀",
	}
	got := slices.Clone(want)
	rand.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	slices.SortFunc(got, archive.ComparePaths)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, p := range want {
		if archive.ComparePaths(p, p) != 0 {
			t.Errorf("%q differs from itself", p)
		}
	}
}
