package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsck"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

func (a *app) checkCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "check [--repair] [REPO]",
		Short: "Find out whether a repository is sound",
		Long: `Find out whether a repository is sound: read all of it, verify every checksum, and make sure that everything is there
that the archives need. What is found is printed, and the exit code is 1.

With --repair, mend the repository: damaged files are set aside, and every object in them that is sound is kept. What
will be done is told before, and done only if the answer is yes; where there is no terminal, only if
GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING is set.`,
		Example: `  garret check /backup/photos
  garret check --repair /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			repo, err := a.waitForLock(repair, func(o *repository.Options) (*repository.Repository, error) {
				return repository.OpenForCheck(cmd.Context(), loc.Path, o)
			})
			if err != nil {
				return err
			}
			defer repo.Close()
			return a.check(cmd.Context(), repo, loc, repair)
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "mend what is found")
	return cmd
}

func (a *app) check(ctx context.Context, repo *repository.Repository, loc location.Location, repair bool) error {
	report, err := repo.Check(ctx, repository.CheckOptions{})
	if err != nil {
		return fmt.Errorf("check repository %q: %w", loc, err)
	}
	lost := map[repository.ID]bool{}
	for _, f := range report.Findings {
		fmt.Fprintln(a.stdout, a.text(f.String()))
		if f.Kind == repository.LostObject && f.Object != nil {
			lost[*f.Object] = true
		}
	}
	// Which archives lose what is to be known before the repair is decided upon, if the repository can be read at all.
	sound, err := a.checkArchives(ctx, repo, loc, lost)
	readLater := errors.Is(err, repository.ErrCheckNeeded)
	// The store needs no key to be checked and mended. That the archives could not be looked at is said in the end.
	var locked error
	if isAboutKey(err) {
		locked, err = fmt.Errorf("the archives were not checked: %w", err), nil
	}
	if err != nil && !readLater {
		return err
	}
	switch {
	case report.OK():
	case !repair:
		a.ui.Printf(`garret: repository %q is damaged; "garret check --repair" mends what can be mended`, loc)
	default:
		if err := a.repair(ctx, repo, report); err != nil {
			return err
		}
		if readLater {
			if sound, err = a.checkArchives(ctx, repo, loc, nil); err != nil {
				return err
			}
		}
	}
	if locked != nil {
		return locked
	}
	if report.OK() && sound {
		a.ui.Printf("Repository %q is sound: %s, %s.", loc, ui.Plural(int64(report.Objects), "object"), ui.Bytes(report.Bytes))
		return nil
	}
	return errWarnings
}

// isAboutKey reports whether an error says that there is no key, or that it does not open.
func isAboutKey(err error) bool { return err != nil && exitCode(err) == exitKey }

// repairs say what a repair does about a kind of finding.
var repairs = map[repository.FindingKind]string{
	repository.DamagedRange:    "set the segment aside as NAME.beforerecover, and keep every sound object in it",
	repository.LostObject:      "forget the objects that are lost",
	repository.UndeletedObject: "delete the objects again that had been deleted",
	repository.IndexMismatch:   "make a new index",
	repository.DamagedIndex:    "make a new index",
	repository.MissingSegment:  "make a new index, without what was in the segment",
	repository.MissingCommit:   "end the transaction with a commit",
}

// repair asks, and repairs.
func (a *app) repair(ctx context.Context, repo *repository.Repository, report *repository.Report) error {
	a.ui.Printf("The repair will:")
	told := map[string]bool{}
	for _, f := range report.Findings {
		if what := repairs[f.Kind]; !told[what] {
			told[what] = true
			a.ui.Printf("  - %s", what)
		}
	}
	if err := a.ask(ctx, "CHECK_I_KNOW_WHAT_I_AM_DOING", "the repair changes the repository for good", "Repair it?"); err != nil {
		return err
	}
	after, err := repo.Check(ctx, repository.CheckOptions{Repair: true})
	if err != nil {
		return fmt.Errorf("repair the repository: %w", err)
	}
	a.ui.Printf("Repaired: %s.", ui.Plural(int64(after.Objects), "object"))
	return nil
}

// checkArchives reports what archives lack, with some objects taken to be lost, and returns whether that is nothing.
func (a *app) checkArchives(
	ctx context.Context, repo *repository.Repository, loc location.Location, lost map[repository.ID]bool,
) (bool, error) {
	s, err := a.unlock(ctx, repo, loc, false)
	switch {
	case errors.Is(err, catalog.ErrNoManifest):
		known, err := a.lookUp(repo.ID())
		if err != nil {
			return false, err
		}
		if known.record != nil && !known.record.Manifest.IsZero() || lost[archive.ManifestID] {
			fmt.Fprintln(a.stdout, "the manifest is lost: nothing says which archives there are")
			return false, nil
		}
		a.ui.Printf("There is no manifest in it, and so there are no archives to check.")
		return true, nil
	case errors.Is(err, repository.ErrIntegrity):
		fmt.Fprintln(a.stdout, a.text(oneLine(err)))
		return false, nil
	case err != nil:
		return false, err
	}
	stats, err := fsck.Archives(ctx, without{repo, lost}, s.cat, func(f fsck.Finding) { fmt.Fprintln(a.stdout, a.text(f.String())) })
	if err != nil {
		return false, err
	}
	a.ui.Printf("Looked at %s with %s in %s.", ui.Plural(stats.Archives, "archive"), ui.Plural(stats.Items, "item"),
		ui.Plural(stats.Chunks, "chunk"))
	return stats.Findings == 0, nil
}

// without is a store some of whose objects are lost.
type without struct {
	fsck.Store
	lost map[repository.ID]bool
}

func (w without) Has(ctx context.Context, id repository.ID) (bool, error) {
	if w.lost[id] {
		return false, nil
	}
	return w.Store.Has(ctx, id)
}
