//go:build soak

package repository

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the process uses in the soak. It is measured while nothing goes on, so that it can be told apart from what is in use
// for the moment: one repository is closed then, and the other open.

// By how much the second half of the soak may use more than what came before, a warm-up left out. Medians are compared. Of
// descriptors and goroutines there must never be one more.
const (
	heapMayGrow   = 1 << 20  // bytes that are in use after a garbage collection
	heapMaySpread = 8 << 20  // bytes of the spans that hold them
	memoryMayGrow = 16 << 20 // bytes of the process; not with the race detector, which takes more and more for what it remembers
)

// sample is what the process uses at one moment.
type sample struct {
	heap, spans int64 // bytes
	resident    int64 // bytes; 0 where the system does not tell
	goroutines  int
	descriptors []string // what they refer to, but for files of the open repository; nil where the system does not tell
}

type usage struct {
	t       *testing.T
	kept    string // the path of the repository that is open
	samples []sample
}

// watch takes samples until the context is done.
func (u *usage) watch(ctx context.Context, quiet sync.Locker, d time.Duration) {
	tick := time.NewTicker(min(10*time.Second, d/20))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		quiet.Lock()
		// In the beginning not all may have begun, and in the end all ends.
		if ctx.Err() == nil {
			u.samples = append(u.samples, u.take())
		}
		quiet.Unlock()
	}
}

func (u *usage) take() sample {
	runtime.GC()
	runtime.GC() // the first leaves what pools hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{heap: int64(m.HeapAlloc), spans: int64(m.HeapInuse), descriptors: u.descriptors()}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
		s.resident = pages * int64(os.Getpagesize())
	}
	// One that has done its work may need a moment to end.
	s.goroutines = runtime.NumGoroutine()
	for range 100 {
		time.Sleep(time.Millisecond)
		s.goroutines = min(s.goroutines, runtime.NumGoroutine())
	}
	return s
}

// descriptors returns what the open ones refer to. Files of the open repository may be open, each once; those that have been
// removed may not.
func (u *usage) descriptors() []string {
	const folder = "/proc/self/fd"
	names, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var all []string
	inUse := map[string]bool{}
	for _, n := range names {
		to, err := os.Readlink(filepath.Join(folder, n.Name()))
		if err != nil {
			continue // that of the folder itself
		}
		if inUse[to] || !strings.HasPrefix(to, u.kept+string(filepath.Separator)) || strings.HasSuffix(to, " (deleted)") {
			all = append(all, to)
		}
		inUse[to] = true
	}
	slices.Sort(all)
	return all
}

// judge fails the test unless what was used has stayed the same. A soak of seconds may be too short to tell.
func (u *usage) judge(d time.Duration) {
	if len(u.samples) < 8 {
		u.t.Logf("there are %d samples: too few", len(u.samples))
		if d >= time.Minute {
			u.t.Fail()
		}
		return
	}
	resident := int64(memoryMayGrow)
	if underDetector() {
		resident = 0 // no bound
	}
	n := len(u.samples)
	early, late := u.samples[n/4:n/2], u.samples[3*n/4:]
	for _, what := range []struct {
		name  string
		grows int64
		of    func(sample) int64
	}{
		{"bytes in use of the heap", heapMayGrow, func(s sample) int64 { return s.heap }},
		{"bytes of the heap", heapMaySpread, func(s sample) int64 { return s.spans }},
		{"bytes of the process", resident, func(s sample) int64 { return s.resident }},
	} {
		first, last := median(early, what.of), median(late, what.of)
		u.t.Logf("%s: %d, later %d", what.name, first, last)
		if last-first > what.grows && what.grows > 0 {
			u.t.Errorf("%s have become more: %d, later %d, and may grow by %d", what.name, first, last, what.grows)
		}
	}
	first := u.samples[n/4]
	for i, s := range u.samples[n/4:] {
		if s.goroutines > first.goroutines {
			u.t.Errorf("sample %d: there are %d goroutines, and were %d", n/4+i, s.goroutines, first.goroutines)
			break
		}
		if len(s.descriptors) > len(first.descriptors) {
			u.t.Errorf("sample %d: there are %d descriptors, and were %d: %q", n/4+i, len(s.descriptors), len(first.descriptors), s.descriptors)
			break
		}
	}
	last := u.samples[n-1]
	u.t.Logf("descriptors: %d, later %d; goroutines: %d, later %d; %d samples",
		len(first.descriptors), len(last.descriptors), first.goroutines, last.goroutines, n)
}

func median(samples []sample, of func(sample) int64) int64 {
	var all []int64
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// underDetector reports whether the race detector is at work.
func underDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
