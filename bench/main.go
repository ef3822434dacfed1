// Bench measures garret beside other programs that do the same work: borg, restic, kopia, tar, tar|zstd, cp, find and dd,
// whichever are installed.
//
//	go run ./bench -markdown table.md -svg chart.svg
//
// The programs take turns within each work and each round, so that ratios of medians mean something on a machine that does other
// things too. Data sets are made from fixed seeds, but the source tree, which is that of Debian's linux-source package
// if it is installed (/usr/src/linux-source-*.tar.xz), else Go's. Everything is read out of the page cache, and
// what is dirty is written before each measurement; a program pays for the syncs that it does itself.
//
//	go run ./bench -only growth -markdown table.md -svg chart.svg
//
// measures garret beside itself: the same small works in repositories of ten and a hundred times as many objects.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"garret/bench/measure"
	"garret/bench/report"
)

// options say what to measure.
type options struct {
	dir            string // where all is kept while it runs
	programNames   []string
	garrets        []string
	only           []string
	source         string
	large          int64 // bytes
	tiny           int   // files
	versions       int
	versionFiles   int
	objects        int // at least, in what grows
	growthArchives int
	settling       time.Duration // after which files are believed to be unchanged
	rounds         int
	timeout        time.Duration

	markdown, svg, json string // files to write
}

// versionFileLimit is the length in bytes that no file of the versions has.
const versionFileLimit = 64 << 10

// What can be measured beside other programs. There is growth, too.
var kinds = []string{"source", "incompressible", "compressible", "tiny", "versions"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := start(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// start is run, unless this is a process that run has started.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 2 && args[0] == childFlag {
		return child(ctx, args[1], stdout)
	}
	return run(ctx, args, stdout, stderr)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = strings.Split(s, ","); return nil }
	}
	o.programNames = []string{"borg", "restic", "kopia", "tar", "tar|zstd", "cp", "find", "dd"}
	o.only = kinds
	quick := f.Bool("quick", false, "tiny data and one round: to see that all works")
	f.StringVar(&o.dir, "dir", "", "a folder on the disk to measure; empty: a temporary one")
	f.Func("programs", "`names` of programs beside garret (default "+strings.Join(o.programNames, ",")+")", list(&o.programNames))
	f.Func("garret", "`paths` of garret's executables; those after the first are compared with it (default: built)", list(&o.garrets))
	f.Func("only", "`kinds` of data (default "+strings.Join(o.only, ",")+"), or growth alone", list(&o.only))
	f.StringVar(&o.source, "source", "", "a `folder` to take as the source tree")
	megabytes := f.Int64("large", 512, "size of the large files, in `MiB`")
	f.IntVar(&o.tiny, "tiny", 200_000, "`number` of tiny files")
	f.IntVar(&o.versions, "versions", 30, "`number` of versions of a tree")
	f.IntVar(&o.versionFiles, "version-files", 3000, "`number` of files in it")
	f.IntVar(&o.objects, "objects", 10_000, "`number` of objects in the smallest repository that grows")
	f.IntVar(&o.growthArchives, "archives", 500, "`number` of archives in the repositories that grow")
	f.IntVar(&o.rounds, "rounds", 3, "`number` of rounds")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "after which a program has failed")
	f.StringVar(&o.markdown, "markdown", "", "`file` to write the tables to; empty: standard output")
	f.StringVar(&o.svg, "svg", "", "`file` to write a chart to")
	f.StringVar(&o.json, "json", "", "`file` to write all measurements to")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.large, o.settling = *megabytes<<20, 4*time.Second
	if *quick {
		o.growthArchives, o.settling = 10, 0
		o.large, o.tiny, o.versions, o.versionFiles, o.objects, o.rounds = 1<<20, 300, 4, 100, 100, 1
	}
	for _, kind := range o.only {
		switch {
		case kind == growth && len(o.only) > 1:
			return o, errors.New("growth has tables of its own, and is measured alone")
		case kind != growth && !slices.Contains(kinds, kind):
			return o, fmt.Errorf("%q is no kind of data; there are %s, %s", kind, strings.Join(kinds, ", "), growth)
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%q is too much: there are only options", f.Arg(0))
	case o.large < 1 || o.tiny < 1 || o.versions < 2 || o.versionFiles < 1 || o.objects < 100 || o.growthArchives < 8 || o.rounds < 1:
		return o, errors.New("sizes and numbers must be at least 1, versions 2, objects 100 and archives 8")
	}
	if *quick && o.source == "" {
		o.source = "made"
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, log io.Writer) error {
	o, err := parse(args, log)
	if err != nil {
		return err
	}
	if o.dir != "" {
		if o.dir, err = filepath.Abs(o.dir); err != nil {
			return err
		}
	}
	if o.dir, err = os.MkdirTemp(o.dir, "garret-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if len(o.garrets) == 0 {
		path := filepath.Join(o.dir, "garret")
		if _, err := measure.Output(ctx, measure.Command{Args: []string{"go", "build", "-o", path, "garret/cmd/garret"}}); err != nil {
			return err
		}
		o.garrets = []string{path}
	}
	for i, path := range o.garrets {
		if o.garrets[i], err = filepath.Abs(path); err != nil {
			return err
		}
	}
	b := &bench{options: o, log: log}
	if b.isGrowth() {
		b.programNames = nil
	}
	var missing []string
	b.programs, missing = programs(b.garrets, b.programNames)
	if len(missing) > 0 {
		fmt.Fprintf(log, "not installed: %s\n", strings.Join(missing, ", "))
	}
	for _, p := range b.programs {
		b.results.Programs = append(b.results.Programs, p.name)
	}
	before := load()
	err = b.all(ctx)
	// Hours of measurements are not lost by an interrupt.
	return errors.Join(err, b.write(context.WithoutCancel(ctx), stdout, args, before))
}

// all does all work, as many rounds as are wanted.
func (b *bench) all(ctx context.Context) error {
	for _, kind := range b.only {
		begin := time.Now()
		if err := b.kind(ctx, kind); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		fmt.Fprintf(b.log, "%s took %v\n", kind, time.Since(begin).Round(time.Second))
	}
	return nil
}

func (b *bench) kind(ctx context.Context, kind string) error {
	if kind == growth {
		return errors.Join(b.growthOf(ctx), b.clear())
	}
	data := filepath.Join(b.dir, kind)
	changed := ""
	var err error
	rounds := b.rounds
	switch kind {
	case "source":
		data, err = b.sourceTree(ctx)
	case "incompressible":
		err = writeNoise(data, b.large)
	case "compressible":
		changed = data + "-changed"
		if err = writeText(data, b.large); err == nil {
			err = writeChanged(changed, data)
		}
	case "tiny":
		err = makeTree(data, b.tiny, 1000, 1)
	case "versions":
		err = makeTree(data, b.versionFiles, versionFileLimit, 2)
		rounds = 1 // which are in the versions
	}
	if err != nil {
		return err
	}
	files, size, err := sizeOf(data)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.log, "%s: %d files, %s\n", kind, files, report.Bytes(float64(size)))
	for range rounds {
		switch kind {
		case "source":
			err = b.tree(ctx, "source tree", data)
		case "tiny":
			err = b.tree(ctx, "tiny files", data)
		case "versions":
			err = b.versionsOf(ctx, data)
		default:
			err = b.file(ctx, kind+" file", data, changed)
		}
		if err != nil {
			return err
		}
	}
	return b.clear()
}

// clear removes what was made for one kind of data.
func (b *bench) clear() error {
	made, err := filepath.Glob(filepath.Join(b.dir, "*"))
	for _, path := range made {
		if slices.Contains(b.garrets, path) {
			continue
		}
		if removeErr := os.RemoveAll(path); err == nil {
			err = removeErr
		}
	}
	return err
}

// sourceTree returns the folder of the source tree.
func (b *bench) sourceTree(ctx context.Context) (string, error) {
	made := filepath.Join(b.dir, "source")
	if b.source == "made" {
		return made, makeTree(made, 300, versionFileLimit, 3)
	}
	if b.source != "" {
		return filepath.Abs(b.source)
	}
	packed, err := filepath.Glob("/usr/src/linux-source-*.tar.xz")
	if err != nil || len(packed) == 0 {
		root, err := measure.Output(ctx, measure.Command{Args: []string{"go", "env", "GOROOT"}})
		return strings.TrimSpace(string(root)), err
	}
	if err := os.Mkdir(made, 0o700); err != nil {
		return "", err
	}
	_, err = measure.Output(ctx, measure.Command{Args: []string{"tar", "-C", made, "-xf", packed[len(packed)-1]}})
	return made, err
}

// write writes what was found out.
func (b *bench) write(ctx context.Context, stdout io.Writer, args []string, before string) error {
	if b.json != "" {
		data, err := json.MarshalIndent(&b.results, "", "\t")
		if err == nil {
			err = os.WriteFile(b.json, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if b.svg != "" {
		var chart strings.Builder
		title, metric := fmt.Sprintf("Time beside garret's: medians of %d rounds, shorter is better", b.rounds), report.Wall
		if b.isGrowth() { // how long a sync takes has nothing to do with it, and hides what has
			title = fmt.Sprintf("How processor time grows with the number of objects: medians of %d rounds", b.rounds)
			metric = report.CPU
		}
		err := b.results.Chart(&chart, title, metric)
		if err == nil {
			err = os.WriteFile(b.svg, []byte(chart.String()), 0o644)
		}
		if err != nil {
			return err
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "    go run ./bench %s\n\n", quoted(args))
	first := "garret's.\n" + b.versionsOfPrograms(ctx)
	if b.isGrowth() {
		first = "that of the smallest repository"
	}
	fmt.Fprintf(&text, "%d processors, %s/%s, %s; load average %s before and %s after; medians of %d rounds, in brackets their ratio to %s.\n\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), before, load(), b.rounds, first)
	for _, m := range []report.Metric{report.Wall, report.CPU, report.Peak, report.Stored, report.Written} {
		if err := b.results.Table(&text, m); err != nil {
			return err
		}
	}
	if b.markdown != "" {
		return os.WriteFile(b.markdown, []byte(text.String()), 0o644)
	}
	_, err := io.WriteString(stdout, text.String())
	return err
}

// versionsOfPrograms tells what the programs say of themselves.
func (b *bench) versionsOfPrograms(ctx context.Context) string {
	var versions []string
	for _, p := range b.programs {
		out, err := exec.CommandContext(ctx, p.path, p.version...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil || line == "" {
			line = p.name
		}
		if !slices.Contains(versions, line) {
			versions = append(versions, line)
		}
	}
	return strings.Join(versions, "; ")
}

// quoted writes arguments as a shell reads them.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		if words[i] = arg; strings.ContainsAny(arg, " |&;<>()$`\"'\\*?") {
			words[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// load returns the load average of the last minute, where the system tells.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(data))[0]
}
