package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/internal/retention"
)

func (a *app) deleteCommand() *cobra.Command {
	var d deletion
	var c choice
	cmd := &cobra.Command{
		Use:   "delete [REPO][::ARCHIVE] [ARCHIVE...]",
		Short: "Delete archives",
		Long: `Delete archives, and all that no other archive uses. Further archives of the same repository are given by their names,
or as REPO::ARCHIVE. Either all are deleted or none is.

` + choiceHelp + ` The archives
are told of then; try it with --dry-run.

An archive with the tag ` + archive.TagProtected + ` is not deleted, see "garret help tag": it is an error to name one, and of those that are
chosen it is left out.

The room becomes free when the segments are compacted in which the objects were. Those with much that is dead are at
once, the others by "garret compact".

If an archive that stays is damaged, so that it is not known what it uses, the archives are taken off the list and no
data is deleted, and the exit code is 1. "garret check --repair" frees it.

With --json, one object is printed: archives, an array of objects with name, id and time; dry_run; kept, why no data was
deleted, if so; deleted and all_archives, objects with
` + statsJSONHelp,
		Example: `  garret delete /backup/photos::monday
  garret delete --dry-run --stats /backup/photos::monday tuesday wednesday
  garret delete --dry-run --match-archives 'home-2019-*' /backup/photos`,
		Args: args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, archives, err := a.someArchives(cmd, args, &c)
			if err != nil {
				return err
			}
			s, err := a.openToWrite(cmd.Context(), loc, d.dryRun)
			if err != nil {
				return err
			}
			defer s.Close()
			if c.given() {
				d.tell = true
				chosen, err := c.some(s)
				if err != nil {
					return err
				}
				if chosen, err = a.unprotected(cmd.Context(), s, chosen); err != nil {
					return err
				}
				archives = names(chosen)
			}
			return a.delete(cmd.Context(), s, archives, d)
		},
	}
	d.flags(cmd)
	c.flags(cmd.Flags())
	return cmd
}

// deletion says how archives are deleted, for the commands that do.
type deletion struct {
	dryRun, stats bool
	tell          bool // what is deleted, without --verbose too
}

func (d *deletion) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&d.dryRun, "dry-run", "n", false, "tell what would be deleted, and delete nothing")
	cmd.Flags().BoolVarP(&d.stats, "stats", "s", false, "print statistics of what is deleted")
}

// protected returns those of some archives that are protected. Of what is lost, nobody can say so.
func (s *session) protected(ctx context.Context, entries []catalog.Entry) (kept []catalog.Entry, err error) {
	err = s.eachRecord(ctx, entries, func(e catalog.Entry, rec *archive.Archive, err error) error {
		if err == nil && slices.Contains(rec.Tags, archive.TagProtected) {
			kept = append(kept, e)
		}
		if err != nil && !catalog.Lost(err) {
			return fmt.Errorf("read the record of archive %q: %w", e.Name, err)
		}
		return nil
	})
	return kept, err
}

// unprotected returns those of some archives that are not protected, and tells of the others.
func (a *app) unprotected(ctx context.Context, s *session, entries []catalog.Entry) ([]catalog.Entry, error) {
	kept, err := s.protected(ctx, entries)
	for _, e := range kept {
		a.ui.Printf("garret: archive %q is left, as the tag %s protects it", e.Name, archive.TagProtected)
		entries = slices.DeleteFunc(entries, func(o catalog.Entry) bool { return o.Name == e.Name })
	}
	return entries, err
}

// archiveLine describes an archive as Attic lists it.
func (a *app) archiveLine(e catalog.Entry) string {
	return fmt.Sprintf("%-36s %s", a.line(e.Name), e.Time.Local().Format(time.ANSIC))
}

// delete deletes archives, and reports it.
func (a *app) delete(ctx context.Context, s *session, names []string, d deletion) error {
	entries, err := s.entries(names)
	if err != nil {
		return err
	}
	if kept, err := s.protected(ctx, entries); err != nil {
		return err
	} else if len(kept) > 0 {
		return fmt.Errorf("archive %q is protected by the tag %s; \"garret tag --remove %[2]s\" takes that away",
			kept[0].Name, archive.TagProtected)
	}
	chunks, removed, err := a.remove(ctx, s, names, d.dryRun)
	if err != nil {
		return err
	}
	if a.json {
		err = a.emit(newJSONDeletion(entries, removed, chunks.Total(), d))
	} else {
		a.tellDeletion(entries, removed, chunks.Total(), d)
	}
	if err != nil {
		return err
	}
	return a.endDeletion(removed, d)
}

// remove deletes archives, or finds out what would be deleted. The table that it returns is that of what is left.
func (a *app) remove(ctx context.Context, s *session, names []string, dryRun bool) (*cache.Chunks, retention.Removed, error) {
	chunks, err := s.chunks(ctx)
	if err != nil {
		return nil, retention.Removed{}, err
	}
	if dryRun {
		removed, err := retention.Preview(s.cat, chunks, names)
		return chunks, removed, err
	}
	removed, err := retention.Remove(ctx, s.repo, s.cat, chunks, names)
	if err != nil {
		return nil, removed, fmt.Errorf("delete from repository %q: %w", s.loc.Repository(), err)
	}
	a.saveChunks(chunks)
	return chunks, removed, nil
}

func (a *app) tellDeletion(entries []catalog.Entry, removed retention.Removed, all cache.Stats, d deletion) {
	for _, e := range entries {
		switch {
		case d.dryRun:
			fmt.Fprintf(a.stdout, "Would delete:     %s\n", a.archiveLine(e))
		case d.tell || a.verbose:
			fmt.Fprintf(a.stdout, "Deleted archive:  %s\n", a.archiveLine(e))
		}
	}
	if d.stats {
		a.printStats("Deleted data:", negated(removed.Stats), all)
	}
}

// endDeletion tells why what is deleted still takes room, if so.
func (a *app) endDeletion(removed retention.Removed, d deletion) error {
	var incomplete *cache.IncompleteError
	if !errors.As(removed.Kept, &incomplete) {
		return nil
	}
	what := "The data that nobody else uses was not deleted"
	if d.dryRun {
		what = "The data that nobody else uses would not be deleted"
	}
	a.ui.Printf("garret: %s: archive %q is damaged, and may need it (%s); \"garret check --repair\" mends it, and frees the data",
		what, incomplete.Archive, oneLine(incomplete.Err))
	return errWarnings
}

// jsonDeletion is what was deleted, or would be.
type jsonDeletion struct {
	Archives []jsonArchive `json:"archives"`
	DryRun   bool          `json:"dry_run"`
	Deleted  jsonStats     `json:"deleted"`
	All      jsonStats     `json:"all_archives"`
	Kept     string        `json:"kept,omitempty"`
}

// jsonArchive is an archive as the manifest has it.
type jsonArchive struct {
	Name string    `json:"name"`
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

func newJSONArchive(e catalog.Entry) jsonArchive { return jsonArchive{e.Name, e.ID.String(), e.Time} }

func newJSONDeletion(entries []catalog.Entry, removed retention.Removed, all cache.Stats, d deletion) jsonDeletion {
	j := jsonDeletion{
		Archives: []jsonArchive{}, DryRun: d.dryRun, Deleted: newJSONStats(removed.Stats), All: newJSONStats(all),
	}
	for _, e := range entries {
		j.Archives = append(j.Archives, newJSONArchive(e))
	}
	if removed.Kept != nil {
		j.Kept = oneLine(removed.Kept)
	}
	return j
}
