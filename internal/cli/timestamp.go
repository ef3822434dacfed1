package cli

import (
	"fmt"
	"os"
	"time"
)

// timeLayouts are the ways to write a time: ISO 8601, with a blank for the T as RFC 3339 has it. Parsing takes decimals of
// seconds, too.
var timeLayouts = func() []string {
	layouts := []string{time.DateOnly}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		for _, zone := range []string{"", "Z07:00", "Z0700", "Z07"} {
			layouts = append(layouts, layout+zone)
		}
	}
	return layouts
}()

// parseTimestamp reads a time, which is a local one if it names no zone, or takes that of a file.
func parseTimestamp(s string) (time.Time, error) {
	var t time.Time
	var err error
	for _, layout := range timeLayouts {
		if t, err = time.ParseInLocation(layout, s, time.Local); err == nil {
			break
		}
	}
	if err != nil {
		info, statErr := os.Stat(s)
		if statErr != nil {
			return t, &usageError{fmt.Sprintf(
				"--timestamp: %q is neither a time, as 2026-11-30T22:15:00 or 2026-11-30T22:15:00+01:00, nor a file", s)}
		}
		t = info.ModTime()
	}
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return t, &usageError{fmt.Sprintf("--timestamp: %q is in the year %d; archives can have 1 to 9999", s, year)}
	}
	return t, nil
}
