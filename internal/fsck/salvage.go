package fsck

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/repository"
)

// salvagedName is the name of the archive with what is left of archives that are lost, or the beginning of it.
const salvagedName = "salvaged"

// salvage looks among the objects that nothing refers to for the items of archives whose record is lost. Those that lie
// within one chunk of a stream as a whole go to an archive of their own: what archives that are left have too is not
// among them.
func (c *Check) salvage(ctx context.Context) error {
	var order []uint32
	for i := range c.objects.ids {
		if c.objects.isOrphan(i) && !c.objects.marks[i].has(damaged) {
			order = append(order, uint32(i))
		}
	}
	type part struct {
		id    repository.ID
		first string // path
	}
	var mu sync.Mutex
	var parts []part
	_, err := c.each(ctx, "orphan", order, func(ctx context.Context, i uint32, s *step) error {
		data, env, err := c.open(ctx, c.objects.ids[i])
		s.bytes.Add(int64(len(env)))
		if err != nil {
			if catalog.Lost(err) {
				return nil // orphans tells what it is
			}
			return err
		}
		for it := range wholeItems(data) {
			mu.Lock()
			defer mu.Unlock()
			parts = append(parts, part{c.objects.ids[i], it.Path})
			break
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for items of archives that are lost: %w", err)
	}
	if len(parts) == 0 {
		return nil
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(a.first, b.first), compareIDs(a.id, b.id)) })
	name := salvagedName
	for n := 1; ; n++ {
		if _, taken := c.manifest.Archives[name]; !taken {
			break
		}
		name = fmt.Sprintf("%s.%d", salvagedName, n)
	}
	c.report.SalvagedAs = name
	w := walk{Check: c, name: name, hit: map[string]bool{}}
	there, wanting := map[string]bool{}, map[string]bool{}
	for _, p := range parts {
		c.salvaged = append(c.salvaged, p.id)
		c.objects.mark(p.id, superseded)
	}
	err = c.salvagedItems(ctx, func(it *archive.Item) error {
		c.report.Salvaged++
		if isLink(it) {
			wanting[it.Source] = true
		} else {
			there[it.Path] = true
		}
		_, err := w.item(ctx, it)
		return err
	})
	for path := range wanting {
		if there[path] {
			delete(wanting, path)
		}
	}
	c.dangling[name] = wanting
	return err
}

// salvagedItems goes through the items that were found.
func (c *Check) salvagedItems(ctx context.Context, each func(*archive.Item) error) error {
	for _, id := range c.salvaged {
		data, err := c.read(ctx, id)
		if err != nil {
			return err
		}
		for it := range wholeItems(data) {
			if err := each(it); err != nil {
				return err
			}
		}
	}
	return nil
}

// wholeItems yields the items that lie in a part of a stream as a whole.
func wholeItems(data []byte) func(yield func(*archive.Item) bool) {
	return func(yield func(*archive.Item) bool) {
		var dec archive.ItemDecoder
		dec.Skip()
		dec.Feed(data)
		dec.Close()
		for {
			it, ok, err := dec.Next()
			switch {
			case err != nil:
				dec.Recover()
			case !ok || !yield(it):
				return
			}
		}
	}
}

// writeSalvaged stores the archive of what was found.
func (c *Check) writeSalvaged(ctx context.Context) (archive.ArchiveRef, error) {
	ref := archive.ArchiveRef{Time: time.Now().UTC().Truncate(time.Microsecond)}
	w := archive.NewItemWriter(c.key.ChunkSeed(), func(data []byte) (repository.ID, error) {
		chunk, err := c.add(ctx, data)
		return chunk.ID, err
	})
	err := c.salvagedItems(ctx, func(it *archive.Item) error {
		if isLink(it) && c.dangling[c.report.SalvagedAs][it.Source] {
			return nil
		}
		if _, err := mend(ctx, c.objects, it, c.zeros); err != nil {
			return err
		}
		return w.Add(it)
	})
	if err != nil {
		return ref, err
	}
	a := &archive.Archive{Name: c.report.SalvagedAs, Time: ref.Time}
	if a.Items, err = w.Flush(); err != nil {
		return ref, err
	}
	chunk, err := c.add(ctx, a.Encode())
	ref.ID = chunk.ID
	return ref, err
}
