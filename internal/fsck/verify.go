package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/repository"
)

// Progress counts what a check has done so far. It may be read at any time.
type Progress struct {
	step atomic.Pointer[step]
}

// step is a part of a check.
type step struct {
	what        string
	done, bytes atomic.Int64
	total       int64
	path        atomic.Pointer[string]
}

// begin begins a part of a check, with a number of things to do, of which what is the name of one.
func (p *Progress) begin(what string, total int64) *step {
	s := &step{what: what, total: total}
	p.step.Store(s)
	return s
}

// Count returns what is being counted, in the singular, how many of these are done and how many there are, how many bytes
// were read for it, and what is at hand.
func (p *Progress) Count() (what string, done, total, bytes int64, path string) {
	s := p.step.Load()
	if s == nil {
		return "", 0, 0, 0, ""
	}
	if latest := s.path.Load(); latest != nil {
		path = *latest
	}
	return s.what, s.done.Load(), s.total, s.bytes.Load(), path
}

// each calls do for objects, several at a time, and begins with them in order, until it is late or do fails, but with one at
// least. It returns how many it has begun with; all of these are done. do must be safe for concurrent use.
func (c *Check) each(ctx context.Context, what string, order []uint32, do func(ctx context.Context, i uint32, s *step) error) (
	int, error,
) {
	workers := c.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := c.Progress.begin(what, int64(len(order)))
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(workers, len(order)) {
		running.Go(func() {
			for first := true; ctx.Err() == nil && (first || !c.isLate()); first = false {
				n := int(next.Add(1)) - 1
				if n >= len(order) {
					return
				}
				if err := do(ctx, order[n], s); err != nil {
					cancel(err)
				}
				s.done.Add(1)
			}
		})
	}
	running.Wait()
	return int(min(next.Load(), int64(len(order)))), context.Cause(ctx)
}

// verify opens every object and compares its content with its id. It takes note of the archives' records that it meets, if
// they are searched for; then it has the time that it needs.
func (c *Check) verify(ctx context.Context, search bool) error {
	if search {
		c.Until = time.Time{}
		c.From = Position{}
	}
	order, places, err := c.order(ctx)
	if err != nil {
		return err
	}
	c.objects.sizes = make([]int32, len(c.objects.ids))
	for i := range c.objects.sizes {
		c.objects.sizes[i] = -1
	}
	var mu sync.Mutex
	done, err := c.each(ctx, "object", order, func(ctx context.Context, i uint32, s *step) error {
		id := c.objects.ids[i]
		if id == archive.ManifestID || c.objects.marks[i].has(gone) {
			return nil
		}
		data, env, err := c.open(ctx, id)
		s.bytes.Add(int64(len(env)))
		var wrong *contentError
		switch {
		case isNewer(err):
			c.objects.marks[i] |= unknown
			return nil
		case errors.As(err, &wrong):
			c.objects.marks[i] |= damaged
			return nil
		case isLost(err):
			c.objects.marks[i] |= gone
			mu.Lock()
			c.report.StoreDamaged = true
			mu.Unlock()
			return nil
		case err != nil:
			return err
		}
		c.objects.sizes[i] = int32(len(data))
		var a *archive.Archive
		if search && archive.LooksLikeArchive(data) {
			a, _ = archive.DecodeArchive(data)
		}
		if search && a == nil {
			if a = archive.LooksNewer(data); a != nil {
				c.objects.marks[i] |= unknown
			}
		}
		mu.Lock()
		defer mu.Unlock()
		c.report.Verified++
		c.report.NonceEnd = max(c.report.NonceEnd, envelope.NonceEnd(env))
		if a != nil {
			c.candidates = append(c.candidates, candidate{id, a.Name, a.Time})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("verify the objects: %w", err)
	}
	if done < len(order) {
		c.report.Partial = true
		c.report.Next = Position{}
		if places != nil {
			c.report.Next.Data = places[order[done]]
		} else {
			c.report.Next.Object = c.objects.ids[order[done]].String()
		}
	}
	return nil
}

// order returns the objects that are to be verified, in the order in which they lie in the store, if it can be known, and
// their places.
func (c *Check) order(ctx context.Context) ([]uint32, []repository.Place, error) {
	order := make([]uint32, len(c.objects.ids))
	for i := range order {
		order[i] = uint32(i)
	}
	p, ok := c.store.(placer)
	if !ok {
		from := 0
		if id, err := repository.ParseID(c.From.Object); err == nil {
			from, _ = slices.BinarySearchFunc(c.objects.ids, id, compareIDs)
		}
		return order[from:], nil, nil
	}
	places, err := p.Places(ctx, c.objects.ids)
	if err != nil {
		return nil, nil, fmt.Errorf("find out where the objects lie: %w", err)
	}
	slices.SortFunc(order, func(a, b uint32) int { return places[a].Compare(places[b]) })
	from, _ := slices.BinarySearchFunc(order, c.From.Data, func(i uint32, at repository.Place) int {
		return places[i].Compare(at)
	})
	return order[from:], places, nil
}

// orphans looks for objects that nothing refers to. They are opened, as those that the key does not open are not of this
// program, or not of this key, and none of our business.
func (c *Check) orphans(ctx context.Context) error {
	if c.heals {
		return nil
	}
	var order []uint32
	for i := range c.objects.ids {
		if c.objects.isOrphan(i) {
			order = append(order, uint32(i))
		}
	}
	c.Until = time.Time{}
	var bytes, count, others atomic.Int64
	_, err := c.each(ctx, "orphan", order, func(ctx context.Context, i uint32, s *step) error {
		if c.objects.marks[i].has(damaged) {
			c.objects.marks[i] |= foreign
			others.Add(1)
			return nil
		}
		_, env, err := c.open(ctx, c.objects.ids[i])
		switch {
		case err == nil:
			count.Add(1)
			bytes.Add(int64(len(env)))
		case isNewer(err):
			c.objects.marks[i] |= unknown
		case isLost(err):
			c.objects.marks[i] |= foreign
			others.Add(1)
		default:
			return err
		}
		s.bytes.Add(int64(len(env)))
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at the objects that nothing refers to: %w", err)
	}
	c.report.Orphans, c.report.OrphanBytes, c.report.Foreign = count.Load(), bytes.Load(), others.Load()
	if c.report.Rebuilt && len(c.manifest.Archives) == 0 {
		c.report.KeepsOrphans = true // the archives themselves must be among them
	}
	c.keepWithUnknown()
	if c.report.Orphans > 0 {
		c.find(Finding{
			Kind: Orphans,
			Err:  fmt.Errorf("nothing refers to %s with %d bytes", countObjects(c.report.Orphans), c.report.OrphanBytes),
		})
	}
	return nil
}

// keepWithUnknown has all objects kept where a newer garret has been at work: what it has made may refer to them.
func (c *Check) keepWithUnknown() {
	n, others := c.objects.count(unknown), int64(0)
	if n == 0 {
		return
	}
	c.report.KeepsOrphans = true
	for i := range c.objects.ids {
		if c.objects.marks[i].has(unknown) && c.objects.isOrphan(i) {
			others++
		}
	}
	if others > 0 && c.report.Unknown == 0 {
		c.find(Finding{
			Kind: UnknownArchive,
			Err:  fmt.Errorf("nothing that is known refers to %s: %w", countObjects(others), repository.ErrNewer),
		})
	}
}

func countObjects(n int64) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

// A candidate is an object that was found to be an archive's record.
type candidate struct {
	id   repository.ID
	name string
	time time.Time
}

// rebuildManifest makes a manifest of the archives that were found. Where several have the same name, the oldest gets it.
func (c *Check) rebuildManifest() {
	c.report.Rebuilt = true
	c.manifest = &archive.Manifest{Archives: map[string]archive.ArchiveRef{}}
	slices.SortFunc(c.candidates, func(a, b candidate) int {
		return cmp.Or(a.time.Compare(b.time), slices.Compare(a.id[:], b.id[:]))
	})
	for _, a := range c.candidates {
		base := cmp.Or(a.name, "unnamed")
		name := base
		for n := 1; ; n++ {
			if _, taken := c.manifest.Archives[name]; !taken {
				break
			}
			name = fmt.Sprintf("%s.%d", base, n)
		}
		c.manifest.Archives[name] = archive.ArchiveRef{ID: a.id, Time: a.time}
		c.report.Found = append(c.report.Found, name)
	}
}

// dropContent takes archives out of a manifest made anew whose records are the content of a file in another one: somebody
// may have backed up the record of an archive, or something that is meant to be taken for one.
func (c *Check) dropContent() {
	c.report.Found = slices.DeleteFunc(c.report.Found, func(name string) bool {
		id := c.manifest.Archives[name].ID
		if i := c.objects.find(id); i < 0 || !c.objects.marks[i].has(content) {
			return false
		}
		delete(c.manifest.Archives, name)
		delete(c.rewrite, name)
		c.find(Finding{
			Kind: NotAnArchive, Archive: name, Object: &id,
			Err: fmt.Errorf("object %v looks like an archive, but is the content of a file", id),
		})
		return true
	})
}
