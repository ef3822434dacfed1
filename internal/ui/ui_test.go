package ui

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNobodyIsAskedWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	u := New(strings.NewReader("y\n"), &out)
	if _, err := u.Confirm(t.Context(), "Really?"); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("Confirm: %v", err)
	}
	if _, err := u.NewPassphrase(t.Context(), "Passphrase: "); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("NewPassphrase: %v", err)
	}
	u.Progress(func() (int64, int64, string) {
		t.Error("progress is counted")
		return 0, 0, ""
	})()
	if out.Len() != 0 {
		t.Errorf("shown: %q", out.String())
	}
}

func TestProgressIsShownWithoutATerminalOnDemand(t *testing.T) {
	var out lockedBuffer
	u := New(nil, &out)
	u.interval = time.Millisecond
	if u.Watched() {
		t.Error("somebody watches")
	}
	u.SetProgress(ProgressNever)
	u.Progress(func() (int64, int64, string) {
		t.Error("progress is counted")
		return 0, 0, ""
	})()
	u.SetProgress(ProgressAlways)
	if !u.Watched() {
		t.Error("nobody watches")
	}
	shown := make(chan bool, 1)
	stop := u.Progress(func() (int64, int64, string) {
		select {
		case shown <- true:
		default:
		}
		return 3, 4_000_000, "a/" + strings.Repeat("long/", 50) + "\n\x1bname"
	})
	<-shown
	stop()
	u.Printf("afterwards")
	line, rest, _ := strings.Cut(out.String(), "\n")
	if !strings.HasPrefix(line, "3 files  4.0 MB  ") || !strings.HasSuffix(line, `ong/\n\x1bname`) || len([]rune(line)) > plainWidth {
		t.Errorf("line %q", line)
	}
	if !strings.HasSuffix("\n"+rest, "\nafterwards\n") {
		t.Errorf("then %q", rest)
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestMessagesCannotControlTheTerminal(t *testing.T) {
	var out bytes.Buffer
	New(nil, &out).Printf("%s: it is\n", "a\x1b[2Jb\rc\u009bd\x9be\xff\ufffd")
	if got, want := out.String(), `a\x1b[2Jb\x0dc\x9bd\x9be`+"\xff\ufffd: it is\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(1_234_567):                         "1.2 MB",
		Bytes(-1):                                "0 B",
		Rate(5_000_000, 2*time.Second):           "2.5 MB/s",
		Duration(1234 * time.Millisecond):        "1.23 s",
		Duration(61 * time.Second):               "1 min 01 s",
		Duration(2*time.Hour + 125*time.Second):  "2 h 02 min",
		Plural(1, "file"):                        "1 file",
		Plural(12345, "directory"):               "12,345 directories",
		shorten("a/long/path/to/a/file.txt", 11): "a/lon…e.txt",
		shorten("漢字の名前が長い", 9):                   "漢字…長い",
		shorten("漢字の名前が長い", 16):                  "漢字の名前が長い",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
