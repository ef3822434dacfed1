// Package report makes tables and charts of what was measured: medians, and ratios of medians.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"garret/bench/measure"
)

// A Series is one work done by one program, round after round.
type Series struct {
	Work    string          `json:"work"`
	Program string          `json:"program"`
	Rounds  []measure.Usage `json:"rounds"`
	Stored  []int64         `json:"stored_bytes,omitempty"` // the size of what it has made
	Err     string          `json:"error,omitempty"`        // why there is nothing more
}

// Results are series, of which no two have the same work and program.
type Results struct {
	Programs []string  `json:"programs"` // in the order in which they are shown; others are not
	Series   []*Series `json:"series"`
}

// Of returns a series, which is new if there is none yet.
func (r *Results) Of(work, program string) *Series {
	if s := r.find(work, program); s != nil {
		return s
	}
	s := &Series{Work: work, Program: program}
	r.Series = append(r.Series, s)
	return s
}

func (r *Results) find(work, program string) *Series {
	for _, s := range r.Series {
		if s.Work == work && s.Program == program {
			return s
		}
	}
	return nil
}

// works returns which works there are, in the order in which they were met.
func (r *Results) works() (works []string) {
	for _, s := range r.Series {
		if !slices.Contains(works, s.Work) {
			works = append(works, s.Work)
		}
	}
	return works
}

// Median returns the middle of some values, or the mean of the two in the middle, and 0 of none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	default:
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
}

// A Metric is something of a series that a table shows.
type Metric struct {
	Title  string
	Values func(*Series) []float64 // of each round; negative ones are unknown
	Format func(float64) string
}

// What is measured of each program.
var (
	Wall    = Metric{"Time", usages(func(u measure.Usage) float64 { return u.Wall.Seconds() }), Seconds}
	CPU     = Metric{"Processor time", usages(func(u measure.Usage) float64 { return u.CPU.Seconds() }), Seconds}
	Peak    = Metric{"Memory at most", usages(func(u measure.Usage) float64 { return float64(u.Peak) }), Bytes}
	Written = Metric{"Bytes written", usages(func(u measure.Usage) float64 { return float64(u.Written) }), Bytes}
	Stored  = Metric{"Size of the repository", func(s *Series) (values []float64) {
		for _, n := range s.Stored {
			values = append(values, float64(n))
		}
		return values
	}, Bytes}
)

func usages(value func(measure.Usage) float64) func(*Series) []float64 {
	return func(s *Series) (values []float64) {
		for _, u := range s.Rounds {
			values = append(values, value(u))
		}
		return values
	}
}

// Seconds writes a time with three digits or so.
func Seconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", s)
	default:
		return fmt.Sprintf("%.1f s", s)
	}
}

// Bytes writes a size in SI units.
func Bytes(n float64) string { return humanize.Bytes(uint64(max(0, n))) }

// median returns the median of a series, and whether there is one.
func (m Metric) median(s *Series) (float64, bool) {
	if s == nil {
		return 0, false
	}
	values := m.Values(s)
	if len(values) == 0 || slices.Min(values) < 0 {
		return 0, false
	}
	return Median(values), true
}

// Table writes a table in Markdown: a line for each work and a column for each program, with the median and, in brackets,
// its ratio to that of the first program. Nothing is written if nothing is known.
func (r *Results) Table(w io.Writer, m Metric) error {
	var lines []string
	for _, work := range r.works() {
		line, known := "| "+work+" |", false
		first, _ := m.median(r.find(work, r.Programs[0]))
		for i, program := range r.Programs {
			s := r.find(work, program)
			v, ok := m.median(s)
			known = known || ok
			switch {
			case s != nil && s.Err != "":
				line += " failed |"
			case !ok:
				line += " |"
			case i == 0 || first == 0:
				line += " " + m.Format(v) + " |"
			default:
				line += fmt.Sprintf(" %s (%s) |", m.Format(v), ratio(v/first))
			}
		}
		if known {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	head := "| " + m.Title
	for _, program := range r.Programs {
		head += " | " + strings.ReplaceAll(program, "|", `\|`)
	}
	head += " |"
	rule := "|" + strings.Repeat(" --- |", len(r.Programs)+1)
	_, err := fmt.Fprintf(w, "%s\n%s\n%s\n\n", head, rule, strings.Join(lines, "\n"))
	return err
}

func ratio(x float64) string {
	if x < 10 {
		return fmt.Sprintf("%.2f×", x)
	}
	return fmt.Sprintf("%.0f×", x)
}
