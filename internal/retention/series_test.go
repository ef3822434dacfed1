package retention

import (
	"slices"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
)

// every returns archives of one series at a fixed distance, from a time on.
func every(begin time.Time, distance time.Duration, n int) []catalog.Entry {
	var entries []catalog.Entry
	for i := range n {
		at := begin.Add(time.Duration(i) * distance)
		entries = append(entries, catalog.Entry{Name: "a-" + at.Format("2006-01-02T15:04"), ArchiveRef: archive.ArchiveRef{Time: at}})
	}
	return entries
}

// TestSeriesDoNotTakeEachOthersPlace prunes over and over while several series are made in one repository: of each there is
// what there would be if it were alone.
func TestSeriesDoNotTakeEachOthersPlace(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"web", "mail", "db"}
	rules := Rules{Daily: 7, Weekly: 4, Monthly: 3, Zone: berlin}
	together, alone := []catalog.Entry{}, map[string][]catalog.Entry{}
	facts := func(e catalog.Entry) Facts { return Facts{Group: e.Name[len("2006-01-02T15:04-"):]} }
	begin := time.Date(2025, 12, 1, 23, 30, 0, 0, berlin)
	for day := range 150 {
		for i, host := range hosts {
			at := begin.AddDate(0, 0, day).Add(time.Duration(20*i) * time.Minute) // some of them after midnight
			e := catalog.Entry{Name: at.Format("2006-01-02T15:04-") + host, ArchiveRef: archive.ArchiveRef{Time: at}}
			together, alone[host] = append(together, e), append(alone[host], e)
		}
		rules.Now = begin.AddDate(0, 0, day+1)
		rules.Facts = facts
		together = left(t, together, rules)
		rules.Facts = nil
		var want []string
		for _, host := range hosts {
			alone[host] = left(t, alone[host], rules)
			for _, e := range alone[host] {
				want = append(want, e.Name)
			}
		}
		var got []string
		for _, e := range together {
			got = append(got, e.Name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("day %d: there are\n%q, alone there are\n%q", day, got, want)
		}
	}
	if n := len(together); n < 3*12 || n > 3*14 {
		t.Errorf("%d are left", n)
	}
}

func plan(t *testing.T, entries []catalog.Entry, rules Rules) []Decision {
	t.Helper()
	plan, err := Plan(entries, rules)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// left returns the archives that rules keep.
func left(t *testing.T, entries []catalog.Entry, rules Rules) []catalog.Entry {
	t.Helper()
	var left []catalog.Entry
	for _, d := range plan(t, entries, rules) {
		if d.Keep {
			left = append(left, d.Entry)
		}
	}
	return left
}

// TestWhatCannotBeReadIsKeptAndCountsForNothing has the newest archive damaged: it does not make good ones vanish.
func TestWhatCannotBeReadIsKeptAndCountsForNothing(t *testing.T) {
	entries := every(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), 24*time.Hour, 3)
	rules := Rules{Zone: time.UTC, Within: within(t, "1H"), Facts: func(e catalog.Entry) Facts {
		return Facts{Unreadable: e.Name == entries[2].Name}
	}}
	got := plan(t, entries, rules)
	if !got[0].Keep || got[0].Rule != RuleUnreadable || !got[1].Keep || got[1].Rule != RuleLast || got[2].Keep {
		t.Errorf("%+v", got)
	}
}
