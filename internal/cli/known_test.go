package cli

import (
	"testing"
	"time"
)

func TestTimesThatDifferAreShownAsDifferent(t *testing.T) {
	at := time.Date(2026, 11, 25, 12, 46, 59, 0, time.Local)
	for _, tt := range []struct {
		apart time.Duration
		a, b  string
	}{
		{time.Hour, "2026-11-25 12:46:59", "2026-11-25 13:46:59"},
		{3 * time.Millisecond, "2026-11-25 12:46:59.000", "2026-11-25 12:46:59.003"},
		{time.Microsecond, "2026-11-25 12:46:59.000000", "2026-11-25 12:46:59.000001"},
		{time.Nanosecond, "2026-11-25 12:46:59.000000000", "2026-11-25 12:46:59.000000001"},
	} {
		if a, b := timesApart(at, at.Add(tt.apart)); a != tt.a || b != tt.b {
			t.Errorf("%v apart: %q and %q, want %q and %q", tt.apart, a, b, tt.a, tt.b)
		}
	}
}
