package report

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"

	"garret/bench/measure"
)

func example() *Results {
	r := Results{Programs: []string{"garret", "a|b", "tar & <others>"}}
	for _, round := range []struct {
		work, program string
		wall          time.Duration
	}{
		{"create", "garret", 3 * time.Second},
		{"create", "garret", 2 * time.Second},
		{"create", "garret", 90 * time.Second}, // somebody else was at work
		{"create", "tar & <others>", 6 * time.Second},
		{"list", "garret", 80 * time.Millisecond},
	} {
		s := r.Of(round.work, round.program)
		s.Rounds = append(s.Rounds, measure.Usage{Wall: round.wall, Written: -1})
	}
	r.Of("list", "tar & <others>").Err = "broken"
	return &r
}

func TestTableHasMediansAndTheirRatios(t *testing.T) {
	var out strings.Builder
	if err := example().Table(&out, Wall); err != nil {
		t.Fatal(err)
	}
	want := `| Time | garret | a\|b | tar & <others> |
| --- | --- | --- | --- |
| create | 3.00 s | | 6.00 s (2.00×) |
| list | 80.0 ms | | failed |

`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

func TestTableOfTheUnknownIsEmpty(t *testing.T) {
	for _, m := range []Metric{Written, Stored} {
		var out strings.Builder
		if err := example().Table(&out, m); err != nil || out.Len() > 0 {
			t.Errorf("%s: %q, %v", m.Title, out.String(), err)
		}
	}
}

func TestChartIsXMLAndHasEveryBar(t *testing.T) {
	var out strings.Builder
	if err := example().Chart(&out, "a < b", Wall); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a &lt; b", "3.00 s  (1.00×)", "6.00 s  (2.00×)", "80.0 ms  (1.00×)", "tar &amp; &lt;others&gt;"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("%v: %v instead of %v", c.values, got, c.want)
		}
	}
}
