// Package retention decides which archives to keep, and deletes the others with all that nobody else needs.
package retention

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
)

// Rules say which archives to keep. They are those of Attic and some more: each is applied to all archives, from Tags to
// Yearly, or to those of each group by themselves. A rule with a period looks at the newest archive of each hour, day, week, month or year in local time, from the newest on, and
// keeps it, until it has kept as many as its number; what an earlier rule keeps does not count. A negative number is no
// limit, and 0 is no rule.
type Rules struct {
	Tags                                   []string // what has one of these is kept; what is protected always is
	Last                                   int      // the newest are kept, whenever they were made
	Within                                 Within
	Hourly, Daily, Weekly, Monthly, Yearly int

	Match    func(name string) bool    // archives with other names are not looked at; nil: all are
	Facts    func(catalog.Entry) Facts // nil: nothing is known, which is as if there were no tags and no groups
	EvenLast bool                      // delete also the last archive of a series
	Now      time.Time                 // zero: now
	Zone     *time.Location            // nil: the local one
}

// Facts are what rules ask of an archive's record.
type Facts struct {
	Unreadable bool // and so nobody knows whether it may go
	Tags       []string
	Group      string // archives of a group are thinned by themselves
}

// ErrNoRules is returned by Plan for rules that would keep nothing.
var ErrNoRules = errors.New("no rule says what to keep")

// Within is an interval of time before now. The zero value is none.
type Within struct {
	text  string
	hours int64
}

func (w Within) String() string { return w.text }

// ParseWithin reads an interval: a number, and H, d, w, m or y, for hours, days, weeks, months of 31 days, or years of 365.
func ParseWithin(s string) (Within, error) {
	hours := map[string]int64{"H": 1, "d": 24, "w": 7 * 24, "m": 31 * 24, "y": 365 * 24}
	if s == "" {
		return Within{}, errors.New("an interval is empty: it should be a number and one of H, d, w, m and y, as 2w")
	}
	unit := hours[s[len(s)-1:]]
	n, err := strconv.ParseInt(s[:len(s)-1], 10, 64)
	switch {
	case unit == 0, err != nil && !errors.Is(err, strconv.ErrRange):
		return Within{}, fmt.Errorf("%q is no interval: it should be a number and one of H, d, w, m and y, as 2w", s)
	case n <= 0:
		return Within{}, fmt.Errorf("%q is no interval: its number must be positive", s)
	}
	const most = math.MaxInt64 / int64(time.Hour)
	return Within{s, min(n, most/unit) * unit}, nil
}

// A Decision is what becomes of an archive.
type Decision struct {
	catalog.Entry
	Keep   bool
	Rule   string // that keeps it, one of those below; or Superseded; or empty: none
	Number int    // how many the rule has kept, with this one; 0 if that is of no interest
	Group  string
}

// Rules that keep an archive, as a Decision names them, beside "last" and "hourly" to "yearly".
const (
	RuleTag        = "tag"
	RuleUnreadable = "record unreadable" // it may be protected
	RuleWithin     = "within"
	RuleCheckpoint = "latest checkpoint"     // it is a checkpoint, and its series has nothing that is newer
	RuleLast       = "last of its series"    // no other archive of its series would be left
	Superseded     = "superseded checkpoint" // it is not kept: a newer archive or checkpoint of its series is there
)

func (d Decision) String() string {
	switch {
	case d.Rule == "":
		return "no rule"
	case d.Number == 0:
		return d.Rule
	}
	return fmt.Sprintf("%s #%d", d.Rule, d.Number)
}

// isNone reports whether the rules keep nothing.
func (r Rules) isNone() bool {
	return len(r.Tags) == 0 && r.Last == 0 && r.Within.hours == 0 &&
		r.Hourly == 0 && r.Daily == 0 && r.Weekly == 0 && r.Monthly == 0 && r.Yearly == 0
}

// Plan decides about all archives whose names match, and returns them from the newest to the oldest.
//
// A checkpoint is half a backup, and so no rule counts it, lest it takes the place of a whole one. It is kept as long as
// there is nothing newer in its series, for the next backup to go on from.
func Plan(archives []catalog.Entry, r Rules) ([]Decision, error) {
	if r.isNone() {
		return nil, ErrNoRules
	}
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	if r.Zone == nil {
		r.Zone = time.Local
	}
	all := slices.Clone(archives)
	slices.SortStableFunc(all, func(a, b catalog.Entry) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Name, a.Name))
	})
	plan := make([]Decision, 0, len(all))
	for _, e := range all {
		if r.Match == nil || r.Match(e.Name) {
			plan = append(plan, Decision{Entry: e})
		}
	}
	r.facts(plan)
	for _, g := range groups(plan) {
		r.period(g, "last", r.Last, func(time.Time) string { return "" })
		r.within(g)
		for _, p := range periods {
			r.period(g, p.name, p.number(r), p.of)
		}
	}
	r.checkpoints(all, plan)
	if !r.EvenLast {
		r.keepLast(all, plan)
	}
	return plan, nil
}

// series tells series apart, and those of each group from those of others.
func (r Rules) series(e catalog.Entry) string {
	if r.Facts == nil {
		return Series(e.Name)
	}
	return Series(e.Name) + "\x00" + r.Facts(e).Group
}

// facts keeps what has a tag that says so, and finds out to which groups archives belong.
func (r Rules) facts(plan []Decision) {
	for i := range plan {
		d := &plan[i]
		if r.Facts == nil {
			continue
		}
		f := r.Facts(d.Entry)
		d.Group = f.Group
		if f.Unreadable {
			d.Keep, d.Rule = true, RuleUnreadable
		}
		for _, tag := range f.Tags {
			if tag == archive.TagProtected || slices.Contains(r.Tags, tag) {
				d.Keep, d.Rule = true, RuleTag+" "+tag
				break
			}
		}
	}
}

// groups returns the archives that are no checkpoints by groups, in each from the newest to the oldest.
func groups(plan []Decision) map[string][]*Decision {
	groups := map[string][]*Decision{}
	for i := range plan {
		if d := &plan[i]; !IsCheckpoint(d.Name) {
			groups[d.Group] = append(groups[d.Group], d)
		}
	}
	return groups
}

func (r Rules) within(group []*Decision) {
	if r.Within.hours == 0 {
		return
	}
	begin := r.Now.Add(-time.Duration(r.Within.hours) * time.Hour)
	n := 0
	for _, d := range group {
		if !d.Keep && d.Time.After(begin) {
			n++
			d.Keep, d.Rule, d.Number = true, RuleWithin+" "+r.Within.text, n
		}
	}
}

// periods are the rules with a period, in the order in which they are applied.
var periods = []struct {
	name   string
	number func(Rules) int
	of     func(time.Time) string
}{
	{"hourly", func(r Rules) int { return r.Hourly }, func(t time.Time) string { return t.Format("2006-01-02 15") }},
	{"daily", func(r Rules) int { return r.Daily }, func(t time.Time) string { return t.Format("2006-01-02") }},
	{"weekly", func(r Rules) int { return r.Weekly }, func(t time.Time) string {
		year, week := t.ISOWeek()
		return fmt.Sprintf("%d-%d", year, week)
	}},
	{"monthly", func(r Rules) int { return r.Monthly }, func(t time.Time) string { return t.Format("2006-01") }},
	{"yearly", func(r Rules) int { return r.Yearly }, func(t time.Time) string { return t.Format("2006") }},
}

// period applies a rule with a period. An empty period is of its own.
func (r Rules) period(group []*Decision, rule string, most int, of func(time.Time) string) {
	last, n := "", 0
	for _, d := range group {
		if n == most {
			return
		}
		period := of(d.Time.In(r.Zone))
		if period == last && period != "" {
			continue
		}
		last = period
		if !d.Keep {
			n++
			d.Keep, d.Rule, d.Number = true, rule, n
		}
	}
}

// checkpoints decides about checkpoints. all is sorted from the newest.
func (r Rules) checkpoints(all []catalog.Entry, plan []Decision) {
	newest := map[string]string{} // of each series, of whatever prefix
	for _, e := range all {
		if s := r.series(e); newest[s] == "" {
			newest[s] = e.Name
		}
	}
	for i := range plan {
		if d := &plan[i]; IsCheckpoint(d.Name) && !d.Keep {
			d.Rule = Superseded
			if newest[r.series(d.Entry)] == d.Name {
				d.Keep, d.Rule = true, RuleCheckpoint
			}
		}
	}
}

// keepLast keeps the newest archive of each series of which otherwise none would be left.
func (r Rules) keepLast(all []catalog.Entry, plan []Decision) {
	deleted := map[string]bool{}
	for _, d := range plan {
		deleted[d.Name] = !d.Keep || d.Rule == RuleUnreadable // which may be all that is left, and no use
	}
	left := map[string]bool{}
	for _, e := range all {
		if !IsCheckpoint(e.Name) && !deleted[e.Name] {
			left[r.series(e)] = true
		}
	}
	for i := range plan {
		d := &plan[i]
		if s := r.series(d.Entry); !IsCheckpoint(d.Name) && !left[s] && d.Rule != RuleUnreadable {
			left[s] = true
			d.Keep, d.Rule = true, RuleLast
		}
	}
}

var checkpoint = regexp.MustCompile(`\.checkpoint(\.[0-9]+)?$`)

// IsCheckpoint reports whether a name is that of a checkpoint: what has been stored so far of an archive that is being made,
// or whose making was interrupted.
func IsCheckpoint(name string) bool { return checkpoint.MatchString(name) }

// What in a name can be told from that of other archives of a series: a date, perhaps with a time; the name of a day or a
// month; a number at the end.
var (
	dates = regexp.MustCompile(`(?:\b[0-9]{1,2}[-.:/][0-9]{1,2}[-.:/])?(?:19|20)[0-9]{2}(?:[-.:/ T]*[0-9]+)*(?:Z|[+-][0-9:]{4,5})?`)
	words = regexp.MustCompile(`(?i)\b(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\b|` +
		`(?:\b[0-9]{1,2}[-. ])?\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|` +
		`sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b`)
	dated      = regexp.MustCompile(`\x00(?:[-.:/ \x00]*[0-9]+)*`) // with the numbers that follow a date or a word
	numbers    = regexp.MustCompile(`(?:-?[0-9]+)+$`)
	separators = regexp.MustCompile(`[-_.:/ ]+`)
)

// Series returns the name of the series that an archive belongs to: its own name without what tells when it was made or, if
// it does not tell that, without the number at its end. A checkpoint belongs to the series of its archive. Names in which
// nothing else stands are of one series.
func Series(name string) string {
	name = checkpoint.ReplaceAllString(name, "")
	name = strings.ReplaceAll(name, "_", "-") // which is a letter to \b
	s := words.ReplaceAllString(dates.ReplaceAllString(name, "\x00"), "\x00")
	isDated := s != name
	s = separators.ReplaceAllString(dated.ReplaceAllString(s, "-"), "-")
	if s = strings.Trim(s, "-"); !isDated {
		s = numbers.ReplaceAllString(s, "")
	}
	return s
}
