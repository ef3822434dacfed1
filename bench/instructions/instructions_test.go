package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/bench/measure"
	"garret/internal/campaign"
)

// tolerance is how much more or less than what is written down a count may be; looser, where another version of Go has
// compiled it. Runs differ by less than 3 %.
const (
	tolerance = 0.10
	looser    = 0.30
)

// bound returns the tolerance between two environments, or 0 if they cannot be compared.
func bound(kept, now string) float64 {
	keptGo, keptRest, _ := strings.Cut(kept, " ")
	nowGo, nowRest, _ := strings.Cut(now, " ")
	switch {
	case keptRest != nowRest:
		return 0
	case keptGo != nowGo:
		return looser
	}
	return tolerance
}

// differences says which works, of those that were counted, take more or fewer instructions than they may.
func differences(kept, now *counts, bound float64) (all []string) {
	for _, w := range works {
		if _, counted := now.of[w.name]; !counted {
			continue
		}
		ratio := now.ratio(kept, w.name)
		if kept.of[w.name] > 0 && ratio <= 1+bound && ratio >= 1-bound {
			continue
		}
		all = append(all, fmt.Sprintf("%s: %d instructions, and %d are written down", w.name, now.of[w.name], kept.of[w.name]))
	}
	return all
}

// TestInstructions holds the inner loops to the number of instructions that is written down.
func TestInstructions(t *testing.T) {
	if err := missing(); err != nil {
		if os.Getenv("GARRET_REQUIRE_VALGRIND") == "1" {
			t.Fatalf("GARRET_REQUIRE_VALGRIND is set, and nothing can be counted: %v", err)
		}
		t.Skipf("instructions cannot be counted here: %v", err)
	}
	// Not the test itself: the race detector, or what counts coverage, may be in it.
	program := filepath.Join(t.TempDir(), "instructions")
	if _, err := measure.Output(t.Context(), measure.Command{Args: []string{"go", "build", "-o", program, "."}}); err != nil {
		t.Fatal(err)
	}
	kept, err := readCounts(filepath.Base(countsFile))
	if err != nil {
		t.Fatal(err)
	}
	var chosen []work
	for i, each := 0, campaign.Each(t, 4); i < len(works); i += each {
		chosen = append(chosen, works[i])
	}
	now, err := count(t.Context(), program, chosen)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range now.of {
		t.Logf("%d %s", n, name)
	}
	limit := bound(kept.environment, now.environment)
	if limit == 0 {
		t.Skipf("the counts are of %q, and cannot be compared with those of %q, on another kind of processor", kept.environment, now.environment)
	}
	for _, d := range differences(kept, now, limit) {
		t.Errorf("%s; if that is meant, write it down with: go run ./bench/instructions -update", d)
	}
}

func TestAProcessThatDiesIsBegunAgain(t *testing.T) {
	died := func(how string) error {
		_, err := measure.Output(t.Context(), measure.Command{Args: []string{"/bin/sh", "-c", how}})
		return err
	}
	for _, c := range []struct {
		err  error
		runs int
	}{
		{nil, 1},
		{died("kill -SEGV $$"), attempts},
		{died("exit 2"), attempts}, // so ends a Go program with a fatal error
		{fmt.Errorf("%w: Killed", errNoCount), attempts},
		{died("exit 1"), 1}, // so does one that tells an error
		{errors.New("there is no valgrind"), 1},
	} {
		runs := 0
		if err := untilItLives(t.Context(), func() error { runs++; return c.err }); !errors.Is(err, c.err) || runs != c.runs {
			t.Errorf("%v: begun %d times and not %d, and the error is %v", c.err, runs, c.runs, err)
		}
	}
	runs := 0
	err := untilItLives(t.Context(), func() error {
		if runs++; runs < 3 {
			return errNoCount
		}
		return nil
	})
	if err != nil || runs != 3 {
		t.Errorf("begun %d times: %v", runs, err)
	}
}

func TestDifferencesAreTold(t *testing.T) {
	kept, now := &counts{of: map[string]int64{}}, &counts{of: map[string]int64{}}
	for _, w := range works {
		kept.of[w.name], now.of[w.name] = 1000, 1090
	}
	if all := differences(kept, now, tolerance); len(all) != 0 {
		t.Errorf("%q are told of what is within the bounds", all)
	}
	now.of[works[0].name], now.of[works[1].name] = 1110, 890
	delete(kept.of, works[2].name)
	if all := differences(kept, now, tolerance); len(all) != 3 || !strings.HasPrefix(all[0], works[0].name+": 1110 ") {
		t.Errorf("%q are told of three", all)
	}
	if all := differences(kept, now, looser); len(all) != 1 {
		t.Errorf("%q are told of the one without a count", all)
	}
	for _, c := range []struct {
		now  string
		want float64
	}{{"go1.26.8 amd64 aes,avx2", tolerance}, {"go1.27 amd64 aes,avx2", looser}, {"go1.26.8 amd64 aes", 0}} {
		if got := bound("go1.26.8 amd64 aes,avx2", c.now); got != c.want {
			t.Errorf("%q: a bound of %v instead of %v", c.now, got, c.want)
		}
	}
}

func TestCountsAreReadAsWritten(t *testing.T) {
	c := &counts{environment: "go1 amd64 aes", of: map[string]int64{}}
	for i, w := range works {
		c.of[w.name] = int64(i + 1)
	}
	path := filepath.Join(t.TempDir(), "counts.txt")
	if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readCounts(path)
	if err != nil || got.String() != c.String() {
		t.Errorf("got %v and %v", got, err)
	}
	if err := os.WriteFile(path, []byte("#\nenv\nmany chunks\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readCounts(path); err == nil {
		t.Error("what is no number is taken")
	}
}
