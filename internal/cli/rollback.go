package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

func (a *app) rollbackCommand() *cobra.Command {
	var o rollback
	cmd := &cobra.Command{
		Use:   "rollback [REPO] TRANSACTION",
		Short: "Bring an earlier state of a repository back",
		Long: `Bring the archives back that a repository had after a transaction: "garret info --transactions" lists them. It is what
undoes the work of somebody who got hold of a client of a repository that is append-only: all that was ever committed to
it is still in its log. It is done on the repository's own machine, and takes no key.

The manifest, which says what archives there are, becomes what it was then, and objects that are gone are stored again.
That is a transaction of its own, and nothing is taken out of the log, so that it can be rolled back likewise. Objects that
were added since stay, and are used by nobody; "garret check --repair" frees their room, with the key and, if
the repository is append-only, once its config says garret_append_only = 0.

Before that all of the log up to the transaction is read, to make sure that every object of that time is there and sound.
With --quick the objects are not read; "garret check" may do so later. If something is missing, that is told, and nothing
is done without --force. A repository from which segments were removed, by a compaction, may lack objects of the time
before. One that is append-only is never compacted: it is so for all if it was made with "garret init --append-only", or if

    garret_append_only = 1

stands in its config; Attic does not heed that.

What will be done is told before, and done only if the answer is yes; where there is no terminal, only if
GARRET_ROLLBACK_I_KNOW_WHAT_I_AM_DOING is set. Clients that have used the repository since notice that it is older than it
was, and ask before they store into it; GARRET_OLDER_REPO_ACCESS_IS_OK answers that.

An encrypted repository that Attic's clients use too must be written to by garret before Attic writes again: Attic would go on
after the earlier manifest's counter, and use values a second time that were used since.

With --json, one object is printed: transaction, the number; time; dry_run; objects, how many there were then; restored,
how many of these are stored again, the manifest among them; lost, how many cannot be; missing, how many segments are
gone; damaged, how many parts of segments are; and committed, the number of the new transaction, if there is one.`,
		Example: `  garret info --transactions --last 20 /backup/photos
  garret rollback --dry-run /backup/photos 4711
  garret rollback /backup/photos 4711`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			number := args[len(args)-1]
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				return &usageError{fmt.Sprintf("%q is not the number of a transaction; \"garret info --transactions\" lists them", number)}
			}
			loc, err := a.location(optional(args[:len(args)-1], 0), false)
			if err != nil {
				return err
			}
			return a.rollback(cmd.Context(), loc, uint32(n), o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "tell what would be done, and change nothing")
	f.BoolVar(&o.quick, "quick", false, "do not read all objects to make sure that they are sound")
	f.BoolVar(&o.force, "force", false, "do it although something is missing")
	return cmd
}

// rollback says how it is done.
type rollback struct {
	dryRun, quick, force bool
}

type jsonRollback struct {
	Transaction uint32     `json:"transaction"`
	Time        *time.Time `json:"time,omitempty"`
	DryRun      bool       `json:"dry_run"`
	Objects     int        `json:"objects"`
	Restored    int        `json:"restored"`
	Lost        int        `json:"lost"`
	Missing     int        `json:"missing"`
	Damaged     int        `json:"damaged"`
	Committed   *uint32    `json:"committed,omitempty"`
}

func (a *app) rollback(ctx context.Context, loc location.Location, n uint32, o rollback) error {
	if err := onOwnMachine(loc); err != nil {
		return err
	}
	opts := a.storeOptions(!o.dryRun)
	opts.CompactThreshold = 2 // the log is to stay as it is
	repo, err := repository.Open(ctx, loc.Path, opts)
	if err != nil {
		return err
	}
	defer repo.Close()
	plan, err := repo.PlanRevert(ctx, n, repository.RevertOptions{Watch: archive.ManifestID, Quick: o.quick})
	switch {
	case err != nil:
		return fmt.Errorf("repository %q: %w", loc, err)
	case !plan.HasWatched:
		return fmt.Errorf("repository %q had no manifest after transaction %d, and so no archives: "+
			"there is nothing to go back to", loc, n)
	case slices.Contains(plan.Lost, archive.ManifestID):
		return fmt.Errorf("the manifest that repository %q had after transaction %d is damaged; go back to another one", loc, n)
	}
	a.tellMissing(plan)
	if len(plan.Restore) > 0 && !o.dryRun {
		if !plan.IsComplete() && !o.force {
			return &refusedError{"not done: it is not certain that all of that time is there; --force does it all the same"}
		}
		what := fmt.Sprintf("repository %q goes back to %s: %s", loc, describeRevert(plan), changes(plan))
		if err := a.ask(ctx, "ROLLBACK_I_KNOW_WHAT_I_AM_DOING", what, "Do it?"); err != nil {
			return err
		}
	}
	return a.applyRollback(ctx, loc, plan, o)
}

// describeRevert names the transaction that is gone back to.
func describeRevert(plan *repository.Revert) string {
	if plan.Time.IsZero() {
		return fmt.Sprintf("transaction %d", plan.Transaction)
	}
	return fmt.Sprintf("transaction %d of %s", plan.Transaction, plan.Time.Local().Format(time.DateTime))
}

// changes says what is done.
func changes(plan *repository.Revert) string {
	others := 0
	for _, r := range plan.Restore {
		if r.ID != archive.ManifestID {
			others++
		}
	}
	objects := ui.Plural(int64(others), "object")
	switch {
	case others == 0:
		return "the manifest becomes what it was then"
	case others == len(plan.Restore):
		return objects + " of then stored again"
	}
	return fmt.Sprintf("the manifest becomes what it was then, and %s of then stored again", objects)
}

// mostTold is how many lost objects are named.
const mostTold = 10

// tellMissing says what of the earlier state is not there.
func (a *app) tellMissing(plan *repository.Revert) {
	if plan.Missing > 0 {
		a.ui.Printf("garret: segments that are gone from that time or before: %d, by a compaction or otherwise; nobody knows whether objects are missing",
			plan.Missing)
	}
	for _, d := range plan.Damage {
		a.ui.Printf("garret: %s: nobody knows what was there", d)
	}
	for i, id := range plan.Lost {
		if i == mostTold {
			a.ui.Printf("garret: and %d more objects are lost", len(plan.Lost)-i)
			break
		}
		a.ui.Printf("garret: object %v is lost", id)
	}
}

func (a *app) applyRollback(ctx context.Context, loc location.Location, plan *repository.Revert, o rollback) error {
	j := jsonRollback{
		Transaction: plan.Transaction, DryRun: o.dryRun, Objects: plan.Objects, Restored: len(plan.Restore),
		Lost: len(plan.Lost), Missing: plan.Missing, Damaged: len(plan.Damage),
	}
	if !plan.Time.IsZero() {
		utc := plan.Time.UTC()
		j.Time = &utc
	}
	text := ""
	switch {
	case len(plan.Restore) == 0:
		text = fmt.Sprintf("Nothing is to be done: all is as it was after %s, apart from what was added.", describeRevert(plan))
	case o.dryRun:
		text = fmt.Sprintf("Would go back to %s: %s.", describeRevert(plan), changes(plan))
	default:
		made, err := plan.Apply(ctx)
		if err != nil {
			return fmt.Errorf("repository %q: %w", loc, err)
		}
		j.Committed = &made
		text = fmt.Sprintf("Went back to %s: %s. That is transaction %d.", describeRevert(plan), changes(plan), made)
	}
	var err error
	if a.json {
		err = a.emit(j)
	} else {
		fmt.Fprintln(a.stdout, text)
	}
	if j.Committed != nil {
		a.ui.Printf("What was stored since then takes room that \"garret check --repair\" frees; until then this can be undone.")
	}
	if !plan.IsComplete() {
		return cmp.Or(err, errWarnings)
	}
	return err
}
