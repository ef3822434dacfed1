package ui

import (
	"bytes"
	"testing"
	"time"
)

func TestStepsTellHowMuchIsDoneAndLeft(t *testing.T) {
	var e estimate
	begin := time.Unix(1000, 0)
	for _, test := range []struct {
		after time.Duration
		step  Step
		want  string
	}{
		{0, Step{}, ""},
		{0, Step{Unit: "segment", Done: 100, Total: 1100}, "  9 %  100 of 1,100 segments  "},
		{time.Second, Step{Unit: "segment", Done: 110, Total: 1100}, " 10 %  110 of 1,100 segments  "}, // too early to tell
		{10 * time.Second, Step{Unit: "segment", Done: 200, Total: 1100}, " 18 %  200 of 1,100 segments  2 min left  "},
		{20 * time.Second, Step{Unit: "segment", Done: 1100, Total: 1100}, "100 %  1,100 of 1,100 segments  "},
		{20 * time.Second, Step{Unit: "object", Total: 10}, "  0 %  0 of 10 objects  "}, // a new estimate
		{30 * time.Second, Step{Unit: "object", Done: 5, Total: 10, Bytes: 5e6}, " 50 %  5 of 10 objects  5.0 MB  500 kB/s  11 s left  "},
		{30 * time.Second, Step{Unit: "archive", Done: 1}, "1 archive  "},
	} {
		if got := e.line(test.step, begin.Add(test.after)); got != test.want {
			t.Errorf("%+v: %q, want %q", test.step, got, test.want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "1 s", 90 * time.Second: "2 min", 100 * time.Minute: "1 h 40 min", 72 * time.Hour: "3 days",
	} {
		if got := Left(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestWithoutATerminalNoStepIsShown(t *testing.T) {
	var b bytes.Buffer
	stop := New(&b, &b).Steps(func() Step { return Step{Unit: "x"} })
	stop()
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}
