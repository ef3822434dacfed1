package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAnInterruptEndsTheWaitForTheOtherEndOfAFIFO(t *testing.T) {
	dir := useTestEnv(t)
	repo, _ := goldenCopy(t, dir, "archive-none")
	newFIFO := func() string {
		t.Helper()
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		return fifo
	}
	interrupted := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		var said strings.Builder
		if code := Run(ctx, args, nil, io.Discard, &said); code != exitInterrupted {
			t.Errorf("%q: exit code %d, %s", args, code, said.String())
		}
	}
	interrupted("create", "--files-from", newFIFO(), repo+"::new")
	interrupted("create", "--exclude-from", newFIFO(), repo+"::new", dir)
	interrupted("extract", "--exclude-from", newFIFO(), "-n", repo+"::one")
	interrupted("import-tar", repo+"::new", newFIFO())
	interrupted("export-tar", repo+"::one", newFIFO())
	withKey, _ := goldenCopy(t, t.TempDir(), "archive-keyfile")
	interrupted("key", "import", withKey, newFIFO())

	// Nor is there an end of waiting for who has opened the other end and does nothing.
	fifo := newFIFO()
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	interrupted("create", "--exclude-from", fifo, repo+"::new", dir)
	interrupted("create", "--files-from", fifo, repo+"::new")
	interrupted("import-tar", repo+"::new", fifo)
	for {
		if err := f.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(make([]byte, 4096)); err != nil { // the FIFO is full
			break
		}
	}
	interrupted("export-tar", repo+"::one", fifo)
	if list := garret(t, "list", "--short", repo); strings.Contains(list, "new") {
		t.Errorf("the archives are %s", list)
	}
}
