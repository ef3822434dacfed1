package cli

import (
	"errors"
	"fmt"
	"io/fs"
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
	// The client starts the server and is connected with it by a pipe: a port could be taken by another test.
	for name, text := range map[string]string{
		"sshd_config": fmt.Sprintf(`HostKey %[1]s/host
AuthorizedKeysFile %[1]s/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxSessions 100
# The start-up files of the person's shell may say anything, and do so at any time.
SetEnv HOME=%[1]s
`, dir),
		"ssh_config": fmt.Sprintf(`IdentityFile %[1]s/client
ProxyCommand %[2]s -i -e -f %[1]s/sshd_config 2>>%[1]s/log
BatchMode yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
`, dir, sshd),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if log, err := os.ReadFile(dir + "/log"); err == nil && t.Failed() {
			t.Logf("sshd said:\n%s", log)
		}
	})
	ssh := "ssh -F " + dir + "/ssh_config"
	if out, err := exec.Command("ssh", append(strings.Fields(ssh)[1:], "localhost", "true")...).CombinedOutput(); err != nil {
		skip("sshd does not answer: %v\n%s", err, out)
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
