package retention

import (
	"context"
	"errors"
	"maps"
	"slices"

	"garret/internal/archive"
	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/repository"
)

// A Store is what deletion needs of a repository. It must be locked exclusively since before the manifest was read, or an
// archive that another client adds may lose what it uses.
type Store interface {
	// Put stores or replaces an object, and does not keep env.
	Put(ctx context.Context, id repository.ID, env []byte) error
	// Delete removes an object. An error that matches repository.ErrNotFound says that there is none, and does no harm.
	Delete(ctx context.Context, id repository.ID) error
	Commit(ctx context.Context) error
	Rollback() error
}

// Removed is what a deletion has deleted, or would.
type Removed struct {
	cache.Stats       // what the archives held; Deduplicated and Chunks are what goes with them
	Kept        error // why nothing but the entries in the manifest is deleted; nil: all is
}

// Preview returns what Remove would delete. The table must be synced.
func Preview(cat *catalog.Catalog, chunks *cache.Chunks, names []string) (Removed, error) {
	_, removed, err := unused(cat, chunks, names)
	return removed, err
}

func unused(cat *catalog.Catalog, chunks *cache.Chunks, names []string) ([]repository.ID, Removed, error) {
	ids, stats, err := chunks.Unused(cat.Manifest, names)
	if errors.Is(err, cache.ErrIncomplete) {
		return nil, Removed{stats, err}, nil
	}
	return ids, Removed{Stats: stats}, err
}

// Remove deletes archives, with all that no other archive uses, in one transaction. The table of chunks must be synced.
// After an error nothing has been deleted, unless it is the error of the commit itself.
//
// If an archive that stays is damaged, so that what it uses is not known in full, the archives are taken out of the manifest
// and nothing else is deleted: Removed.Kept says why. What they alone used is then in nobody's use, until a repair of the
// repository either brings back what is lost or gives it up, and deletes what is in no use.
func Remove(
	ctx context.Context, store Store, cat *catalog.Catalog, chunks *cache.Chunks, names []string,
) (Removed, error) {
	ids, removed, err := unused(cat, chunks, names)
	if err != nil {
		return removed, err
	}
	left := maps.Clone(cat.Manifest.Archives)
	var gone []repository.ID
	for _, name := range names {
		gone = append(gone, left[name].ID)
		delete(left, name)
	}
	for _, ref := range left { // what stays by another name
		gone = slices.DeleteFunc(gone, func(id repository.ID) bool { return id == ref.ID })
	}
	err = transact(ctx, store, cat, left, func() error { return deleteAll(ctx, store, ids) })
	if err != nil {
		return removed, err
	}
	chunks.Drop(gone...)
	return removed, nil
}

// transact does something, and saves a manifest with other archives in it, all or nothing.
func transact(
	ctx context.Context, store Store, cat *catalog.Catalog, archives map[string]archive.ArchiveRef, do func() error,
) error {
	before := cat.Manifest
	err := do()
	if err == nil {
		err = cat.Save(ctx, store, archives)
	}
	if err == nil {
		err = store.Commit(ctx)
	}
	if err != nil {
		cat.Manifest = before
		return errors.Join(err, store.Rollback())
	}
	return nil
}

// deleteAll deletes objects, of which some may be lost.
func deleteAll(ctx context.Context, store Store, ids []repository.ID) error {
	for _, id := range ids {
		if err := store.Delete(ctx, id); err != nil && !errors.Is(err, repository.ErrNotFound) {
			return err
		}
	}
	return nil
}
