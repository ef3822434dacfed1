package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/internal/retention"
)

func (a *app) pruneCommand() *cobra.Command {
	var p pruning
	cmd := &cobra.Command{
		Use:   "prune [REPO]",
		Short: "Delete old archives by rules that say which to keep",
		Long: `Delete the archives that no rule keeps, and all that no other archive uses.

  --keep-tag TAG          keeps all that have this tag; the tag @PROT keeps an archive always, see "garret help tag"
  --keep-last N           keeps the N newest
  --keep-within INTERVAL  keeps all that are younger; the interval is a number and one of H, d, w, m and y: hours, days,
                          weeks, months of 31 days, years of 365
  --keep-hourly N         keeps the newest archive of each of the last N hours in which there is one; --keep-daily,
                          --keep-weekly, --keep-monthly and --keep-yearly do so with days, weeks, months and years

The rules are applied in this order, and an archive that one keeps is not counted by the next. A negative number is
no limit.

Hours and days are those of the calendar here, also where clocks are set forward or back: a day with 23 or 25 hours is one
day, and an hour that clocks show twice is two. Weeks are those of ISO 8601: the first one of a year has its first Thursday,
and may begin in December.

Archives that have to do with different things should not take each other's place: where a repository has several kinds,
give each its own prefix, and prune them one by one with --prefix or, by a pattern for the name, --match-archives. Or
let --group-by tell the kinds apart, by one or several of these: host and user, where the archive was made and by whom;
series, its name without its date or number; tags, but for @PROT. The rules are then applied to each group by itself.

The last archive of a series, which is a name without its date or number, is kept whatever the rules are, unless
--even-last says otherwise: backups that have failed for a while must not make the good ones vanish. A checkpoint is
kept as long as nothing in its series is newer, and counted by no rule.

With --json, one object is printed: archives, an array of objects with name, id, time, keep (true or false), rule (what
keeps it), number (how many the rule has kept, with this one) and group, from the newest on; dry_run; kept, why no data was
deleted, if so; deleted and all_archives, objects with
` + statsJSONHelp,
		Example: `  garret prune --keep-within 2d -d 7 -w 4 -m -1 --prefix home- /backup/photos
  garret prune --dry-run --explain -d 7 /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			p.warnOfOldNames(a, cmd.Flags())
			if err := p.check(loc); err != nil {
				return err
			}
			p.rules.Match = p.match
			if err := p.checkGroups(); err != nil {
				return err
			}
			if p.rules.Tags, err = checkTags(p.keepTags); err != nil {
				return err
			}
			if p.within != "" || cmd.Flags().Changed("keep-within") {
				if p.rules.Within, err = retention.ParseWithin(p.within); err != nil {
					return &usageError{fmt.Sprintf("--keep-within: %v", err)}
				}
			}
			if _, err := retention.Plan(nil, p.rules); err != nil {
				return &usageError{"nothing says what to keep: give at least one of --keep-tag, --keep-last, --keep-within, --keep-hourly, --keep-daily, " +
					"--keep-weekly, --keep-monthly and --keep-yearly"}
			}
			s, err := a.openToWrite(cmd.Context(), loc, p.dryRun)
			if err != nil {
				return err
			}
			defer s.Close()
			return a.prune(cmd.Context(), s, p)
		},
	}
	p.ruleFlags(cmd.Flags())
	p.matchFlags(cmd.Flags())
	p.deletion.flags(cmd)
	return cmd
}

// pruning says what to keep, and what to tell of it.
type pruning struct {
	deletion
	choice
	rules    retention.Rules
	within   string
	groupBy  []string
	keepTags []string
	explain  bool
}

func (p *pruning) ruleFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&p.keepTags, "keep-tag", nil, "keep all archives with this `TAG`; may be given several times")
	f.IntVar(&p.rules.Last, "keep-last", 0, "keep the `N` newest archives")
	f.StringVar(&p.within, "keep-within", "", "keep all archives within this `INTERVAL`, as 2d")
	f.IntVarP(&p.rules.Hourly, "keep-hourly", "H", 0, "keep `N` archives, one an hour")
	f.IntVarP(&p.rules.Daily, "keep-daily", "d", 0, "keep `N` archives, one a day")
	f.IntVarP(&p.rules.Weekly, "keep-weekly", "w", 0, "keep `N` archives, one a week")
	f.IntVarP(&p.rules.Monthly, "keep-monthly", "m", 0, "keep `N` archives, one a month")
	f.IntVarP(&p.rules.Yearly, "keep-yearly", "y", 0, "keep `N` archives, one a year")
	f.StringSliceVar(&p.groupBy, "group-by", nil, "apply the rules to archives with the same `FACTS` by themselves: "+
		"one or some, with commas, of host, user, series and tags")
	f.BoolVar(&p.rules.EvenLast, "even-last", false, "delete also the last archive of a series, if no rule keeps it")
	f.BoolVar(&p.explain, "explain", false, "tell of each archive which rule keeps it")
	for _, name := range oldNames {
		old := *f.Lookup("keep-" + name)
		old.Name, old.Shorthand, old.Hidden = name, "", true
		f.AddFlag(&old)
	}
}

// oldNames are the names that rules had in earlier versions of Attic, where they had no "keep-".
var oldNames = []string{"within", "hourly", "daily", "weekly", "monthly", "yearly"}

func (p *pruning) warnOfOldNames(a *app, f *pflag.FlagSet) {
	for _, name := range oldNames {
		if f.Changed(name) {
			a.ui.Printf(`Warning: "--%s" has been deprecated. Use "--keep-%s" instead.`, name, name)
		}
	}
}

func (a *app) prune(ctx context.Context, s *session, p pruning) error {
	facts, err := p.facts(ctx, s)
	if err != nil {
		return err
	}
	p.rules.Facts = func(e catalog.Entry) retention.Facts { return facts[e.Name] }
	plan, err := retention.Plan(s.cat.Archives(), p.rules)
	if err != nil {
		return err
	}
	var names []string
	var unreadable error
	for _, d := range plan {
		if d.Rule == retention.RuleUnreadable {
			a.ui.Printf("garret: archive %q is kept, as its record cannot be read, and might say that it is protected; "+
				"\"garret check --repair\" takes it off the list, as does \"garret delete\"", d.Name)
			unreadable = errWarnings
		}
		if !d.Keep {
			names = append(names, d.Name)
		}
	}
	var removed retention.Removed
	var chunks *cache.Chunks
	switch {
	case len(names) > 0:
		chunks, removed, err = a.remove(ctx, s, names, p.dryRun)
	case p.stats || a.json:
		chunks, err = s.chunks(ctx)
	default:
		chunks = new(cache.Chunks)
	}
	if err != nil {
		return err
	}
	all := chunks.Total()
	if a.json {
		err = a.emit(newJSONPruning(plan, removed, all, p))
	} else {
		a.tellPruning(plan, removed, all, p)
	}
	return cmp.Or(err, a.endDeletion(removed, p.deletion), unreadable)
}

func (a *app) tellPruning(plan []retention.Decision, removed retention.Removed, all cache.Stats, p pruning) {
	for _, d := range plan {
		if d.Rule == retention.RuleLast {
			a.ui.Printf("garret: archive %q is kept, as it is the last of its series; --even-last deletes it", d.Name)
		}
		what := "Keeping archive: "
		switch {
		case !d.Keep && p.dryRun:
			what = "Would prune:     "
		case !d.Keep:
			what = "Pruning archive: "
		}
		switch {
		case p.explain:
			why := d.String()
			if d.Group != "" {
				why += ", " + d.Group
			}
			fmt.Fprintf(a.stdout, "%s%s  (%s)\n", what, a.archiveLine(d.Entry), a.line(why))
		case a.verbose || p.dryRun:
			fmt.Fprintf(a.stdout, "%s%s\n", what, a.archiveLine(d.Entry))
		}
	}
	if p.stats {
		a.printStats("Deleted data:", negated(removed.Stats), all)
	}
}

// jsonPruning is what was decided and done.
type jsonPruning struct {
	Archives []jsonDecision `json:"archives"`
	DryRun   bool           `json:"dry_run"`
	Deleted  jsonStats      `json:"deleted"`
	All      jsonStats      `json:"all_archives"`
	Kept     string         `json:"kept,omitempty"`
}

type jsonDecision struct {
	jsonArchive
	Keep   bool   `json:"keep"`
	Rule   string `json:"rule,omitempty"`
	Number int    `json:"number,omitempty"`
	Group  string `json:"group,omitempty"`
}

func newJSONPruning(plan []retention.Decision, removed retention.Removed, all cache.Stats, p pruning) jsonPruning {
	d := newJSONDeletion(nil, removed, all, p.deletion)
	j := jsonPruning{Archives: []jsonDecision{}, DryRun: d.DryRun, Deleted: d.Deleted, All: d.All, Kept: d.Kept}
	for _, d := range plan {
		j.Archives = append(j.Archives, jsonDecision{newJSONArchive(d.Entry), d.Keep, d.Rule, d.Number, d.Group})
	}
	return j
}
