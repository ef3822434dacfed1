package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"garret/internal/campaign"
)

// throughServer is the variable with which the garret of a test opens every repository through a server.
const throughServer = "GARRET_TEST_THROUGH_SERVER"

// startSSHD starts an sshd of this machine for one test, with keys of its own, and returns what has garret use it.
func startSSHD(t *testing.T) []string {
	t.Helper()
	skip := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("GARRET_REQUIRE_SSHD") != "" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		if sshd, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			skip("there is no sshd: %v", err)
		}
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		skip("there is no ssh: %v", err)
	}
	// Short, as it has a socket in it.
	dir, err := os.MkdirTemp("", "garret-ssh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 { // sshd insists on it
		if err := os.Mkdir("/run/sshd", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			skip("sshd would not start: %v", err)
		}
	}
	for _, name := range []string{"host", "client"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput()
		if err != nil {
			skip("ssh-keygen: %v\n%s", err, out)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	config := fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s/host
AuthorizedKeysFile %s/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
MaxSessions 100
# The start-up files of the person's shell may say anything, and do so at any time.
SetEnv HOME=%s
`, port, dir, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "config"))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		skip("start sshd: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd said:\n%s", log.String())
		}
	})
	ssh := fmt.Sprintf("ssh -F /dev/null -i %s/client -p %d -o BatchMode=yes -o StrictHostKeyChecking=no "+
		"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR", dir, port)
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		args := append(strings.Fields(ssh)[1:], "localhost", "true")
		out, err := exec.Command("ssh", args...).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			skip("sshd does not answer: %v\n%s", err, out)
		}
	}
	// One connection for all: what is tested is the protocol, and not the greeting.
	master := exec.Command("ssh", append(strings.Fields(ssh)[1:], "-M", "-N", "-S", dir+"/c", "localhost")...)
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		master.Process.Kill()
		master.Wait()
	})
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(dir + "/c"); err == nil || time.Now().After(end) {
			break
		}
	}
	return []string{
		"GARRET_RSH=" + ssh + " -S " + dir + "/c", throughServer + "=yes",
	}
}

// Every script runs once more with all its repositories behind a server, over a real ssh.
func TestScriptsOverSSH(t *testing.T) {
	all, err := filepath.Glob(scriptsDir + "/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts []string
	each := campaign.Each(t, 5)
	for i := 0; i < len(all); i += each {
		scripts = append(scripts, all[i])
	}
	vars := startSSHD(t)
	garret, err := exec.LookPath("garret") // testscript has put it there
	if err != nil {
		t.Fatal(err)
	}
	runScripts(t, scripts, append(vars, "GARRET_REMOTE_PATH="+garret))
}
