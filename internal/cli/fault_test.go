package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"garret/internal/campaign"
	"garret/internal/rawpack"
	"garret/repository"
)

// The faults of a connection, with the real program at both ends.

// faultVar holds the fault that is to happen: the direction, the number of the message after which it happens, and what.
// faultDir is a folder where it is noted that it has, and as what process the server runs.
const (
	faultVar = "GARRET_TEST_FAULT"
	faultDir = "GARRET_TEST_FAULT_DIR"
)

// faultyConnection is the main function of a program that is used in the place of ssh, and breaks.
func faultyConnection() {
	var direction, what string
	var after int
	if _, err := fmt.Sscanf(os.Getenv(faultVar), "%s %d %s", &direction, &after, &what); err != nil {
		panic(err)
	}
	dir := os.Getenv(faultDir)
	server := exec.Command("/bin/sh", "-c", "exec "+strings.Join(os.Args[2:], " "))
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		panic(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := server.Start(); err != nil {
		panic(err)
	}
	os.WriteFile(filepath.Join(dir, "server"), fmt.Append(nil, server.Process.Pid), 0o600)
	fault := func() {
		os.WriteFile(filepath.Join(dir, "fired"), nil, 0o600)
		switch what {
		case "cut":
			os.Exit(255) // what it has open is closed, at both sides
		case "kill-server":
			server.Process.Kill()
		case "kill-client":
			syscall.Kill(os.Getppid(), syscall.SIGKILL)
		case "stall":
			select {}
		case "interrupt":
			syscall.Kill(0, syscall.SIGINT) // as a terminal does, to all
		case "hangup":
			syscall.Kill(0, syscall.SIGHUP) // as a shell does whose terminal is closed
			syscall.Kill(0, syscall.SIGHUP) // and then the system
		}
	}
	var once sync.Once
	relay := func(name string, w io.WriteCloser, r io.Reader) {
		defer w.Close()
		var scan rawpack.Scanner
		var buf []byte // what is not scanned yet
		p := make([]byte, 64<<10)
		messages := 0
		if name == direction && after == 0 {
			once.Do(fault)
		}
		for {
			n, err := r.Read(p)
			part := p[:n]
			buf = append(buf, part...)
			for len(buf) > 0 {
				k, done, err := scan.Scan(buf)
				if err != nil {
					panic(err)
				}
				buf = buf[k:]
				if !done {
					break
				}
				scan = rawpack.Scanner{}
				if messages++; name == direction && messages == after {
					sent := len(part) - len(buf)
					w.Write(part[:sent])
					part = part[sent:]
					once.Do(fault)
				}
			}
			if _, err := w.Write(part); err != nil {
				return
			}
			if err != nil {
				return
			}
		}
	}
	var relaying sync.WaitGroup
	go relay("to-server", stdin, os.Stdin)
	relaying.Go(func() { relay("to-client", os.Stdout, stdout) })
	relaying.Wait()
	server.Wait()
	if !server.ProcessState.Success() {
		os.Exit(255)
	}
}

// faulty is a repository with one archive, and a tree to make another of.
type faulty struct {
	t                    *testing.T
	garret               string
	dir, clean, repo, in string
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	dir := useTestEnv(t)
	f := &faulty{t: t, dir: dir, clean: dir + "/clean", repo: dir + "/repo", in: dir + "/tree"}
	for _, name := range []string{"garret", "faulty-connection"} {
		path, err := exec.LookPath(name) // testscript has put it there
		if err != nil {
			t.Fatal(err)
		}
		if name == "garret" {
			f.garret = path
		} else {
			t.Setenv("GARRET_RSH", path)
		}
	}
	t.Setenv("GARRET_REMOTE_PATH", f.garret)
	t.Setenv("GARRET_RELOCATED_REPO_ACCESS_IS_OK", "yes")
	t.Setenv("GARRET_OLDER_REPO_ACCESS_IS_OK", "yes")
	t.Setenv(faultDir, dir)
	rng := rand.New(rand.NewPCG(1, 2))
	if err := os.Mkdir(f.in, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		data := make([]byte, 300_000)
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", f.in, i), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			garret(t, "init", "-e", "none", f.clean)
			garret(t, "create", f.clean+"::one", f.in)
		}
	}
	return f
}

// create makes an archive through a connection with a fault, and returns how it ended, and whether the fault happened.
func (f *faulty) create(fault string) (code int, stderr string, fired bool) {
	t := f.t
	t.Helper()
	for _, path := range []string{f.repo, f.dir + "/fired", f.dir + "/server", f.dir + "/cache"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, f.clean, f.repo)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.garret, "create", "host:"+f.repo+"::two", f.in)
	cmd.Env = append(os.Environ(), faultVar+"="+fault)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.WaitDelay = 5 * time.Minute
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("%s: %v\n%s", fault, err, errs.String())
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: it hangs\n%s", fault, errs.String())
	}
	_, err := os.Stat(f.dir + "/fired")
	// Here the server's own last words arrive too.
	for line := range strings.Lines(errs.String()) {
		if line != "garret: the connection ended in the midst of a message: unexpected EOF\n" &&
			!strings.HasPrefix(line, "garret: the connection to the client broke: ") {
			stderr += line
		}
	}
	return cmd.ProcessState.ExitCode(), stderr, err == nil
}

// verify makes sure that nobody is left, and that the repository is sound and holds what it must.
func (f *faulty) verify(fault string, made bool) (archives string) {
	t := f.t
	t.Helper()
	if pid, err := os.ReadFile(f.dir + "/server"); err == nil {
		var n int
		fmt.Sscan(string(pid), &n)
		for end := time.Now().Add(5 * time.Minute); syscall.Kill(n, 0) == nil && !isZombie(n); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the server runs on", fault)
			}
		}
	}
	// Nobody holds the lock.
	r, err := repository.Open(t.Context(), f.repo, &repository.Options{Exclusive: true})
	if err != nil {
		t.Fatalf("%s: %v", fault, err)
	}
	report, err := r.Check(t.Context(), repository.CheckOptions{})
	if err != nil || !report.OK() {
		t.Errorf("%s: %v %+v", fault, err, report)
	}
	if err := r.Close(); err != nil {
		t.Errorf("%s: %v", fault, err)
	}
	code, _, errs := inEnv(t.Context(), "check", f.repo)
	if code != 0 {
		t.Errorf("%s: check: %d: %s", fault, code, errs)
	}
	archives = garret(t, "list", "--short", f.repo)
	if !strings.Contains(archives, "one\n") || made && !strings.Contains(archives, "two\n") {
		t.Errorf("%s: the archives are %q", fault, archives)
	}
	return archives
}

// isZombie reports whether a process has ended and nobody has asked how: it was not our child, and whoever has it now may
// not care.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(after, []byte("Z"))
}

// Whatever breaks after whatever message of a backup, in either direction: the client ends in time and says so in one line,
// the server ends too, and the repository is sound and holds what was committed.
func TestABackupOverAConnectionWithFaults(t *testing.T) {
	each := campaign.Each(t, 5)
	for _, what := range []string{"cut", "kill-server", "kill-client", "stall", "interrupt", "hangup"} {
		t.Run(what, func(t *testing.T) {
			f := newFaulty(t)
			faults, checkpoints, step := 0, 0, each
			if what == "stall" {
				t.Setenv("GARRET_SILENCE", "3") // more than a busy machine takes to start a server
				step = 3 * each                 // each takes that long
			}
			for _, direction := range []string{"to-server", "to-client"} {
				for after := 0; ; after += step {
					fault := fmt.Sprintf("%s %d %s", direction, after, what)
					code, stderr, fired := f.create(fault)
					archives := f.verify(fault, code == 0)
					if !fired {
						if code != 0 {
							t.Errorf("%s: exit code %d without a fault: %s", fault, code, stderr)
						}
						break
					}
					faults++
					wantCode, wantLine := exitError, "the connection to the repository broke: "
					switch what {
					case "kill-client":
						wantCode, wantLine = -1, ""
					case "interrupt", "hangup":
						wantCode, wantLine = exitInterrupted, "garret: interrupted"
					}
					if code == 0 && strings.Contains(archives, "two\n") {
						continue // it was done already
					}
					wantKept := wantCode == exitError
					ungreeted := after == 0 || after == 1 && direction == "to-server"
					if ungreeted && wantKept && strings.Contains(stderr, "no server answers: ") {
						wantLine, wantKept = "no server answers: ", false
					}
					if code != wantCode || !strings.Contains(stderr, wantLine) || strings.Count(stderr, "\n") > 1 {
						t.Errorf("%s: exit code %d: %s", fault, code, stderr)
					}
					if wantKept && !strings.Contains(stderr, "; what was committed before is kept; ") {
						t.Errorf("%s: it is not said what is kept: %s", fault, stderr)
					}
					if strings.Contains(stderr, "two.checkpoint") != strings.Contains(archives, "two.checkpoint") {
						t.Errorf("%s: the archives are %q: %s", fault, archives, stderr)
					}
					checkpoints += strings.Count(archives, "two.checkpoint\n")
				}
			}
			t.Logf("%d faults, %d checkpoints", faults, checkpoints)
			wantsCheckpoint := each == 1 && (what == "interrupt" || what == "hangup")
			if faults < 20/step || wantsCheckpoint && checkpoints == 0 {
				t.Errorf("%d faults, %d checkpoints", faults, checkpoints)
			}
		})
	}
}

// Two clients do not disturb each other: one waits, or is told that the other is at work.
func TestTwoClientsAtOnce(t *testing.T) {
	f := newFaulty(t)
	copyTree(t, f.clean, f.repo)
	t.Setenv(faultVar, "never 0 nothing")
	var running sync.WaitGroup
	for i := range 3 {
		running.Go(func() {
			code, _, errs := inEnv(t.Context(), "create", "--lock-wait", "60", fmt.Sprintf("host:%s::%d", f.repo, i), f.in)
			if code != 0 {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
	running.Wait()
	if archives := f.verify("two clients", false); archives != "one\n0\n1\n2\n" && strings.Count(archives, "\n") != 4 {
		t.Errorf("the archives are %q", archives)
	}
	r, err := repository.Open(t.Context(), f.repo, &repository.Options{Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	code, _, errs := inEnv(t.Context(), "create", "--lock-wait", "0", "host:"+f.repo+"::more", f.in)
	if code != exitLocked || !strings.Contains(errs, "try again later") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
