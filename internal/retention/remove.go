package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"garret/internal/archive"
	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/repository"
)

// ErrArchiveExists is matched by the error about a new name that is taken.
var ErrArchiveExists = errors.New("archive exists already")

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

// Rename gives an archive another name, in one transaction. Its record has the name too, and so there is a new one; the old
// one is deleted. The table of chunks must be synced. After an error all is as it was, unless it is the error of the commit
// itself.
func Rename(ctx context.Context, store Store, cat *catalog.Catalog, chunks *cache.Chunks, from, to string) error {
	if to == "" {
		return errors.New("the new name is empty")
	}
	a, err := cat.Archive(ctx, from)
	if err != nil {
		return err
	}
	if _, taken := cat.Manifest.Archives[to]; taken {
		return fmt.Errorf("archive %q: %w", to, ErrArchiveExists)
	}
	ids, _, err := unused(cat, chunks, []string{from})
	if err != nil {
		return err
	}
	ref := cat.Manifest.Archives[from]
	ids = slices.DeleteFunc(ids, func(id repository.ID) bool { return id != ref.ID })

	a.Name = to
	record := a.Encode()
	renamed := ref
	renamed.ID = cat.Key.ID(record)
	env, err := cat.Key.Seal(nil, record)
	if err != nil {
		return fmt.Errorf("seal the record of archive %q: %w", to, err)
	}
	archives := maps.Clone(cat.Manifest.Archives)
	delete(archives, from)
	archives[to] = renamed
	err = transact(ctx, store, cat, archives, func() error {
		if err := deleteAll(ctx, store, ids); err != nil {
			return err
		}
		return store.Put(ctx, renamed.ID, env)
	})
	if err != nil {
		return err
	}
	for _, other := range archives {
		if other.ID == ref.ID { // which has the name "from" in its record
			return nil
		}
	}
	chunks.Replace(ref.ID, archive.Chunk{ID: renamed.ID, Size: uint32(len(record)), CSize: uint32(len(env))})
	return nil
}
