// Stores measures garret's store beside bbolt, Pebble and Badger.
//
//	cd bench/stores && go run . -markdown table.md -svg chart.svg
//
// Each store is measured in processes of its own, which take turns. Values do not compress, keys are random, and there is one
// goroutine. What is read comes out of the page cache.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"garret/bench/measure"
	"garret/bench/report"
	"garret/repository"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "stores: %v\n", err)
		os.Exit(1)
	}
}

// options say what to measure, or what a process has to do for it.
type options struct {
	dir                string
	total              int64 // bytes of values
	rounds             int
	markdown, svg, all string

	store, work, result string // of a process
	size, count         int
}

// works are done one after the other with what the first leaves, and take as long as they say.
var works = []struct {
	name string
	do   func(o options, open func(string) (store, error)) (time.Duration, error)
}{
	{"put and commit", doPut}, {"get at random, 1,000", doGet}, {"list", doList}, {"check", doCheck}, {"open, get one, close", doReopen},
}

func run(ctx context.Context, args []string, stdout, log io.Writer) error {
	var o options
	f := flag.NewFlagSet("stores", flag.ContinueOnError)
	f.SetOutput(log)
	f.StringVar(&o.dir, "dir", "", "a folder on the disk to measure; empty: a temporary one")
	megabytes := f.Int64("total", 512, "size of all values of a store, in `MiB`")
	f.IntVar(&o.rounds, "rounds", 3, "`number` of rounds")
	f.StringVar(&o.markdown, "markdown", "", "`file` to write the tables to; empty: standard output")
	f.StringVar(&o.svg, "svg", "", "`file` to write a chart to")
	f.StringVar(&o.all, "json", "", "`file` to write all measurements to")
	f.StringVar(&o.store, "child-store", "", "used by the program itself")
	f.StringVar(&o.work, "child-work", "", "used by the program itself")
	f.StringVar(&o.result, "child-result", "", "used by the program itself")
	f.IntVar(&o.size, "child-size", 0, "used by the program itself")
	f.IntVar(&o.count, "child-count", 0, "used by the program itself")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.store != "" {
		return o.child()
	}
	o.total = *megabytes << 20
	if o.total < 1<<20 || o.rounds < 1 {
		return errors.New("there must be 1 MiB and one round at least")
	}
	return o.measure(ctx, args, stdout, log)
}

func (o options) measure(ctx context.Context, args []string, stdout, log io.Writer) (err error) {
	if o.dir, err = os.MkdirTemp(o.dir, "garret-stores-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	var r report.Results
	for _, s := range stores {
		r.Programs = append(r.Programs, s.name)
	}
	before := load()
	turn := 0
	for _, size := range []int{64 << 10, 4 << 10} {
		for round := range o.rounds {
			for _, w := range works {
				turn++
				for i := range stores {
					s := stores[(i+turn)%len(stores)]
					work := fmt.Sprintf("%s, %d KiB", w.name, size>>10)
					dir := filepath.Join(o.dir, fmt.Sprintf("%s-%d-%d", s.name, size, round))
					u, err := o.start(ctx, s.name, w.name, size, dir)
					if err != nil {
						return fmt.Errorf("%s: %s: %w", work, s.name, err)
					}
					fmt.Fprintf(log, "%-32s %-8s %9s\n", work, s.name, report.Seconds(u.Wall.Seconds()))
					series := r.Of(work, s.name)
					series.Rounds = append(series.Rounds, u)
					if w.name == works[0].name {
						stored, err := sizeOf(dir)
						if err != nil {
							return err
						}
						series.Stored = append(series.Stored, stored)
					}
				}
			}
			left, err := filepath.Glob(filepath.Join(o.dir, "*"))
			for _, path := range left {
				err = errors.Join(err, os.RemoveAll(path))
			}
			if err != nil {
				return err
			}
		}
	}
	return o.write(&r, stdout, args, before)
}

// start has a work done by a process, and returns what it has cost: in time without its preparation, else as a whole.
func (o options) start(ctx context.Context, store, work string, size int, dir string) (measure.Usage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return measure.Usage{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return measure.Usage{}, err
	}
	unix.Sync()
	result := filepath.Join(o.dir, "result")
	u, err := measure.Run(ctx, measure.Command{Args: []string{
		self, "-dir", dir, "-child-store", store, "-child-work", work, "-child-result", result,
		"-child-size", fmt.Sprint(size), "-child-count", fmt.Sprint(o.total / int64(size)),
	}})
	if err != nil {
		return u, err
	}
	data, err := os.ReadFile(result)
	if err == nil {
		err = json.Unmarshal(data, &u.Wall)
	}
	return u, err
}

// child does one work of one store.
func (o options) child() error {
	for _, s := range stores {
		if s.name != o.store {
			continue
		}
		for _, w := range works {
			if w.name != o.work {
				continue
			}
			took, err := w.do(o, s.open)
			if err != nil {
				return err
			}
			data, err := json.Marshal(took)
			if err != nil {
				return err
			}
			return os.WriteFile(o.result, data, 0o600)
		}
	}
	return fmt.Errorf("there is no work %q of %q", o.work, o.store)
}

func keyOf(i int) (key repository.ID) {
	rng := rand.New(rand.NewPCG(uint64(i), 42))
	for k := 0; k < len(key); k += 8 {
		binary.LittleEndian.PutUint64(key[k:], rng.Uint64())
	}
	return key
}

// valueOf returns the value of a key, from bytes that do not compress and are twice as long.
func valueOf(i, size int, noise []byte) []byte {
	value := slices.Clone(noise[i%size : i%size+size])
	binary.LittleEndian.PutUint64(value, uint64(i))
	return value
}

func noise(size int) []byte {
	b := make([]byte, 2*size)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b) // never fails
	return b
}

func doPut(o options, open func(string) (store, error)) (time.Duration, error) {
	from := noise(o.size)
	return with(o, open, func(s store) (time.Duration, error) {
		begin := time.Now()
		err := s.putAll(o.count, func(i int) (repository.ID, []byte) { return keyOf(i), valueOf(i, o.size, from) })
		return time.Since(begin), err
	})
}

func doGet(o options, open func(string) (store, error)) (time.Duration, error) {
	const gets = 20_000
	from := noise(o.size)
	return with(o, open, func(s store) (time.Duration, error) {
		rng := rand.New(rand.NewPCG(3, 3))
		var begin time.Time
		for k := range 2 * gets { // the first half warms caches up
			if k == gets {
				begin = time.Now()
			}
			i := rng.IntN(o.count)
			value, err := s.get(keyOf(i))
			if err != nil {
				return 0, err
			}
			if len(value) != o.size || binary.LittleEndian.Uint64(value) != uint64(i) || value[o.size-1] != from[i%o.size+o.size-1] {
				return 0, fmt.Errorf("value %d is another one", i)
			}
		}
		return time.Since(begin) / (gets / 1000), nil
	})
}

func doList(o options, open func(string) (store, error)) (time.Duration, error) {
	return with(o, open, func(s store) (time.Duration, error) {
		return median(5, func() error {
			keys, err := s.list()
			if err == nil && len(keys) != o.count {
				err = fmt.Errorf("%d keys instead of %d", len(keys), o.count)
			}
			return err
		})
	})
}

func doCheck(o options, open func(string) (store, error)) (time.Duration, error) {
	return with(o, open, func(s store) (time.Duration, error) { return median(1, s.check) })
}

func doReopen(o options, open func(string) (store, error)) (time.Duration, error) {
	i := 0
	return median(11, func() error {
		s, err := open(o.dir)
		if err != nil {
			return err
		}
		i = (i + 7919) % o.count
		if _, err := s.get(keyOf(i)); err != nil {
			return err
		}
		return s.close()
	})
}

// with opens and closes a store around a work.
func with(o options, open func(string) (store, error), do func(store) (time.Duration, error)) (time.Duration, error) {
	s, err := open(o.dir)
	if err != nil {
		return 0, err
	}
	took, err := do(s)
	return took, errors.Join(err, s.close())
}

// median does something several times and returns how long it usually takes.
func median(times int, do func() error) (time.Duration, error) {
	var took []float64
	for range times {
		begin := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(begin)))
	}
	return time.Duration(report.Median(took)), nil
}

func (o options) write(r *report.Results, stdout io.Writer, args []string, before string) error {
	if o.all != "" {
		data, err := json.MarshalIndent(r, "", "\t")
		if err == nil {
			err = os.WriteFile(o.all, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.svg != "" {
		var chart strings.Builder
		title := fmt.Sprintf("Stores, time beside garret's: medians of %d rounds, shorter is better", o.rounds)
		err := r.Chart(&chart, title, report.Wall)
		if err == nil {
			err = os.WriteFile(o.svg, []byte(chart.String()), 0o644)
		}
		if err != nil {
			return err
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "    cd bench/stores && go run . %s\n\n", strings.Join(args, " "))
	fmt.Fprintf(&text, "%d processors, %s/%s, %s; load average %s before and %s after; %s of values; medians of %d rounds, in brackets "+
		"their ratio to garret's.\n\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), before, load(),
		report.Bytes(float64(o.total)), o.rounds)
	for _, m := range []report.Metric{report.Wall, report.Peak, report.Stored, report.Written} {
		if err := r.Table(&text, m); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		return os.WriteFile(o.markdown, []byte(text.String()), 0o644)
	}
	_, err := io.WriteString(stdout, text.String())
	return err
}

// sizeOf returns the room that the files of a folder take; some stores keep files that are mostly holes.
func sizeOf(dir string) (size int64, err error) {
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		size += int64(st.Blocks) * 512
		return err
	})
	return size, err
}

// load returns the load average of the last minute, where the system tells.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(data))[0]
}
