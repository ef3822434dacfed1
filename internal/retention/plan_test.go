package retention

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/catalog"
)

func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func entry(t *testing.T, name, when string) catalog.Entry {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", when)
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Entry{Name: name, ArchiveRef: archive.ArchiveRef{Time: at}}
}

func within(t *testing.T, s string) Within {
	t.Helper()
	w, err := ParseWithin(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestRulesKeepWhatTheySay(t *testing.T) {
	zone := time.FixedZone("two hours east", 2*3600)
	now := entry(t, "", "2026-11-22 12:00:00").Time
	// Names and times in UTC.
	archives := func(list ...string) (all []catalog.Entry) {
		for _, s := range list {
			name, when, _ := strings.Cut(s, " ")
			all = append(all, entry(t, name, when))
		}
		return all
	}
	daily := archives(
		"h-1 2026-11-22 09:00:00", "h-2 2026-11-21 21:59:59", "h-3 2026-11-21 22:00:00", "h-4 2026-11-20 10:00:00",
		"h-5 2026-11-15 10:00:00", "h-6 2026-10-31 22:30:00", "h-7 2025-12-31 22:00:00", "h-8 2025-12-31 21:00:00")
	for _, tt := range []struct {
		name     string
		archives []catalog.Entry
		rules    Rules
		want     []string // in the order of the plan
	}{
		{"daily in local time", daily, Rules{Daily: 2}, []string{
			"h-1 daily #1", "h-3 -", "h-2 daily #2", "h-4 -", "h-5 -", "h-6 -", "h-7 -", "h-8 -",
		}},
		{"what one rule keeps the next does not count", daily, Rules{Daily: 1, Monthly: 2, Yearly: 1}, []string{
			"h-1 daily #1", "h-3 -", "h-2 -", "h-4 -", "h-5 -", "h-6 -", "h-7 monthly #1", "h-8 monthly #2",
		}},
		{"weeks begin on Monday", daily, Rules{Weekly: -1}, []string{
			"h-1 weekly #1", "h-3 -", "h-2 -", "h-4 -", "h-5 weekly #2", "h-6 weekly #3", "h-7 weekly #4", "h-8 -",
		}},
		{"hourly without limit", daily, Rules{Hourly: -1}, []string{
			"h-1 hourly #1", "h-3 hourly #2", "h-2 hourly #3", "h-4 hourly #4", "h-5 hourly #5", "h-6 hourly #6", "h-7 hourly #7",
			"h-8 hourly #8",
		}},
		{"within", daily, Rules{Within: within(t, "26H")}, []string{
			"h-1 within 26H #1", "h-3 within 26H #2", "h-2 within 26H #3", "h-4 -", "h-5 -", "h-6 -", "h-7 -", "h-8 -",
		}},
		{"a period that an earlier rule has used up", daily, Rules{Within: within(t, "1d"), Daily: 1, Yearly: 1}, []string{
			"h-1 within 1d #1", "h-3 within 1d #2", "h-2 within 1d #3", "h-4 daily #1", "h-5 -", "h-6 -", "h-7 -", "h-8 yearly #1",
		}},
		{
			"prefix", archives("a-1 2026-11-01 00:00:00", "b-1 2026-11-02 00:00:00", "a-2 2026-11-03 00:00:00"),
			Rules{Daily: 1, Match: beginsWith("a-")},
			[]string{"a-2 daily #1", "a-1 -"},
		},
		{"the last of each series stays", archives("a-2020-01-01 2020-01-01 00:00:00", "a-2020-01-02 2020-01-02 00:00:00",
			"b-2020-01-01 2020-01-01 12:00:00"), Rules{Within: within(t, "1d")}, []string{
			"a-2020-01-02 last of its series", "b-2020-01-01 last of its series", "a-2020-01-01 -",
		}},
		{
			"the last of each series goes", archives("a-1 2020-01-01 00:00:00", "b-1 2020-01-01 12:00:00"),
			Rules{Within: within(t, "1d"), EvenLast: true},
			[]string{"b-1 -", "a-1 -"},
		},
		{
			"one outside of the prefix is one too", archives("a-2019-01-01 2019-01-01 00:00:00", "a-2020-01-01 2020-01-01 00:00:00"),
			Rules{Within: within(t, "1d"), Match: beginsWith("a-2019")},
			[]string{"a-2019-01-01 -"},
		},
		{"checkpoints", archives(
			"a-1.checkpoint 2026-11-01 00:00:00", "a-2 2026-11-02 00:00:00", "a-3.checkpoint 2026-11-03 00:00:00",
			"a-3.checkpoint.1 2026-11-03 01:00:00", "b-1.checkpoint 2026-11-02 12:00:00", "b-1 2026-11-02 13:00:00",
			"c-1.checkpoint 2026-11-01 00:00:00"), Rules{Daily: 5}, []string{
			"a-3.checkpoint.1 latest checkpoint", "a-3.checkpoint -superseded checkpoint", "b-1 daily #1",
			"b-1.checkpoint -superseded checkpoint", "a-2 last of its series", "c-1.checkpoint latest checkpoint",
			"a-1.checkpoint -superseded checkpoint",
		}},
		{
			"the same time", archives("a 2026-11-01 00:00:00", "c 2026-11-01 00:00:00", "b 2026-11-01 00:00:00"),
			Rules{Yearly: 3, EvenLast: true},
			[]string{"c yearly #1", "b -", "a -"},
		},
	} {
		tt.rules.Now, tt.rules.Zone = now, zone
		plan, err := Plan(tt.archives, tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range plan {
			switch {
			case d.Keep:
				got = append(got, d.Name+" "+d.String())
			default:
				got = append(got, d.Name+" -"+d.Rule)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if _, err := Plan(daily, Rules{Match: beginsWith("h")}); !errors.Is(err, ErrNoRules) {
		t.Errorf("no rules: %v", err)
	}
}

// naive decides which archives the rules of Attic keep, period by period.
func naive(archives []catalog.Entry, r Rules) map[string]bool {
	keep := map[string]bool{}
	for _, a := range archives {
		if h := r.Within.hours; h > 0 && a.Time.Unix() > r.Now.Unix()-h*3600 {
			keep[a.Name] = true
		}
	}
	for _, rule := range []struct {
		n  int
		of func(t time.Time) string
	}{
		{r.Hourly, func(t time.Time) string { return fmt.Sprint(t.Date()) + fmt.Sprint("/", t.Hour()) }},
		{r.Daily, func(t time.Time) string { return fmt.Sprint(t.Year(), t.YearDay()) }},
		{r.Weekly, func(t time.Time) string { return fmt.Sprint(t.ISOWeek()) }},
		{r.Monthly, func(t time.Time) string { return fmt.Sprint(t.Year(), t.Month()) }},
		{r.Yearly, func(t time.Time) string { return fmt.Sprint(t.Year()) }},
	} {
		newest := map[string]catalog.Entry{}
		for _, a := range archives {
			period := rule.of(a.Time.In(r.Zone))
			if now, ok := newest[period]; !ok || a.Time.After(now.Time) {
				newest[period] = a
			}
		}
		var candidates []catalog.Entry
		for _, a := range newest {
			if !keep[a.Name] {
				candidates = append(candidates, a)
			}
		}
		slices.SortFunc(candidates, func(a, b catalog.Entry) int { return b.Time.Compare(a.Time) })
		if rule.n >= 0 && rule.n < len(candidates) {
			candidates = candidates[:rule.n]
		}
		for _, a := range candidates {
			keep[a.Name] = true
		}
	}
	return keep
}

func TestPlansAgreeWithTheNaiveOnes(t *testing.T) {
	rnd := newRandom(t)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Log("no data of time zones: ", err)
		berlin = time.FixedZone("east", 3600)
	}
	for range 500 {
		now := time.Unix(1_700_000_000+rnd.Int64N(100_000_000), 0)
		spread := []int64{100, 10_000, 1_000_000, 100_000_000}[rnd.IntN(4)]
		var archives []catalog.Entry
		taken := map[int64]bool{}
		for i := range rnd.IntN(60) {
			at := now.Unix() - rnd.Int64N(spread) + spread/20
			if taken[at] {
				continue
			}
			taken[at] = true
			archives = append(archives, catalog.Entry{
				Name:       fmt.Sprintf("a-%d", i),
				ArchiveRef: archive.ArchiveRef{Time: time.Unix(at, 0).UTC()},
			})
		}
		few := func() int { return max(0, rnd.IntN(20)-10) - rnd.IntN(8)/7*100 }
		r := Rules{Hourly: few(), Daily: few(), Weekly: few(), Monthly: few(), Yearly: few(), Now: now, Zone: berlin, EvenLast: true}
		if rnd.IntN(2) == 0 {
			r.Within = within(t, fmt.Sprintf("%d%c", 1+rnd.IntN(40), "Hdwmy"[rnd.IntN(5)]))
		}
		plan, err := Plan(archives, r)
		if errors.Is(err, ErrNoRules) {
			continue
		}
		want := naive(archives, r)
		numbers := map[string]int{}
		for i, d := range plan {
			if d.Keep != want[d.Name] {
				t.Fatalf("rules %+v: %s of %v is kept: %v", r, d.Name, d.Time, d.Keep)
			}
			if i > 0 && d.Time.After(plan[i-1].Time) {
				t.Fatal("the plan is not sorted")
			}
			if d.Keep {
				numbers[d.Rule]++
				if d.Number != numbers[d.Rule] {
					t.Fatalf("%s is %v", d.Name, d)
				}
			}
		}
		if len(plan) != len(archives) {
			t.Fatalf("%d decisions about %d archives", len(plan), len(archives))
		}
		r.EvenLast = false
		plan, err = Plan(archives, r)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan) > 0 && !slices.ContainsFunc(plan, func(d Decision) bool { return d.Keep }) {
			t.Fatal("nothing of the series is left")
		}
	}
}

func TestIntervals(t *testing.T) {
	for s, hours := range map[string]int64{"1H": 1, "2d": 48, "1w": 168, "1m": 744, "10y": 87600, "9999999999999999999y": 2562047 / 8760 * 8760} {
		w, err := ParseWithin(s)
		if err != nil || w.hours != hours || w.String() != s {
			t.Errorf("%s: %d hours, %v", s, w.hours, err)
		}
	}
	for _, s := range []string{"", "d", "1", "1h", "-1d", "0d", "1.5d", "dd", "1d ", "-9999999999999999999y"} {
		if _, err := ParseWithin(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestSeries(t *testing.T) {
	for want, names := range map[string][]string{
		"home": {
			"home", "home-1", "home17", "home-2026-11-22", "home_2026-11-22T10:11:12", "home-2026-11-22T10:11:12.5+01:00",
			"home.20261122", "home-22.11.2026", "home-Monday", "home-tue", "home.2026-Nov-22", "home-2026-11-22.2",
			"home-2026-11-22.checkpoint", "home-3.checkpoint.12", "2026-11-22-home", "home:2026-11-22 10:11", "home-1700000000",
			"home-November", "home-22-Nov-2026", "home Sun Nov 22 10:11:12 2026",
		},
		"host1":    {"host1-2026-11-22", "host1-sunday", "host1.2026.checkpoint", "host1-20261122101112"},
		"host2-db": {"host2-db-2026-11-22", "2026-host2-db", "host2-db-1", "host2-db"},
		"":         {"2026-11-22", "Monday", "42", "2026-11-22T10:11:12.checkpoint", "sun", "Nov 2026"},
		"sunny":    {"sunny", "sunny-2"},
		"décembre": {"décembre", "décembre-3"},
	} {
		for _, name := range names {
			if got := Series(name); got != want {
				t.Errorf("Series(%q) = %q, want %q", name, got, want)
			}
		}
	}
}

func beginsWith(prefix string) func(string) bool {
	return func(name string) bool { return strings.HasPrefix(name, prefix) }
}
