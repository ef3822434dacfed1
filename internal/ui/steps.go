package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A Step is how far something has come whose end is known.
type Step struct {
	Unit        string // what is counted, in the singular; another one begins a new estimate
	Done, Total int64  // Total 0: not known
	Bytes       int64  // that were read or written for it; 0: not shown
	Path        string // what is at hand; empty: not shown
}

// Steps shows a line as Progress does, with the part that is done in percent and the time that is left.
func (u *UI) Steps(count func() Step) (stop func()) {
	var e estimate
	return u.line(func(width int) string {
		s := count()
		text := strings.TrimRight(e.line(s, time.Now()), " ")
		if room := width - len(text) - 2; room > 8 && s.Path != "" {
			text += "  " + shorten(Line(s.Path), room)
		}
		return text
	})
}

// line shows a line of at most so many columns, which is renewed a few times a second, until stop is called; or where
// there is no terminal, see [ProgressMode]. An empty line is not shown. stop may be called twice.
func (u *UI) line(text func(width int) string) (stop func()) {
	switch {
	case !u.Watched():
		return func() {}
	case !IsTerminal(u.err):
		return sync.OnceFunc(every(u.interval, func() {
			if line := text(plainWidth); line != "" {
				u.Printf("%s", line)
			}
		}))
	}
	p := mpb.New(mpb.WithOutput(u.err), mpb.WithRefreshRate(200*time.Millisecond), mpb.WithAutoRefresh())
	show := func(s decor.Statistics) string { return text(s.AvailableWidth - spareWidth) }
	bar, err := p.Add(0, mpb.NopStyle().Build(), mpb.PrependDecorators(decor.Any(show)), mpb.BarRemoveOnComplete())
	if err != nil {
		return func() {}
	}
	u.mu.Lock()
	u.progress = p
	u.mu.Unlock()
	return sync.OnceFunc(func() {
		u.mu.Lock()
		u.progress = nil
		u.mu.Unlock()
		bar.Abort(true)
		p.Wait()
	})
}

// estimate knows when what is being counted has begun.
type estimate struct {
	unit  string
	begin time.Time
	first int64 // what was done by then, as of a check that goes on
}

// line returns what is shown of a step.
func (e *estimate) line(s Step, now time.Time) string {
	if s.Unit == "" {
		return ""
	}
	if e.unit != s.Unit || s.Done < e.first {
		*e = estimate{s.Unit, now, s.Done}
	}
	elapsed := now.Sub(e.begin)
	if s.Total <= 0 {
		return fmt.Sprintf("%s  ", Plural(s.Done, s.Unit)) + amount(s.Bytes, elapsed)
	}
	text := fmt.Sprintf("%3d %%  %s of %s  ", 100*min(s.Done, s.Total)/s.Total, number(s.Done), Plural(s.Total, s.Unit)) +
		amount(s.Bytes, elapsed)
	if done := s.Done - e.first; done > 0 && elapsed >= 2*time.Second && s.Done < s.Total {
		left := time.Duration(float64(elapsed) / float64(done) * float64(s.Total-s.Done))
		text += Left(left) + " left  "
	}
	return text
}

func amount(bytes int64, elapsed time.Duration) string {
	if bytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%s  %s  ", Bytes(bytes), Rate(bytes, elapsed))
}

// Left writes a time that is left, for people, as precisely as an estimate can be.
func Left(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()+1))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()+1))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// Result writes a line of a result to w. Where that is the terminal on which progress is shown, it comes above that.
func (u *UI) Result(w io.Writer, line string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.progress != nil && IsTerminal(w) {
		if _, err := u.progress.Write([]byte(line + "\n")); err == nil {
			return nil
		}
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}
