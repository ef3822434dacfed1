package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"garret/bench/measure"
	"garret/bench/report"
)

// growth is the kind of data that grows: the same small works in repositories with more and more in them. It compares garret
// with itself, and so it is measured alone: the columns of its tables are numbers of objects.
const growth = "growth"

// The repositories have so many times the smallest number of objects.
var growthFactors = []int{1, 10, 100}

// What the works of growth are about, whatever else is in the repository.
const (
	archiveFiles  = 100  // of each archive, which no other one has; as many it shares with all
	fixedFiles    = 2000 // of the tree that does not grow
	treeShare     = 5    // the tree that grows has a fifth as many files as the repository has objects
	commitsAtOnce = 64   // every 32nd writes a table
	opensAtOnce   = 100
)

// A growthStep is a repository of one size.
type growthStep struct {
	*bench
	column  string
	objects int
	place   place // repo() has archives, repo()-store objects alone, repo()-tree the tree that grows
	turns   int   // of measuring
}

func (s *growthStep) store() string { return s.place.repo() + "-store" }
func (s *growthStep) tree() string  { return filepath.Join(s.place.dir, "tree") }
func (s *growthStep) fixed() string { return filepath.Join(s.dir, "fixed") }

// growthOf makes the repositories, and measures them in turn.
func (b *bench) growthOf(ctx context.Context) error {
	b.results.Programs = nil
	var steps []*growthStep
	if err := makeTree(filepath.Join(b.dir, "fixed"), fixedFiles, 1000, 1); err != nil {
		return err
	}
	for _, factor := range growthFactors {
		n := b.objects * factor
		s := &growthStep{
			bench: b, objects: n, column: humanize.Comma(int64(n)) + " objects",
			place: place{filepath.Join(b.dir, fmt.Sprintf("growth-%d", n))},
		}
		steps = append(steps, s)
		b.results.Programs = append(b.results.Programs, s.column)
		begin := time.Now()
		if err := s.make(ctx); err != nil {
			return fmt.Errorf("make a repository of %s: %w", s.column, err)
		}
		fmt.Fprintf(b.log, "made %s in %v\n", s.column, time.Since(begin).Round(time.Second))
	}
	for range b.rounds {
		b.turn++
		for i := range steps {
			s := steps[(i+b.turn)%len(steps)]
			if err := s.measure(ctx); err != nil {
				return fmt.Errorf("measure %s: %w", s.column, err)
			}
		}
	}
	return nil
}

// garret runs the program under test.
func (s *growthStep) garret(ctx context.Context, dir string, args ...string) (measure.Usage, error) {
	c := s.place.in(dir, append([]string{s.garrets[0]}, args...)...)
	// The repositories are not encrypted: what a passphrase costs would hide what grows.
	c.Env = append(c.Env, "GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return measure.Run(ctx, c)
}

// child has a process of this program do a work, so that this one stays small: see measure.Run.
func (s *growthStep) child(ctx context.Context, w childWork) ([]childResult, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out, err := measure.Output(ctx, measure.Command{Args: []string{self, childFlag, string(arg)}})
	if err != nil {
		return nil, err
	}
	var results []childResult
	return results, json.Unmarshal(out, &results)
}

func (s *growthStep) make(ctx context.Context) error {
	if err := os.Mkdir(s.place.dir, 0o700); err != nil {
		return err
	}
	if _, err := s.child(ctx, childWork{Do: "make objects", Repo: s.store(), Objects: s.objects}); err != nil {
		return err
	}
	if err := makeTree(s.tree(), s.objects/treeShare, 1000, 2); err != nil {
		return err
	}
	if _, err := s.garret(ctx, s.dir, "init", s.place.repo()); err != nil {
		return err
	}
	_, err := s.child(ctx, childWork{Do: "make archives", Repo: s.place.repo(), Objects: s.objects, Archives: s.growthArchives})
	if err != nil {
		return err
	}
	time.Sleep(s.settling)
	for _, args := range [][]string{
		{"create", s.place.repo() + "::fixed", s.fixed()},
		{"info", s.place.repo()}, // which reads the archives: a client that has made them itself need not
		{"init", s.place.repo() + "-tree"},
		{"create", s.place.repo() + "-tree::first", s.tree()},
	} {
		if _, err := s.garret(ctx, s.dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// measure does each work once.
func (s *growthStep) measure(ctx context.Context) error {
	s.turns++
	if err := settle(ctx); err != nil {
		return err
	}
	results, err := s.child(ctx, childWork{Do: "measure", Repo: s.store(), Objects: s.objects, Turn: s.turns})
	if err != nil {
		return err
	}
	for _, r := range results {
		s.note(r.Work, r.Usage)
	}
	tree := float64(s.objects/treeShare) / 1000
	for _, w := range []struct {
		name string
		each float64
		args []string
	}{
		{
			fmt.Sprintf("delete one of %d archives", s.growthArchives), 1,
			[]string{"delete", s.place.repo() + "::" + archiveName(s.turns*7%(s.growthArchives-1))},
		},
		{"back up unchanged, 2,000 files", 1, []string{"create", fmt.Sprintf("%s::again-%d", s.place.repo(), s.turns), s.fixed()}},
		{
			"back up unchanged tree, per 1,000 files", tree,
			[]string{"create", fmt.Sprintf("%s-tree::again-%d", s.place.repo(), s.turns), s.tree()},
		},
	} {
		if err := settle(ctx); err != nil {
			return err
		}
		u, err := s.garret(ctx, s.dir, w.args...)
		if err != nil {
			return err
		}
		u.Wall, u.CPU = time.Duration(float64(u.Wall)/w.each), time.Duration(float64(u.CPU)/w.each)
		s.note(w.name, u)
	}
	return nil
}

func (s *growthStep) note(work string, u measure.Usage) {
	series := s.results.Of(work, s.column)
	series.Rounds = append(series.Rounds, u)
	fmt.Fprintf(s.log, "%-40s %-20s %9s  cpu %9s\n", work, s.column, report.Seconds(u.Wall.Seconds()), report.Seconds(u.CPU.Seconds()))
}

func archiveName(i int) string { return fmt.Sprintf("archive-%03d", i) }

// isGrowth reports whether growth is what is measured.
func (b *bench) isGrowth() bool { return strings.Join(b.only, ",") == growth }
