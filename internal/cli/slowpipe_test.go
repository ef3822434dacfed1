package cli

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// delayVar is the time that every byte is under way between slow-rsh and the server, in each direction.
const delayVar = "GARRET_TEST_DELAY"

// countVar is a file to which slow-rsh adds the number of bytes that went either way.
const countVar = "GARRET_TEST_COUNT"

// slowRSH does as ssh does, on this machine, and takes its time: slow-rsh HOST COMMAND.
func slowRSH() {
	delay, err := time.ParseDuration(os.Getenv(delayVar))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command("sh", "-c", strings.Join(os.Args[2:], " "))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		var stdout io.Reader
		if stdout, err = cmd.StdoutPipe(); err == nil {
			err = cmd.Start()
		}
		if err == nil {
			var sent, got atomic.Int64
			go func() {
				delayed(stdin, os.Stdin, delay, &sent)
				stdin.Close()
			}()
			delayed(os.Stdout, stdout, delay, &got)
			err = cmd.Wait()
			if name := os.Getenv(countVar); name != "" {
				if f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
					fmt.Fprintln(f, sent.Load(), got.Load())
					f.Close()
				}
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// delayed copies, every byte a while after it came.
func delayed(w io.Writer, r io.Reader, delay time.Duration, count *atomic.Int64) {
	type packet struct {
		data []byte
		due  time.Time
	}
	queue := make(chan packet, 1<<16)
	go func() {
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			n, err := r.Read(buf)
			if n > 0 {
				queue <- packet{buf[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range queue {
		time.Sleep(time.Until(p.due))
		count.Add(int64(len(p.data)))
		if _, err := w.Write(p.data); err != nil {
			return
		}
	}
}

// BenchmarkSlowPipe creates and extracts an archive of Go's tree, or of the folder in GARRET_BENCH_TREE, through a server
// that answers at once and through one at 20 ms of round trip.
func BenchmarkSlowPipe(b *testing.B) {
	tree := os.Getenv("GARRET_BENCH_TREE")
	if tree == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			b.Fatal(err)
		}
		tree = strings.TrimSpace(string(out))
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		times := map[string][]time.Duration{}
		for range 3 {
			for _, delay := range []string{"0s", "10ms"} { // in each direction
				dir := b.TempDir()
				for _, name := range []string{"garret", "slow-rsh"} {
					if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
						b.Fatal(err)
					}
				}
				env := append(testEnv(dir), delayVar+"="+delay, countVar+"="+filepath.Join(dir, "count"), "GARRET_PASSPHRASE=x",
					"GARRET_RSH="+filepath.Join(dir, "slow-rsh"), "GARRET_REMOTE_PATH="+filepath.Join(dir, "garret"),
					"PATH="+os.Getenv("PATH"))
				run := func(what string, args ...string) {
					cmd := exec.Command(filepath.Join(dir, "garret"), args...)
					cmd.Env = env
					begin := time.Now()
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%s: %v\n%s", what, err, out)
					}
					times[what+" "+delay] = append(times[what+" "+delay], time.Since(begin))
				}
				repo := "host:" + filepath.Join(dir, "repo")
				run("init", "init", "-e", "keyfile", repo)
				run("create", "create", repo+"::one", tree)
				run("create again", "create", repo+"::two", tree)
				run("extract", "extract", "-t", filepath.Join(dir, "out"), repo+"::one")
				counts, _ := os.ReadFile(filepath.Join(dir, "count"))
				b.Logf("%s each way; bytes to and from the server, by command: %q", delay, strings.Split(strings.TrimSpace(string(counts)), "\n"))
				os.RemoveAll(filepath.Join(dir, "out"))
			}
		}
		for _, what := range []string{"create", "create again", "extract"} {
			fast, slow := median(times[what+" 0s"]), median(times[what+" 10ms"])
			b.ReportMetric(slow.Seconds()/fast.Seconds(), strings.ReplaceAll(what, " ", "-")+"-ratio")
			b.Logf("%s: %v, with 20 ms of round trip %v", what, fast.Round(time.Millisecond), slow.Round(time.Millisecond))
		}
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
