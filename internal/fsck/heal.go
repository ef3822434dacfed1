package fsck

import (
	"context"
	"fmt"

	"garret/internal/catalog"
)

// Heal puts back what an earlier repair has replaced by zeros and a backup has stored again since, and commits. It returns
// how many files have something back. It is to be called when a backup has been committed, in the same session, with the
// exclusive lock.
//
// It costs nothing where nothing is lost, and a look at the index for each chunk that is, up to
// [archive.MaxLostChunks]. Only when one of these is there again are all archives looked at, as by a check. What that
// finds beside is left for a check to tell and a repair to mend.
//
// The catalog's manifest becomes the new one. After an error the transaction must be rolled back; the archives are then as
// they were.
func Heal(ctx context.Context, store Store, cat *catalog.Catalog, p *Progress) (files int64, err error) {
	back := false
	for _, id := range cat.Manifest.Lost().Chunks {
		there, err := store.Has(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("look for chunk %v, which is lost: %w", id, err)
		}
		back = back || there
	}
	if !back {
		return 0, nil
	}
	c := New(store, cat.Key, Options{Progress: p})
	c.heals = true
	report, err := c.Run(ctx)
	if err != nil || report.StoreDamaged || report.Rebuilt {
		return 0, err
	}
	m, err := c.Repair(ctx)
	if err != nil {
		return 0, fmt.Errorf("heal: %w", err)
	}
	cat.Manifest = m
	return report.Healable, nil
}
