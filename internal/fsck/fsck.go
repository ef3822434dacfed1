// Package fsck finds out whether what archives need is there: their records, their items, and the chunks of their files.
package fsck

import (
	"context"
	"errors"
	"fmt"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/repository"
)

// A Finding is something that is wrong with an archive.
type Finding struct {
	Archive      string
	Path         string // of the item concerned; empty: the archive as such
	Offset, Size int64  // the part of the file that is lost, in bytes; no size: the item or the archive as such
	Err          error
}

func (f Finding) String() string {
	switch {
	case f.Path == "":
		return fmt.Sprintf("archive %q: %v", f.Archive, f.Err)
	case f.Size == 0:
		return fmt.Sprintf("archive %q, %q: %v", f.Archive, f.Path, f.Err)
	default:
		return fmt.Sprintf("archive %q, %q: bytes %d to %d are lost: %v", f.Archive, f.Path, f.Offset, f.Offset+f.Size-1, f.Err)
	}
}

// Stats say what has been looked at.
type Stats struct {
	Archives int64
	Items    int64
	Chunks   int64 // different ones
	Findings int64
}

// A Store knows which objects there are.
type Store interface {
	Has(ctx context.Context, id repository.ID) (bool, error)
}

// Archives looks at every archive of a catalog and reports what it finds. It changes nothing, and does not read the
// content of files. An error is one that keeps it from going on.
func Archives(ctx context.Context, s Store, cat *catalog.Catalog, report func(Finding)) (Stats, error) {
	c := checker{store: s, cat: cat, there: map[repository.ID]bool{}}
	c.report = func(f Finding) {
		c.stats.Findings++
		report(f)
	}
	for _, entry := range cat.Archives() {
		c.stats.Archives++
		if err := c.archive(ctx, entry.Name); err != nil {
			return c.stats, err
		}
	}
	c.stats.Chunks = int64(len(c.there))
	return c.stats, nil
}

type checker struct {
	store  Store
	cat    *catalog.Catalog
	report func(Finding)
	there  map[repository.ID]bool // chunks that have been looked up
	stats  Stats
}

func (c *checker) archive(ctx context.Context, name string) error {
	a, err := c.cat.Archive(ctx, name)
	if err != nil {
		return c.found(Finding{Archive: name, Err: err})
	}
	for it, err := range c.cat.Items(ctx, a) {
		if err != nil {
			if err := c.found(Finding{Archive: name, Err: err}); err != nil {
				return err
			}
			continue // with what comes after the gap
		}
		c.stats.Items++
		if err := c.item(ctx, name, it); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) item(ctx context.Context, name string, it *archive.Item) error {
	var offset int64
	for _, chunk := range it.Chunks {
		there, known := c.there[chunk.ID]
		if !known {
			var err error
			if there, err = c.store.Has(ctx, chunk.ID); err != nil {
				return err
			}
			c.there[chunk.ID] = there
		}
		if !there {
			c.report(Finding{
				Archive: name,
				Path:    it.Path,
				Offset:  offset,
				Size:    int64(chunk.Size),
				Err:     fmt.Errorf("chunk %v: %w", chunk.ID, repository.ErrNotFound),
			})
		}
		offset += int64(chunk.Size)
	}
	return nil
}

// found reports a finding, unless it is about the store and not about what is in it.
func (c *checker) found(f Finding) error {
	for _, damage := range []error{repository.ErrNotFound, repository.ErrIntegrity, repository.ErrInvalid} {
		if errors.Is(f.Err, damage) {
			c.report(f)
			return nil
		}
	}
	return f.Err
}
