package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"garret/internal/mount"
)

// A terminal is a pseudo-terminal with a command at it.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	said   []byte
}

// startAtTerminal starts garret at a terminal of its own.
func startAtTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	// os.NewFile makes it non-blocking only if it is already: so that reads can have a deadline.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	defer slave.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "garret"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &terminal{t: t, master: master, cmd: cmd}
}

// expect reads until something has been said since the last time.
func (term *terminal) expect(text string) {
	term.t.Helper()
	term.master.SetReadDeadline(time.Now().Add(5 * time.Minute))
	buf := make([]byte, 1000)
	for !bytes.Contains(term.said, []byte(text)) {
		n, err := term.master.Read(buf)
		term.said = append(term.said, buf[:n]...)
		if err != nil {
			term.t.Fatalf("said %q instead of %q: %v", term.said, text, err)
		}
	}
	term.said = term.said[bytes.Index(term.said, []byte(text))+len(text):]
}

func (term *terminal) write(text string) {
	term.t.Helper()
	if _, err := term.master.WriteString(text); err != nil {
		term.t.Fatal(err)
	}
}

// wait returns the exit code.
func (term *terminal) wait() int {
	term.cmd.Wait()
	return term.cmd.ProcessState.ExitCode()
}

// served returns the process that serves a mount point, or 0.
func served(t *testing.T, point string) string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		if bytes.Contains(args, []byte("--"+servedFlag)) && bytes.Contains(args, []byte(point)) {
			return dir
		}
	}
	return ""
}

func TestAPassphraseIsAskedForWhereTheCommandWasGiven(t *testing.T) {
	requireFUSE(t)
	dir := useTestEnv(t)
	const secret = "correct horse 1"
	repo, point, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "point"), filepath.Join(dir, "tree")
	makeTree(t, tree)
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	garret(t, "init", "-e", "passphrase", repo)
	garret(t, "create", repo+"::one", tree)
	os.Unsetenv("GARRET_PASSPHRASE")

	term := startAtTerminal(t, "mount", repo, point)
	term.expect("Passphrase for " + repo + ": ")
	term.write("wrong\n")
	term.expect("Passphrase for " + repo + ": ")
	term.write(secret + "\n")
	if code := term.wait(); code != exitOK {
		t.Fatalf("exit code %d: %q", code, term.said)
	}
	defer mount.Unmount(point)
	if _, err := os.Stat(filepath.Join(point, "one")); err != nil {
		t.Error(err)
	}
	proc := served(t, point)
	if proc == "" {
		t.Fatal("no process serves the files")
	}
	for _, name := range []string{"cmdline", "environ"} {
		if data, err := os.ReadFile(filepath.Join(proc, name)); err != nil || strings.Contains(string(data), secret) {
			t.Errorf("%s: %v, %q", name, err, data)
		}
	}
	for fd, want := range map[string]string{"0": os.DevNull, "1": os.DevNull, "2": os.DevNull} {
		if got, err := os.Readlink(filepath.Join(proc, "fd", fd)); err != nil || got != want {
			t.Errorf("descriptor %s is %q, %v", fd, got, err)
		}
	}
	if got, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || got != "/" {
		t.Errorf("its folder is %q, %v", got, err)
	}
	garret(t, "umount", point)
	for range 15_000 {
		if _, err := os.Stat(proc); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the process is still there")
}

func TestAnInterruptWhileThePassphraseIsAskedForLeavesNothing(t *testing.T) {
	requireFUSE(t)
	dir := useTestEnv(t)
	repo, point := filepath.Join(dir, "repo"), filepath.Join(dir, "point")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	garret(t, "init", "-e", "passphrase", repo)
	os.Unsetenv("GARRET_PASSPHRASE")
	term := startAtTerminal(t, "mount", repo, point)
	term.expect("Passphrase for " + repo + ": ")
	proc := served(t, point)
	term.write("\x03")
	if code := term.wait(); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	term.expect("garret: interrupted")
	for range 15_000 {
		if _, err := os.Stat(proc); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("process %s is still there", proc)
}
