package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"garret/internal/envelope"
	"garret/internal/fsck"
	"garret/internal/ui"
	"garret/repository"
)

// mend asks, and repairs: the repository first, then what remains to be done for the archives. The question is asked once,
// unless it turns out then that there is more to do than it was about.
func (c *check) mend(ctx context.Context, damaged, readLater bool, run *fsck.Check, s *checkSession) error {
	if err := c.mayRepair(damaged); err != nil { // before anybody is asked in vain
		return err
	}
	agreed := c.archives
	if err := c.askToRepair(ctx, damaged, agreed); err != nil {
		return err
	}
	if damaged {
		after, err := c.repairStore(ctx)
		if err != nil {
			return err
		}
		c.repaired = true
		c.ui.Printf("Repaired: %s.", ui.Plural(int64(after.Objects), "object"))
		if run == nil && !readLater {
			return nil
		}
		if run, s, err = c.checkArchives(ctx, nil); err != nil {
			return err
		}
	}
	if run == nil || !c.archives.Mends() {
		return nil
	}
	if !damaged && c.archives.StoreDamaged {
		return fmt.Errorf("repair the archives: %w: run the repair without --archives-only", fsck.ErrStoreDamaged)
	}
	if !isCovered(c.archives, agreed) {
		if agreed != nil {
			c.ui.Printf("After the repair of the repository, there is more to do for the archives.")
		}
		if err := c.askToRepair(ctx, false, c.archives); err != nil {
			return err
		}
	}
	if s.key.Type().Encrypts() {
		s.key.UseNonces(envelope.NewNonceReserver(c.repo, filepath.Join(s.known.dir, "nonce"), c.archives.NonceEnd))
	}
	stop := c.showSteps(c.progress)
	manifest, err := run.Repair(ctx)
	stop()
	if err != nil {
		return fmt.Errorf("repair the archives: %w", err)
	}
	c.repaired = true
	c.ui.Printf("Repaired: %s.", ui.Plural(int64(len(manifest.Archives)), "archive"))
	if s.known.isAt(c.loc) {
		if err := s.known.remember(c.loc, s.key.Type(), manifest.Timestamp); err != nil {
			c.ui.Printf("garret: %s", oneLine(err))
		}
	}
	return nil
}

// mayRepair returns an error if what was found cannot be repaired from here.
func (c *check) mayRepair(damaged bool) error {
	what := "repair the archives"
	if damaged {
		what = "repair the repository"
	}
	switch {
	case c.repo.ReadOnly():
		return fmt.Errorf("%s: %w", what, repository.ErrReadOnly)
	case c.repo.AppendOnly():
		return fmt.Errorf("%s: %w", what, repository.ErrAppendOnly)
	}
	return nil
}

func (c *check) repairStore(ctx context.Context) (*repository.Report, error) {
	report, err := c.repo.Check(ctx, repository.CheckOptions{Repair: true})
	if err != nil {
		return nil, fmt.Errorf("repair the repository: %w", err)
	}
	return report, nil
}

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

// askToRepair tells what a repair will do, and asks whether it is to be done.
func (c *check) askToRepair(ctx context.Context, store bool, archives *fsck.Report) error {
	c.ui.Printf("The repair will:")
	if store {
		told := map[string]bool{}
		for _, f := range c.store.Findings {
			if what := repairs[f.Kind]; !told[what] {
				told[what] = true
				c.ui.Printf("  - %s", what)
			}
		}
	}
	if archives != nil {
		for _, what := range archiveRepairs(archives) {
			c.ui.Printf("  - %s", what)
		}
	} else if store && !c.repositoryOnly && !c.archivesOnly {
		c.ui.Printf("The archives are looked at after that, and it will be asked again if there is something to repair.")
	}
	return c.ask(ctx, "CHECK_I_KNOW_WHAT_I_AM_DOING", "the repair changes the repository for good", "Repair it?")
}

// archiveRepairs says what a repair of the archives will do.
func archiveRepairs(r *fsck.Report) []string {
	var lines []string
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	if r.Rebuilt {
		lines = append(lines, fmt.Sprintf("make a new manifest with %s: %s", ui.Plural(int64(len(r.Found)), "archive"), quoteSome(r.Found)))
	}
	add(int64(len(r.Dropped)), "forget %s, of which the record is lost: %s", ui.Plural(int64(len(r.Dropped)), "archive"),
		quoteSome(r.Dropped))
	add(r.Salvaged, "keep %s that are left of archives that are lost, as archive %q", ui.Plural(r.Salvaged, "item"), r.SalvagedAs)
	add(r.Gaps, "leave out the items that are lost, in %s of the archives' items", ui.Plural(r.Gaps, "place"))
	add(r.LostLinks, "leave out %s to items that are lost", ui.Plural(r.LostLinks, "hard link"))
	add(r.Patched, "put zeros in the place of what is lost of %s, %s in all, and remember what belongs there",
		ui.Plural(r.Patched, "file"), ui.Bytes(r.PatchedBytes))
	add(r.Healable, "heal %s", ui.Plural(r.Healable, "file"))
	add(r.Resized, "correct the length of parts of %s", ui.Plural(r.Resized, "file"))
	add(r.Rewritten, "write the items of %s anew", ui.Plural(r.Rewritten, "archive"))
	add(r.Damaged, "set %s with the wrong content aside as %sID", ui.Plural(r.Damaged, "object"), fsck.DamagedPrefix)
	if r.KeepsOrphans {
		add(r.Orphans, "keep %s that nothing refers to, as it is not sure that nothing does", ui.Plural(r.Orphans, "object"))
	} else {
		add(r.Orphans, "delete %s that nothing refers to, %s in all", ui.Plural(r.Orphans, "object"), ui.Bytes(r.OrphanBytes))
	}
	return lines
}

// quoteSome names some archives, and tells how many more there are.
func quoteSome(names []string) string {
	const most = 10
	s := ""
	for i, name := range names[:min(len(names), most)] {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%q", name)
	}
	if more := len(names) - most; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// isCovered reports whether the answer to a question about one repair is one about another too: that does no more.
func isCovered(r, agreed *fsck.Report) bool {
	return agreed != nil && (agreed.Rebuilt || !r.Rebuilt) && len(r.Dropped) <= len(agreed.Dropped) && r.Gaps <= agreed.Gaps && r.LostLinks <= agreed.LostLinks &&
		r.Patched <= agreed.Patched && r.PatchedBytes <= agreed.PatchedBytes && r.Resized <= agreed.Resized &&
		r.Damaged <= agreed.Damaged && r.Orphans <= agreed.Orphans && r.OrphanBytes <= agreed.OrphanBytes
}
