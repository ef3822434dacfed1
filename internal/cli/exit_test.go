package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"garret/internal/envelope"
	"garret/internal/ui"
	"garret/repository"
)

func TestEveryErrorHasItsCodeAndOneLine(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		line string
	}{
		{nil, 0, ""},
		{errWarnings, 1, ""},
		{&usageError{"nonsense"}, 2, "nonsense"},
		{errors.Join(errors.New("one"), errors.New("two")), 2, "one; two"},
		{
			&fs.PathError{Op: "write", Path: "/r/data/0/1", Err: syscall.ENOSPC}, 2,
			"write /r/data/0/1: no space left on device; free some space and do it again; deleting archives needs none",
		},
		{
			atTarget(&fs.PathError{Op: "write", Path: "/back/cat.jpg", Err: syscall.ENOSPC}), 2,
			"write /back/cat.jpg: no space left on device; free some space there and do it again",
		},
		{fmt.Errorf("open %q: %w", "r", repository.ErrNotExist), 10, `open "r": repository does not exist; "garret init" makes one`},
		{fmt.Errorf("open %q: %w", "r", repository.ErrInvalid), 10, `open "r": not a valid repository`},
		{repository.ErrLocked, 11, "repository is locked; try again later, or wait with --lock-wait"},
		{envelope.ErrWrongPassphrase, 12, "wrong passphrase"},
		{fmt.Errorf("store: %w", context.Canceled), 130, "interrupted"},
	} {
		if got := exitCode(tt.err); got != tt.code {
			t.Errorf("%v: code %d, want %d", tt.err, got, tt.code)
		}
		if got := message(tt.err); got != tt.line {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.line)
		}
	}
}

func TestWhatIsWrongIsToldWithWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		err  error
		line string
		warn bool
	}{
		{errors.New("x"), "garret: x\n", false},
		{
			fmt.Errorf("open: %w", repository.ErrCheckNeeded),
			"garret: open: repository is inconsistent and needs a check; what is sound is read all the same; \"garret check --repair\" mends it\n", true,
		},
		{
			fmt.Errorf("%w: read: %w", repository.ErrCheckNeeded, syscall.EIO),
			"garret: repository is inconsistent and needs a check: read: input/output error; what is sound is read all the same; " +
				"copy it to another medium as far as that can be read, and run \"garret check --repair\" there\n", true,
		},
	} {
		var stderr bytes.Buffer
		a := &app{ui: ui.New(strings.NewReader(""), &stderr)}
		a.tellWrong(tt.err)
		if stderr.String() != tt.line || a.damaged.Load() != tt.warn {
			t.Errorf("%v: %q, and a warning %v", tt.err, stderr.String(), a.damaged.Load())
		}
	}
}

func TestAnInterruptedBackupLeavesNothing(t *testing.T) {
	dir := useTestEnv(t)
	repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
	makeTree(t, tree)
	garret(t, "init", repo)
	before := garret(t, "object", "list", "--digest", repo)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := Run(ctx, []string{"create", repo + "::x", tree}, strings.NewReader(""), &stdout, &stderr); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); got != "garret: interrupted\n" {
		t.Errorf("message %q", got)
	}
	if after := garret(t, "object", "list", "--digest", repo); after != before {
		t.Errorf("objects before:\n%safter:\n%s", before, after)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b-c_d.e:f":   "/a/b-c_d.e:f",
		"":               "''",
		"two words":      "'two words'",
		"it's":           `'it'\''s'`,
		"$(x)":           "'$(x)'",
		"-dash":          "./-dash",
		"~/x":            "'~/x'",
		"line\nfeed\xff": `$'line\012feed\377'`,
	} {
		if got := shellWord(pathArgument(in)); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", in, got, want)
		}
	}
}
