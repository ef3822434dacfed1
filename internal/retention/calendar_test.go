package retention

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"garret/internal/archive"
	"garret/internal/catalog"
)

// TestTheCalendarIsThatOfTheClockOnTheWall keeps one archive of each period, of archives made every half hour, and wants to
// find as many as there are periods.
func TestTheCalendarIsThatOfTheClockOnTheWall(t *testing.T) {
	for _, tt := range []struct {
		name, zone, from, to string // in local time
		rules                Rules
		want                 int
	}{
		{"hours of a day of 25", "Europe/Berlin", "2020-10-25 00:00", "2020-10-26 00:00", Rules{Hourly: -1}, 25},
		{"hours of a day of 23", "Europe/Berlin", "2020-03-29 00:00", "2020-03-30 00:00", Rules{Hourly: -1}, 23},
		{"days when clocks go back", "Europe/Berlin", "2020-10-24 00:00", "2020-10-27 00:00", Rules{Daily: -1}, 3},
		{"days when clocks go forward", "America/New_York", "2021-03-13 00:00", "2021-03-16 00:00", Rules{Daily: -1}, 3},
		{"a day that begins at one", "America/Sao_Paulo", "2018-11-03 00:00", "2018-11-06 00:00", Rules{Daily: -1}, 3},
		{"a day that never was", "Pacific/Apia", "2011-12-29 00:00", "2012-01-01 00:00", Rules{Daily: -1}, 2},
		{"an hour of half an hour", "Australia/Lord_Howe", "2021-04-04 00:00", "2021-04-05 00:00", Rules{Hourly: -1}, 25},
		{"weeks over clocks that go back", "Europe/Berlin", "2020-10-12 00:00", "2020-11-02 00:00", Rules{Weekly: -1}, 3},
		{"a year of 53 weeks", "Europe/Berlin", "2020-12-21 00:00", "2021-01-11 00:00", Rules{Weekly: -1}, 3},
		{"a week that is in two years", "UTC", "2018-12-31 00:00", "2019-01-07 00:00", Rules{Weekly: -1}, 1},
		{"months with a day that others lack", "Europe/Berlin", "2024-01-31 00:00", "2024-03-02 00:00", Rules{Monthly: -1}, 3},
		{"the end of a year far from Greenwich", "Pacific/Kiritimati", "2020-12-31 00:00", "2021-01-02 00:00", Rules{Yearly: -1}, 2},
	} {
		zone, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		parse := func(s string) time.Time {
			at, err := time.ParseInLocation("2006-01-02 15:04", s, zone)
			if err != nil {
				t.Fatal(err)
			}
			return at.UTC()
		}
		var all []catalog.Entry
		for at := parse(tt.from); at.Before(parse(tt.to)); at = at.Add(30 * time.Minute) {
			all = append(all, catalog.Entry{Name: at.Format("2006-01-02T15:04"), ArchiveRef: archive.ArchiveRef{Time: at}})
		}
		tt.rules.Zone = zone
		plan, err := Plan(all, tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		kept := slices.DeleteFunc(plan, func(d Decision) bool { return !d.Keep })
		if len(kept) != tt.want || kept[0].Name != all[len(all)-1].Name {
			t.Errorf("%s: %d archives are kept, want %d: %v", tt.name, len(kept), tt.want, kept)
		}
	}
}
