// Instructions counts the processor's instructions that inner loops take, as valgrind does it: the count hardly depends on
// what else the machine does, as seconds do.
//
//	go run ./bench/instructions            # counts, beside those of counts.txt
//	go run ./bench/instructions -update    # writes counts.txt, in the current folder's bench/instructions
//
// Each work is done by a process of its own, on one processor, without garbage collection (what it would cost is in the number of
// allocations, which have guards of their own) and without preemption. What a process takes that does nothing is subtracted,
// and what prepares the work is done by another one. Valgrind has a CPUID of its own: code that would be chosen for newer
// instructions, such as those for SHA-256, is not what is counted.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/cpu"

	"garret/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "instructions: %v\n", err)
		os.Exit(1)
	}
}

// countsFile is where the counts are kept, from the root of the module.
const countsFile = "bench/instructions/counts.txt"

func run(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("instructions", flag.ContinueOnError)
	update := f.Bool("update", false, "write the counts to "+countsFile)
	name := f.String("work", "", "do one work; used by the program itself")
	dir := f.String("dir", "", "where its data is")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *name != "" {
		fmt.Fprintln(stdout, environment())
		return doWork(ctx, *name, *dir)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	now, err := count(ctx, self, works)
	if err != nil {
		return err
	}
	if *update {
		if err := os.WriteFile(countsFile, []byte(now.String()), 0o644); err != nil {
			return fmt.Errorf("%w (run it in the module's root)", err)
		}
	}
	kept, err := readCounts(countsFile)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n", now.environment)
	for _, w := range works {
		fmt.Fprintf(stdout, "%-36s %14d  %+.1f %%\n", w.name, now.of[w.name], 100*(now.ratio(kept, w.name)-1))
	}
	return nil
}

// environment says what a count depends on beside the code: the compiler, and which code is chosen for the processor that
// this process sees.
func environment() string {
	var features []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"aes", cpu.X86.HasAES},
		{"avx2", cpu.X86.HasAVX2},
		{"avx512", cpu.X86.HasAVX512F},
		{"bmi2", cpu.X86.HasBMI2},
		{"pclmulqdq", cpu.X86.HasPCLMULQDQ},
		{"sse4.2", cpu.X86.HasSSE42},
	} {
		if f.has {
			features = append(features, f.name)
		}
	}
	return runtime.Version() + " " + runtime.GOARCH + " " + strings.Join(features, ",")
}

// counts are numbers of instructions.
type counts struct {
	environment string
	of          map[string]int64 // by the name of a work
}

// ratio returns how many times as many instructions as in other counts a work takes.
func (c *counts) ratio(other *counts, work string) float64 {
	return float64(c.of[work]) / float64(other.of[work])
}

func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Instructions, counted and written by: go run ./bench/instructions -update\n%s\n", c.environment)
	for _, w := range works {
		fmt.Fprintf(&b, "%d %s\n", c.of[w.name], w.name)
	}
	return b.String()
}

func readCounts(path string) (*counts, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) < 2 {
		return nil, fmt.Errorf("%q has no counts", path)
	}
	c := &counts{environment: lines[1], of: map[string]int64{}}
	for _, line := range lines[2:] {
		number, name, _ := strings.Cut(line, " ")
		if c.of[name], err = strconv.ParseInt(number, 10, 64); err != nil {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
	}
	return c, nil
}

// count does works, by a program that is this one.
func count(ctx context.Context, self string, chosen []work) (*counts, error) {
	dir, err := os.MkdirTemp("", "garret-instructions-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := prepare(ctx, dir); err != nil {
		return nil, err
	}
	c := &counts{of: map[string]int64{}}
	all := map[string]int64{}
	counted := func(name string) (int64, error) {
		if n, ok := all[name]; ok {
			return n, nil
		}
		err := untilItLives(ctx, func() (err error) {
			all[name], c.environment, err = countOne(ctx, self, name, dir)
			return err
		})
		return all[name], err
	}
	for _, w := range chosen {
		n, err := counted(w.name)
		if err != nil {
			return nil, err
		}
		less, err := counted(cmp.Or(w.less, start.name))
		if err != nil {
			return nil, err
		}
		c.of[w.name] = n - less
	}
	return c, nil
}

// errNoCount is returned when a process has ended without a count.
var errNoCount = errors.New("valgrind does not tell the number of instructions")

// attempts is how often a process is begun that dies.
const attempts = 5

// untilItLives calls do once more when a process has died: a Go program may, within valgrind, which does not handle signals as a
// kernel does, and does so more often while the machine is busy. That says nothing about instructions. An error that the
// program tells, with exit code 1, is one; and a count is never taken again.
func untilItLives(ctx context.Context, do func() error) (err error) {
	for range attempts {
		err = do()
		var exit *exec.ExitError
		died := errors.Is(err, errNoCount) || errors.As(err, &exit) && exit.ExitCode() != 1
		if !died || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("%d times: %w", attempts, err)
}

// refs is how valgrind tells the number of instructions.
var refs = regexp.MustCompile(`I\s+refs:\s+([0-9,]+)`)

// countOne does one work, and returns the instructions that its process takes, and the environment it has seen.
func countOne(ctx context.Context, self, name, dir string) (n int64, environment string, err error) {
	log := filepath.Join(dir, "valgrind.log")
	out, err := measure.Output(ctx, measure.Command{
		Args: []string{
			"valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=" + log,
			self, "-work", name, "-dir", dir,
		},
		Env: []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1"},
	})
	if err != nil {
		return 0, "", err
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, "", err
	}
	found := refs.FindSubmatch(text)
	if found == nil {
		return 0, "", fmt.Errorf("%w: %s", errNoCount, text)
	}
	n, err = strconv.ParseInt(strings.ReplaceAll(string(found[1]), ",", ""), 10, 64)
	return n, strings.TrimSpace(string(out)), err
}

// missing says why nothing can be counted here, or nil.
func missing() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return errors.New("instructions are counted on linux/amd64")
	}
	_, err := exec.LookPath("valgrind")
	return err
}
