// Package ui speaks with the person at the terminal: messages and progress on standard error, questions where there is
// somebody to answer. What a command is asked for goes to standard output, and is none of this package's business.
package ui

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"golang.org/x/term"
)

// ErrNoTerminal is returned where something must be asked and there is nobody to answer.
var ErrNoTerminal = errors.New("there is no terminal to ask at")

// A UI is one conversation. It is safe for concurrent use.
type UI struct {
	in    *os.File // nil or no terminal: nobody answers
	err   io.Writer
	relay func(prompt string) (string, error) // nil, or who is asked for passphrases instead

	mu       sync.Mutex
	answers  *bufio.Reader
	progress *mpb.Progress // while there is some
	mode     ProgressMode
	interval time.Duration // between two lines of progress where there is no terminal
}

// ProgressMode says where progress is shown.
type ProgressMode int

// The modes. The zero value is what a person expects who has said nothing.
const (
	ProgressAuto   ProgressMode = iota // on a terminal
	ProgressAlways                     // elsewhere too, as a line of its own every few seconds
	ProgressNever
)

// SetProgress says where progress is shown from now on.
func (u *UI) SetProgress(m ProgressMode) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mode = m
}

// Watched reports whether somebody follows what is going on, so that it is worth saying what is being waited for.
func (u *UI) Watched() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.mode == ProgressAlways || u.mode == ProgressAuto && IsTerminal(u.err)
}

// New returns a UI that shows messages on err and reads answers from in. It asks questions and shows progress only if
// both are terminals.
func New(in io.Reader, err io.Writer) *UI {
	u := &UI{err: err, interval: 5 * time.Second}
	if f, ok := in.(*os.File); ok && IsTerminal(f) && IsTerminal(err) {
		u.in = f
		u.answers = bufio.NewReader(f)
	}
	return u
}

// NewRelay returns a UI that writes messages to err and has passphrases asked for by another process, which relay speaks
// to. It returns ErrNoTerminal if that one has none either.
func NewRelay(err io.Writer, relay func(prompt string) (string, error)) *UI {
	return &UI{err: err, relay: relay, interval: 5 * time.Second}
}

// IsTerminal reports whether a reader or writer is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Printf shows a message, on lines of its own.
func (u *UI) Printf(format string, args ...any) {
	msg := Printable(strings.TrimSuffix(fmt.Sprintf(format, args...), "\n")) + "\n"
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.progress != nil {
		if _, err := u.progress.Write([]byte(msg)); err == nil {
			return
		}
	}
	io.WriteString(u.err, msg)
}

// Printable returns a text with control characters made visible: names of files may hold any, and a terminal obeys.
// Line feeds and tabs are left.
func Printable(s string) string {
	var b strings.Builder
	done := 0 // up to where b has it
	for i, r := range s {
		if r == utf8.RuneError && s[i] < 0xa0 { // not UTF-8, and a control character to a terminal of another encoding
			r = rune(s[i])
		}
		if (r >= ' ' || r == '\n' || r == '\t') && (r < 0x7f || r >= 0xa0) {
			continue
		}
		fmt.Fprintf(&b, "%s\\x%02x", s[done:i], r)
		done = i + 1
		if s[i] == 0xc2 { // it was one in UTF-8
			done++
		}
	}
	return b.String() + s[done:]
}

// Confirm asks a question whose answer is yes or no. No is the default. Without a terminal it returns ErrNoTerminal.
func (u *UI) Confirm(ctx context.Context, question string) (bool, error) {
	line, err := u.Line(ctx, question+" [y/N] ")
	if err == io.EOF {
		err = nil
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", err
}

// Line asks for a line of text. Without a terminal it returns ErrNoTerminal, and where there is no more input io.EOF.
func (u *UI) Line(ctx context.Context, prompt string) (string, error) {
	return u.ask(ctx, prompt, func() (string, error) {
		line, err := u.answers.ReadString('\n')
		if err == io.EOF && line != "" {
			err = nil
		}
		return strings.TrimRight(line, "\r\n"), err
	})
}

// Passphrase asks for a passphrase, which is not shown. Without a terminal it returns ErrNoTerminal.
func (u *UI) Passphrase(ctx context.Context, prompt string) (string, error) {
	if u.relay != nil {
		return u.relay(prompt)
	}
	pass, err := u.ask(ctx, prompt, func() (string, error) {
		pass, err := term.ReadPassword(int(u.in.Fd()))
		return string(pass), err
	})
	if err != ErrNoTerminal {
		fmt.Fprintln(u.err) // in place of the one that was not shown
	}
	return pass, err
}

// ask shows a prompt and reads the answer, unless the context is done before: the terminal is then left as it was, and
// a goroutine behind that waits for an answer that nobody wants any more.
func (u *UI) ask(ctx context.Context, prompt string, read func() (string, error)) (string, error) {
	if u.in == nil {
		return "", ErrNoTerminal
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	state, err := term.GetState(int(u.in.Fd()))
	if err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	io.WriteString(u.err, Printable(prompt))
	go func() {
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(int(u.in.Fd()), state))
	}
}

// NewPassphrase asks for a new passphrase twice, until both are equal.
func (u *UI) NewPassphrase(ctx context.Context, prompt string) (string, error) {
	for {
		first, err := u.Passphrase(ctx, prompt)
		if err != nil {
			return "", err
		}
		second, err := u.Passphrase(ctx, "The same again: ")
		if err != nil {
			return "", err
		}
		if first == second {
			return first, nil
		}
		u.Printf("These were not the same.")
	}
}

// Progress shows a line that is renewed a few times a second with what count returns, until stop is called: how many
// files and bytes are done, and what is at hand. Without a terminal it does nothing, or adds a line every few seconds: see
// [ProgressMode].
func (u *UI) Progress(count func() (files, bytes int64, path string)) (stop func()) {
	begin := time.Now()
	return u.line(func(width int) string {
		files, bytes, path := count()
		return progressLine(files, bytes, path, time.Since(begin), width)
	})
}

// spareWidth is how many columns of a terminal are left free: it shows an interrupt as ^C, which moves the line, and one
// that reaches into the next row could not be wiped out any more.
const spareWidth = 6

// plainWidth is the width of a progress line in columns where no terminal has one.
const plainWidth = 120

// progressLine writes how far something has come, in at most a number of columns if the path can be cut so far.
func progressLine(files, bytes int64, path string, d time.Duration, width int) string {
	text := fmt.Sprintf("%s  %s  %s", Plural(files, "file"), Bytes(bytes), Rate(bytes, d))
	if room := width - len(text) - 2; room > 8 && path != "" {
		text += "  " + shorten(Line(path), room)
	}
	return text
}

// Line is Printable for what must stay in its place on one line: a name, or a path.
func Line(s string) string {
	return Printable(strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s))
}

// every calls show once an interval, until stop is called.
func every(interval time.Duration, show func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				show()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// shorten cuts out the middle of a text that is wider than a number of columns.
func shorten(s string, n int) string {
	width := runewidth.StringWidth(s)
	if width <= n {
		return s
	}
	head := (n - 1) / 2
	return runewidth.Truncate(s, head, "") + runewidth.TruncateLeft(s, width-(n-1-head), "…")
}

// Bytes writes a size for people, in units of 1000.
func Bytes(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// Rate writes a speed for people.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return Bytes(int64(float64(n)/d.Seconds())) + "/s"
}

// Duration writes a time that something took, for people.
func Duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		d = d.Round(time.Second)
		if d >= time.Hour {
			return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
		}
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

// Plural writes a number of things, of which the word for one is given and that for many ends in s.
func Plural(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if strings.HasSuffix(one, "y") {
		one = strings.TrimSuffix(one, "y") + "ie"
	}
	return number(n) + " " + one + "s"
}

func number(n int64) string { return humanize.Comma(n) }
