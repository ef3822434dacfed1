package cli

import (
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	var d time.Duration
	for in, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Second, "0.5": time.Second / 2, "-1": -time.Second, "2m": 2 * time.Minute, "50ms": 50 * time.Millisecond,
		"0s": 0, "-1s": -time.Second,
	} {
		if err := newSeconds(&d, 0).Set(in); err != nil || d != want {
			t.Errorf("%q is %v, %v; want %v", in, d, err, want)
		}
	}
	for _, in := range []string{"", "x", "5 s", "1e300", "-1e300", "NaN", "Inf", "9999999999999h"} {
		if err := newSeconds(&d, 0).Set(in); err == nil {
			t.Errorf("%q is %v, want an error", in, d)
		}
	}
}
