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

// Rename gives an archive another name. It does so as Rewrite does.
func Rename(ctx context.Context, store Store, cat *catalog.Catalog, chunks *cache.Chunks, from, to string) error {
	if err := archive.CheckName(to); err != nil {
		return err
	}
	if _, ok := cat.Manifest.Archives[from]; !ok {
		return cat.NoArchive(from)
	}
	if _, taken := cat.Manifest.Archives[to]; taken {
		return fmt.Errorf("archive %q: %w", to, ErrArchiveExists)
	}
	return Rewrite(ctx, store, cat, chunks, []string{from}, func(a *archive.Archive) { a.Name = to })
}

// A rewritten is an archive whose record is another one.
type rewritten struct {
	name     string
	old, new archive.ArchiveRef
	chunk    archive.Chunk // of the new record
	env      []byte
}

// Rewrite changes the records of archives, but neither what is in them nor their times, in one transaction. Each gets a new
// record, under the name that is in it, and the old one is deleted. The table of chunks must be synced. After an error all
// is as it was, unless it is the error of the commit itself.
func Rewrite(
	ctx context.Context, store Store, cat *catalog.Catalog, chunks *cache.Chunks, names []string, edit func(*archive.Archive),
) error {
	archives := maps.Clone(cat.Manifest.Archives)
	var all []rewritten
	for _, name := range names {
		r, err := rewrite(ctx, cat, name, edit)
		if err != nil {
			return err
		}
		if r.name == name && r.new.ID == r.old.ID {
			continue
		}
		delete(archives, name)
		archives[r.name] = r.new
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil
	}
	ids, _, err := unused(cat, chunks, names)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id repository.ID) bool {
		return !slices.ContainsFunc(all, func(r rewritten) bool { return r.old.ID == id })
	})
	err = transact(ctx, store, cat, archives, func() error {
		if err := deleteAll(ctx, store, ids); err != nil {
			return err
		}
		for _, r := range all {
			if err := store.Put(ctx, r.new.ID, r.env); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	stay := map[repository.ID]bool{} // records that somebody has by another name
	for _, ref := range archives {
		stay[ref.ID] = true
	}
	for _, r := range all {
		if !stay[r.old.ID] {
			chunks.Replace(r.old.ID, r.chunk)
		}
	}
	return nil
}

// rewrite makes the new record of an archive.
func rewrite(ctx context.Context, cat *catalog.Catalog, name string, edit func(*archive.Archive)) (rewritten, error) {
	r := rewritten{old: cat.Manifest.Archives[name]}
	a, err := cat.Archive(ctx, name)
	if err != nil {
		return r, err
	}
	a.Name = name // which may be another one in a record that several have
	edit(a)
	record := a.Encode()
	if r.env, err = cat.Key.Seal(nil, record); err != nil {
		return r, fmt.Errorf("seal the record of archive %q: %w", a.Name, err)
	}
	r.name, r.new = a.Name, r.old
	r.new.ID = cat.Key.ID(record)
	r.chunk = archive.Chunk{ID: r.new.ID, Size: uint32(len(record)), CSize: uint32(len(r.env))}
	return r, nil
}
