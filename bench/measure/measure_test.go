package measure

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestRunTellsWhatAProgramCosts has this program take known time and memory, and write a known file.
func TestRunTellsWhatAProgramCosts(t *testing.T) {
	const size = 64 << 20
	if path := os.Getenv("GARRET_TEST_SPEND"); path != "" {
		buf := make([]byte, size)
		for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
			for i := range buf {
				buf[i]++
			}
		}
		if err := os.WriteFile(path, buf, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "file")
	u, err := Run(context.Background(), Command{
		Args: []string{os.Args[0], "-test.run=^TestRunTellsWhatAProgramCosts$"}, Env: []string{"GARRET_TEST_SPEND=" + path},
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.Wall < 100*time.Millisecond || u.CPU <= 0 || u.Peak < size {
		t.Errorf("%+v", u)
	}
	// Where files are in memory, nothing goes to a disk.
	if runtime.GOOS == "linux" && u.Written != 0 && (u.Written < size || u.Written > 2*size) {
		t.Errorf("%d bytes were written instead of %d", u.Written, size)
	}
}

func TestRunTellsWhatAProgramSaidLast(t *testing.T) {
	_, err := Run(context.Background(), Command{Args: []string{"/bin/sh", "-c", "echo first; echo the last words >&2; exit 3"}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3: the last words") {
		t.Errorf("got %v", err)
	}
}

func TestUsageAddsUp(t *testing.T) {
	a, b := Usage{1, 2, 3, 4}, Usage{10, 20, 2, 40}
	if got := a.Add(b); got != (Usage{11, 22, 3, 44}) {
		t.Errorf("got %+v", got)
	}
	b.Written = -1
	if got := a.Add(b); got.Written != -1 {
		t.Errorf("got %+v", got)
	}
}
