package cli

import (
	"testing"
	"time"
)

func TestTimesAreWrittenAsStrftimeDoes(t *testing.T) {
	at := time.Date(2026, 3, 4, 15, 6, 7, 8_000, time.FixedZone("XYZ", -5*3600))
	for format, want := range map[string]string{
		"":                     "2026-03-04T15:06:07",
		"%Y-%m-%d %H:%M:%S %z": "2026-03-04 15:06:07 -0500",
		"%F_%T.%f":             "2026-03-04_15:06:07.000008",
		"%a %A %b %B %j %U %s": "Wed Wednesday Mar March 063 09 1772654767",
		"100%%%%%y":            "100%%26",
	} {
		if got, err := formatTime(at, format); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", format, got, err, want)
		}
	}
}
