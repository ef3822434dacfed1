package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/fsck"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

func (a *app) checkCommand() *cobra.Command {
	c := &check{app: a}
	cmd := &cobra.Command{
		Use:   "check [--repair] [REPO]",
		Short: "Find out whether a repository is sound",
		Long: `Find out whether a repository is sound, in two parts: read all of it and verify every checksum; then make sure that
everything is there that the archives need. What is found is printed, and the exit code is 1.

With --verify-data, every object is opened too and its content compared with its id: without the key nobody can forge
that. It takes as long as to read the whole repository once more.

With --repair, mend what is found, as far as it can be mended:

  - Damaged segments are set aside as NAME.beforerecover, and every object in them that is sound is kept.
  - If the manifest is lost, a new one is made of the archives that are found.
  - Archives of which the record is lost are forgotten; what is found of their items, and no other archive has, goes to
    one that is named "salvaged". Items that are lost are left out of their archive.
  - In the place of a lost part of a file come zeros. The archive remembers what belongs there: as soon as a backup
    stores that again, the file is whole again.
  - Objects with the wrong content are kept as garret.damaged.ID beside the segments.
  - Objects that nothing refers to are deleted.

What a newer garret has made, and this one does not know, is no damage: it is told as an unknown archive or chunk, and a
repair changes nothing about it, nor does it delete anything then that nothing refers to.

Objects that nothing refers to are no finding where the repository is append-only: checkpoints leave some.

All that will be done is told before, and done only if the answer is yes; where there is no terminal, only if
GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING is set. A second repair finds nothing to do.

With --max-duration, a check ends after so many seconds, and the next one with that option goes on where it has stopped.
What a segment lost is seen in any part, and what archives lack; that nothing is there which should not be, only by a check
that is done in one go.

With --json, each finding is one line, and a summary the last. A finding has "type": "finding", "part": "repository" or
"archives", "kind", "message" and, where they are known, "segment", "object", "archive", "path" ("path_base64" if it is not
UTF-8), "offset" and "size" in bytes: in the file, or in the segment. The summary has "type": "summary", "sound", "complete"
(the whole of what was asked for has been checked), "repaired", "findings", "segments", "bytes", "objects", "verified",
"archives", "items", "chunks", "patched" (files with zeros that an earlier repair put there).`,
		Example: `  garret check /backup/photos
  garret check --repair --verify-data /backup/photos
  garret check --max-duration 3600 /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.validate(cmd.Flags().Changed("max-duration")); err != nil {
				return err
			}
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			c.loc = loc
			c.repo, err = a.waitForLock(c.repair, func(o *repository.Options) (store, error) {
				return a.openAt(cmd.Context(), loc, toCheck, o)
			})
			if err != nil {
				return err
			}
			defer c.repo.Close()
			if c.archivesOnly { // else it is among what is found
				a.tellDamage(loc, c.repo)
			}
			err = c.run(cmd.Context())
			if err == nil || errors.Is(err, errWarnings) || isAboutKey(err) {
				if told := c.summarize(); told != nil {
					return told
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&c.repositoryOnly, "repository-only", false, "check the repository alone, for which no key is needed")
	f.BoolVar(&c.archivesOnly, "archives-only", false, "check the archives alone")
	f.BoolVar(&c.verifyData, "verify-data", false, "open every object and compare its content with its id")
	f.BoolVar(&c.repair, "repair", false, "mend what is found")
	f.IntVar(&c.maxDuration, "max-duration", 0, "end after so many `SECONDS`; the next check goes on there")
	return cmd
}

// A check is one run of the command.
type check struct {
	*app
	repositoryOnly, archivesOnly, verifyData, repair bool
	maxDuration                                      int

	loc  location.Location
	repo store
	told map[string]bool // findings that have been printed

	progress *fsck.Progress

	until    time.Time          // when a check that is done in parts ends
	parts    *checkParts        // nil: it is done in one go
	store    *repository.Report // nil: the repository has not been checked
	archives *fsck.Report       // nil: the archives have not been checked
	findings int
	repaired bool
	partial  bool
}

func (c *check) validate(limited bool) error {
	switch {
	case c.repositoryOnly && c.archivesOnly:
		return &usageError{"--repository-only and --archives-only exclude each other"}
	case c.repositoryOnly && c.verifyData:
		return &usageError{"--verify-data is about the archives, which --repository-only leaves out"}
	case limited && c.maxDuration <= 0:
		return &usageError{"--max-duration takes a number of seconds greater than zero"}
	case limited && c.repair:
		return &usageError{"--repair needs the whole check, and cannot be done with --max-duration"}
	}
	return nil
}

func (c *check) run(ctx context.Context) error {
	c.told, c.progress = map[string]bool{}, new(fsck.Progress)
	if c.maxDuration > 0 {
		c.until = time.Now().Add(time.Duration(c.maxDuration) * time.Second)
		known, err := c.lookUp(c.repo.ID())
		if err != nil {
			return err
		}
		c.parts = readCheckParts(known.dir, !c.archivesOnly, !c.repositoryOnly, c.verifyData)
	}
	var lost map[repository.ID]bool
	if !c.archivesOnly {
		var err error
		if lost, err = c.checkStore(ctx); err != nil {
			return err
		}
	}
	err := c.checkRest(ctx, lost)
	if c.parts != nil {
		c.partial = c.parts.isPartial()
		if saved := c.parts.save(); saved != nil {
			c.ui.Printf("garret: %s", oneLine(saved))
		}
		c.tellParts()
	}
	if err != nil {
		return err
	}
	if c.findings > 0 {
		return errWarnings
	}
	return nil
}

// checkStore checks the repository, and returns the objects that are lost.
func (c *check) checkStore(ctx context.Context) (map[repository.ID]bool, error) {
	var o repository.CheckOptions
	if c.parts != nil {
		if c.parts.StoreDone {
			return nil, nil
		}
		o.From, o.Until = c.parts.Segment, c.until
	}
	var done, total atomic.Int64
	o.Progress = func(d, t int) {
		total.Store(int64(t))
		done.Store(int64(d))
	}
	stop := c.ui.Steps(func() ui.Step { return ui.Step{Unit: "segment", Done: done.Load(), Total: total.Load()} })
	defer stop()
	report, err := c.repo.Check(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("check repository %q: %w", c.loc, err)
	}
	stop()
	c.store = report
	if c.parts != nil {
		c.parts.First, c.parts.Last = o.From, report.Last
		c.parts.Segment, c.parts.StoreDone = report.Next, !report.Partial
	}
	lost := map[repository.ID]bool{}
	for _, f := range report.Findings {
		if f.Kind == repository.LostObject && f.Object != nil {
			lost[*f.Object] = true
		}
		if err := c.tell(storeFinding(f), f.String()); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// checkRest checks the archives, and repairs both if that is asked for. Which archives lose what by the damage of the
// repository is to be known before its repair is decided upon, if it can be read at all.
func (c *check) checkRest(ctx context.Context, lost map[repository.ID]bool) error {
	var run *fsck.Check
	var s *checkSession
	var locked error // why the archives cannot be looked at: the repository is checked and mended all the same
	readLater := false
	if c.wantsArchives(lost) {
		var err error
		run, s, err = c.checkArchives(ctx, lost)
		switch {
		case errors.Is(err, repository.ErrCheckNeeded) && c.repair && !c.archivesOnly:
			readLater = true
		case errors.Is(err, repository.ErrCheckNeeded) && c.store != nil:
			c.ui.Printf("garret: the archives cannot be looked at before the repository is repaired")
		case isAboutKey(err):
			locked = fmt.Errorf("the archives were not checked: %w", err)
		case err != nil:
			return err
		}
	}
	damaged := c.store != nil && !c.store.OK()
	switch {
	case c.findings == 0:
		if locked == nil && c.parts == nil {
			c.tellSound()
		}
	case !damaged && c.archives != nil && c.archives.Unknown > 0 && !c.archives.Mends():
		c.ui.Printf("garret: repository %q has parts that were made by a newer garret; take that one; nothing has been changed", c.loc)
	case !c.repair && c.archives != nil && c.archives.Orphans > 0 && c.findings == 1:
		c.ui.Printf(`Nothing is lost of repository %q; "garret check --repair" deletes what nothing refers to`, c.loc)
	case !c.repair:
		c.ui.Printf(`garret: repository %q is damaged; "garret check --repair" mends what can be mended`, c.loc)
	default:
		if err := c.mend(ctx, damaged, readLater, run, s); err != nil {
			return err
		}
	}
	return locked
}

// wantsArchives reports whether the archives are to be checked. In a check that is done in parts, they wait until the
// repository is done, unless they have lost something.
func (c *check) wantsArchives(lost map[repository.ID]bool) bool {
	switch {
	case c.repositoryOnly:
		return false
	case c.parts == nil || len(lost) > 0:
		return true
	}
	return (c.archivesOnly || c.parts.StoreDone) && time.Now().Before(c.until)
}

func (c *check) tellSound() {
	switch {
	case c.store != nil:
		c.ui.Printf("Repository %q is sound: %s, %s.", c.loc, ui.Plural(int64(c.store.Objects), "object"), ui.Bytes(c.store.Bytes))
	case c.archives != nil:
		c.ui.Printf("The archives of repository %q are sound.", c.loc)
	}
}

// checkArchives reports what archives lack, with some objects taken to be lost. Without archives there is no run.
func (c *check) checkArchives(ctx context.Context, lost map[repository.ID]bool) (*fsck.Check, *checkSession, error) {
	s, err := c.unlockForCheck(ctx, c.repo, c.loc, lost)
	if err != nil {
		return nil, nil, err
	}
	if s.key == nil {
		known := s.known.record
		if s.lost || known != nil && !known.Manifest.IsZero() || lost[archive.ManifestID] {
			return nil, s, c.tell(checkFinding{Part: "archives", Kind: string(fsck.LostManifest)},
				"the manifest is lost: nothing says which archives there are")
		}
		c.ui.Printf("There is no manifest in it, and so there are no archives to check.")
		return nil, s, nil
	}
	o := fsck.Options{VerifyData: c.verifyData, Progress: c.progress}
	if len(lost) > 0 {
		o.Lost = func(id repository.ID) bool { return lost[id] }
	}
	if c.parts != nil && len(lost) == 0 {
		o.Until, o.From = c.until, c.parts.Archives
	}
	if c.parts != nil && len(lost) > 0 {
		o.VerifyData = false // what was lost is to be told now, and no more
	}
	var failed error
	o.Report = func(f fsck.Finding) {
		if f.Kind == fsck.Orphans && c.repo.AppendOnly() { // checkpoints leave some, and nobody can remove them
			return
		}
		if err := c.tell(archiveFinding(f), f.String()); err != nil && failed == nil {
			failed = err
		}
	}
	stop := c.showSteps(c.progress)
	defer stop()
	run := fsck.New(c.repo, s.key, o)
	report, err := run.Run(ctx)
	if err = errors.Join(err, failed); err != nil {
		return nil, nil, err
	}
	stop()
	c.archives = report
	if c.parts != nil && len(lost) == 0 {
		c.parts.Archives, c.parts.ArchivesDone = report.Next, !report.Partial
	}
	c.tellArchives(report)
	return run, s, nil
}

func (c *check) showSteps(p *fsck.Progress) (stop func()) {
	return c.ui.Steps(func() ui.Step {
		what, done, total, bytes, path := p.Count()
		return ui.Step{Unit: what, Done: done, Total: total, Bytes: bytes, Path: path}
	})
}

func (c *check) tellArchives(r *fsck.Report) {
	if r.Verified > 0 {
		c.ui.Printf("Verified the content of %s.", ui.Plural(r.Verified, "object"))
	}
	if r.Archives > 0 || !r.Partial {
		c.ui.Printf("Looked at %s with %s in %s.", ui.Plural(r.Archives, "archive"), ui.Plural(r.Items, "item"),
			ui.Plural(r.Chunks, "chunk"))
	}
	if r.Wounded > 0 {
		c.ui.Printf("%s still zeros in the place of what was lost before an earlier repair.", have(r.Wounded, "file"))
	}
	if r.Orphans > 0 && c.repo.AppendOnly() {
		c.ui.Printf("Nothing refers to %s with %s: the repository is append-only, so that they stay.",
			ui.Plural(r.Orphans, "object"), ui.Bytes(r.OrphanBytes))
	}
	if r.Foreign > 0 {
		c.ui.Printf("%s no part of any archive and cannot be opened with this key: left alone.", are(r.Foreign, "object"))
	}
}

func have(n int64, one string) string {
	if n == 1 {
		return "1 " + one + " has"
	}
	return ui.Plural(n, one) + " have"
}

func are(n int64, one string) string {
	if n == 1 {
		return "1 " + one + " is"
	}
	return ui.Plural(n, one) + " are"
}
