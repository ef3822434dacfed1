package cli

import (
	"context"
	"errors"

	"garret/internal/fsck"
	"garret/internal/ui"
)

// heal puts back what was lost of files in older archives and has just been stored again. The backup is committed: that this
// fails is nothing that it fails for.
func (a *app) heal(ctx context.Context, s *session) {
	files, err := fsck.Heal(ctx, s.repo, s.cat, nil)
	if err != nil {
		err = errors.Join(err, s.repo.Rollback())
		a.ui.Printf("garret: files of older archives could not be healed, \"garret check --repair\" does it: %s", oneLine(err))
		return
	}
	if files > 0 {
		a.ui.Printf("Healed %s of older archives: what was lost of them has been stored again.", ui.Plural(files, "file"))
	}
}
