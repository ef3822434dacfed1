package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// changeWhileRead is the variable that says what happens to files while the garret of a test reads them: HOW:NAME, where
// NAME is that of the files.
const changeWhileRead = "GARRET_TEST_CHANGE"

// changing returns what to call before each piece of a file is read. Something happens to the file each time but the first.
func changing(what string) func(path string, n int64) {
	how, name, _ := strings.Cut(what, ":")
	times := 0
	return func(path string, n int64) {
		if filepath.Base(path) != name || n == 0 {
			return
		}
		times++
		if err := change(how, path, times); err != nil {
			panic(err)
		}
	}
}

func change(how, path string, times int) error {
	switch how {
	case "chmod":
		return os.Chmod(path, os.FileMode(0o600|times%8))
	case "append", "rewrite", "overwrite":
		flags := os.O_WRONLY
		if how == "append" {
			flags |= os.O_APPEND
		}
		f, err := os.OpenFile(path, flags, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := fmt.Fprintf(f, "%s %04d\n", how, times); err != nil {
			return err
		}
		return os.Chtimes(path, time.Time{}, time.Unix(1e9, int64(times))) // a clock may have ticked or not
	}
	return fmt.Errorf("%q is nothing that can happen to a file", how)
}

// checkMark compares the mark of a file in a mounted archive: mark FILE [MARK], where no MARK means that there is none.
func checkMark(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: mark FILE [MARK]")
	}
	buf := make([]byte, 100)
	n, _ := unix.Getxattr(ts.MkAbs(args[0]), archive.FlawXattr, buf)
	if got := string(buf[:max(n, 0)]); got != strings.Join(args[1:], "") {
		ts.Fatalf("the mark is %q", got)
	}
}
