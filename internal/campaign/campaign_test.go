package campaign

import (
	"flag"
	"testing"
)

func TestShare(t *testing.T) {
	short := flag.Lookup("test.short")
	before := short.Value.String()
	t.Cleanup(func() { _ = short.Value.Set(before) })
	for _, c := range []struct {
		campaign, short   string
		full, share, want int
	}{
		{"", "false", 100, 10, 10},
		{"no", "false", 100, 10, 10},
		{"full", "false", 100, 10, 100},
		{"full", "true", 100, 10, 3},
		{"", "true", 100, 1, 1},
		{"", "false", 100, 0, 1},
	} {
		t.Setenv(Variable, c.campaign)
		if err := short.Value.Set(c.short); err != nil {
			t.Fatal(err)
		}
		if got := Share(t, c.full, c.share); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	t.Setenv(Variable, "full")
	for _, c := range []struct {
		short string
		want  int
	}{{"true", 12}, {"false", 1}} {
		if err := short.Value.Set(c.short); err != nil {
			t.Fatal(err)
		}
		if got := Each(t, 3); got != c.want {
			t.Errorf("-short %s: each %d", c.short, got)
		}
	}
	t.Setenv("GARRET_SOME_CASES", "7")
	if got := Set(t, "GARRET_SOME_CASES", 100, 10); got != 7 {
		t.Error("the variable of the test is not heeded:", got)
	}
}
