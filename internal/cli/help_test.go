package cli

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/ui"
)

func TestEveryCommandIsListedUnderAHeading(t *testing.T) {
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, ui: ui.New(nil, io.Discard)}
	root := a.root()
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.GroupID == "" {
			t.Errorf("%q is in no group", cmd.Name())
		}
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%q is described as %q", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 130 {
				t.Errorf("%q has a line of %d columns: %q", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

func TestParseWait(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Second, "0.5": time.Second / 2, "-1": -time.Second, "2m": 2 * time.Minute, "50ms": 50 * time.Millisecond,
		"0s": 0, "-1s": -time.Second,
	} {
		if got, err := parseWait(in); err != nil || got != want {
			t.Errorf("parseWait(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "5 s", "1e300", "-1e300", "NaN", "Inf", "9999999999999h"} {
		if got, err := parseWait(in); err == nil {
			t.Errorf("parseWait(%q) = %v, want an error", in, got)
		}
	}
}

func TestListTimeIsThatOfAttic(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for ago, want := range map[time.Duration]string{
		0:                        "Nov 22 12:00",
		365*day - time.Second:    "Nov 22 12:00",
		365 * day:                "Nov 22  2025",
		-time.Hour:               "Nov 22 13:00",
		-364 * day:               "Nov 21 12:00",
		-(364*day + time.Second): "Nov 21  2027",
	} {
		if got := listTime(now.Add(-ago), now); got != want {
			t.Errorf("%v ago: %q, want %q", ago, got, want)
		}
	}
	if got := listTime(now.AddDate(500, 0, 0), now); got != "Nov 22  2526" {
		t.Errorf("in the far future: %q", got)
	}
}

func TestNanosecondsHaveNoBound(t *testing.T) {
	for want, n := range map[string]archive.Nanos{
		"0":                             {},
		"-1500000001":                   {Sec: -2, Nsec: 499999999},
		"13569465600123456789":          {Sec: 13569465600, Nsec: 123456789},
		"-9223372036854775808000000000": {Sec: -1 << 63},
		"9223372036854775807000000007":  {Sec: 1<<63 - 1, Nsec: 7},
		"8589934591999999999":           {Sec: 1<<33 - 1, Nsec: 999999999},
		"-8589934592000000000":          {Sec: -1 << 33},
		"-8589934592999999999":          {Sec: -1<<33 - 1, Nsec: 1},
	} {
		if got := nanoseconds(n); got.String() != want {
			t.Errorf("%+v: %s, want %s", n, got, want)
		}
	}
}
