package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inEnv runs a command in the environment of a test, and returns its exit code and what it printed.
func inEnv(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// useEnv makes the environment one in which nothing of the person's own is read or changed.
func useEnv(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range testEnv(dir) {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	return dir
}

func TestAnInterruptedCreateLeavesACheckpointAndIsGoneOnWith(t *testing.T) {
	dir := useEnv(t)
	t.Setenv("GARRET_PASSPHRASE", "secret")
	src, repo := filepath.Join(dir, "src"), filepath.Join(dir, "repo")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(src, 0o755))
	data := make([]byte, 64<<10)
	for i := range 1500 {
		rand.Read(data)
		name := fmt.Sprintf("%s/%04d", src, i)
		must(os.WriteFile(name, data, 0o644))
	}
	run := func(want int, args ...string) (string, string) {
		t.Helper()
		code, out, errs := inEnv(t.Context(), args...)
		if code != want {
			t.Fatalf("garret %s: exit code %d\n%s", strings.Join(args, " "), code, errs)
		}
		return out, errs
	}
	run(0, "init", "-e", "keyfile", repo)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(repo, "data", "0", "4")); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	code, _, errs := inEnv(ctx, "create", repo+"::a", src)
	if code != exitInterrupted || !strings.Contains(errs, `interrupted; what was stored so far is archive "a.checkpoint"`) {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if out, _ := run(0, "list", "--short", repo); out != "a.checkpoint\n" {
		t.Errorf("listed %q", out)
	}
	run(0, "check", repo)
	before, _ := run(0, "list", "--short", repo+"::a.checkpoint")
	if n := strings.Count(before, "\n"); n < 50 || n > 1500 {
		t.Errorf("the checkpoint has %d items", n)
	}
	if _, errs := run(0, "create", repo+"::a", src); !strings.Contains(errs, "delete "+repo+"::a.checkpoint") {
		t.Errorf("nothing is said of the checkpoint: %s", errs)
	}
	run(0, "extract", "--target", filepath.Join(dir, "out"), repo+"::a")
	if _, err := os.Stat(filepath.Join(dir, "out", src, "1499")); err != nil {
		t.Error(err)
	}
	run(0, "check", repo)
}

// A terminal that is closed, and a system that shuts down, end a backup as Ctrl-C does: however often they tell of it.
func TestEverySignalThatEndsABackupLeavesACheckpoint(t *testing.T) {
	dir := useEnv(t)
	repo := filepath.Join(dir, "repo")
	if code, _, errs := inEnv(t.Context(), "init", repo); code != 0 {
		t.Fatal(errs)
	}
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
	}{
		{"int", []syscall.Signal{syscall.SIGINT}},
		{"term", []syscall.Signal{syscall.SIGTERM}},
		{"hup", []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP, syscall.SIGHUP}},
	} {
		cmd := exec.CommandContext(t.Context(), program(t), "create", repo+"::"+c.name, "-")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stored := make(chan struct{})
		go func() { // and never says that it is over
			for data, n := make([]byte, 1<<20), 0; ; n++ {
				rand.Read(data)
				if _, err := in.Write(data); err != nil {
					return
				}
				if n > 1<<10 { // the signals have no effect
					cmd.Process.Kill()
				}
			}
		}()
		go func() {
			before := dataSize(repo)
			for dataSize(repo) < before+6<<20 && cmd.Process.Signal(syscall.Signal(0)) == nil {
				time.Sleep(time.Millisecond)
			}
			close(stored)
		}()
		<-stored
		for _, s := range c.signals {
			cmd.Process.Signal(s)
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted {
			t.Errorf("%s: %v: %s", c.name, err, errs.String())
		}
		want := fmt.Sprintf("garret: interrupted; what was stored so far is archive \"%s.checkpoint\"", c.name)
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%s: %s", c.name, errs.String())
		}
		if _, list, _ := inEnv(t.Context(), "list", "--short", repo); !strings.Contains(list, c.name+".checkpoint\n") {
			t.Errorf("%s: the archives are %q", c.name, list)
		}
	}
	if code, _, errs := inEnv(t.Context(), "check", repo); code != 0 {
		t.Error(errs)
	}
}

// dataSize returns how many bytes the segments of a repository have.
func dataSize(repo string) (n int64) {
	names, _ := filepath.Glob(filepath.Join(repo, "data", "*", "*"))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
