package cli

import (
	"testing"
	"time"

	"garret/internal/archive"
)

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
