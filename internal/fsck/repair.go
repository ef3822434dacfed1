package fsck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// DamagedPrefix is what the names of the files begin with in which a repair keeps objects whose content is wrong, as they
// were stored. The object's id follows.
const DamagedPrefix = "garret.damaged."

// ErrStoreDamaged is returned by Repair when objects cannot be read because the repository itself is damaged: it must be
// repaired before.
var ErrStoreDamaged = errors.New("the repository itself is damaged, and must be repaired before its archives")

// Repair does what the report of Run says, in one transaction, and returns the manifest that there is then. After an error
// the transaction must be rolled back, and everything is as it was, unless it is the error of the commit itself. Where
// nothing was found that it can mend, it does nothing.
//
// The key must have its source of counters. The store must be as it was for Run.
func (c *Check) Repair(ctx context.Context) (*archive.Manifest, error) {
	if c.report.StoreDamaged {
		return nil, ErrStoreDamaged
	}
	if !c.whole {
		return nil, errors.New("a check that has not seen all there is is nothing to repair by")
	}
	if !c.report.Mends() && !c.heals { // else the manifest may remember what is lost no more
		return c.manifest, nil
	}
	archives := maps.Clone(c.manifest.Archives)
	if !c.heals {
		if err := c.setAside(ctx); err != nil {
			return nil, err
		}
		for _, name := range c.report.Dropped {
			delete(archives, name)
		}
	}
	s := c.Progress.begin("archive", int64(len(c.rewrite)))
	for _, e := range entries(c.manifest) {
		if !c.rewrite[e.name] {
			continue
		}
		s.path.Store(&e.name)
		id, err := c.rewriteArchive(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("write archive %q anew: %w", e.name, err)
		}
		ref := e.ArchiveRef
		ref.ID = id
		archives[e.name] = ref
		s.done.Add(1)
	}
	if len(c.salvaged) > 0 {
		ref, err := c.writeSalvaged(ctx)
		if err != nil {
			return nil, fmt.Errorf("write archive %q: %w", c.report.SalvagedAs, err)
		}
		archives[c.report.SalvagedAs] = ref
	}
	if err := c.deleteUnused(ctx); err != nil {
		return nil, err
	}
	m, err := saveManifest(ctx, c.store, c.key, c.manifest, archives, c.wounded.lost())
	if err != nil {
		return nil, err
	}
	c.manifest = m
	return m, nil
}

// saveManifest stores a manifest with other archives and what is lost of them, and commits. It must be the last that is
// sealed in a session.
func saveManifest(ctx context.Context, s Store, key *envelope.Key, m *archive.Manifest, archives map[string]archive.ArchiveRef,
	lost archive.Lost,
) (*archive.Manifest, error) {
	cat, err := catalog.New(s, key, nil)
	if err != nil {
		return nil, err
	}
	next := *m
	if err := next.SetLost(lost); err != nil {
		return nil, err
	}
	cat.Manifest = &next
	if err := cat.Save(ctx, s, archives); err != nil {
		return nil, err
	}
	if err := s.Commit(ctx); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return cat.Manifest, nil
}

// setAside keeps what is damaged and about to be forgotten. The files are there at once, and stay there if the repair
// fails: the next one writes them again.
func (c *Check) setAside(ctx context.Context) error {
	k, ok := c.store.(keeper)
	if !ok {
		return nil
	}
	keep := func(id repository.ID, env []byte) error {
		if err := k.WriteFile(DamagedPrefix+id.String(), env); err != nil {
			return fmt.Errorf("set the damaged object %v aside: %w", id, err)
		}
		return nil
	}
	if c.report.Rebuilt && c.env != nil {
		if err := keep(archive.ManifestID, c.env); err != nil {
			return err
		}
	}
	for i, id := range c.objects.ids {
		if !c.objects.marks[i].has(damaged | wanted) {
			continue
		}
		env, err := c.store.Get(ctx, id)
		if err != nil {
			return fmt.Errorf("read the damaged object %v: %w", id, err)
		}
		if err := keep(id, env); err != nil {
			return err
		}
	}
	return nil
}

// rewriteArchive stores an archive's items as they are to be, and a record that has them.
func (c *Check) rewriteArchive(ctx context.Context, e entry) (repository.ID, error) {
	data, err := c.read(ctx, e.ID)
	if err != nil {
		return repository.ID{}, err
	}
	a, err := archive.DecodeArchive(data)
	if err != nil {
		return repository.ID{}, err
	}
	store := func(data []byte) (repository.ID, error) {
		chunk, err := c.add(ctx, data)
		return chunk.ID, err
	}
	zeros := c.zeros
	if c.heals {
		zeros = nil
	}
	w := archive.NewItemWriter(c.key.ChunkSeed(), store)
	err = c.items(ctx, a.Items, stream{
		item: func(ctx context.Context, it *archive.Item) (bool, error) {
			if isLink(it) && c.dangling[e.name][it.Source] {
				return true, nil
			}
			if _, err := mend(ctx, c.objects, it, zeros); err != nil {
				return false, err
			}
			return true, w.Add(it)
		},
		gap: func(*repository.ID, error) {}, // it has been reported
	})
	if err != nil {
		return repository.ID{}, err
	}
	if a.Items, err = w.Flush(); err != nil {
		return repository.ID{}, err
	}
	return store(a.Encode())
}

// maxPatchedChunks is how many chunks an item can have and yet remember those that belong in the place of zeros: it has
// two lists then, and must remain short enough to be read.
const maxPatchedChunks = (archive.MaxItemSize - 1<<20) / 90

// mend makes an item what settle says, and reports whether that changes it. zeros returns a chunk of zeros of a size; where
// it is nil, what is lost stays as it is.
func mend(ctx context.Context, p presence, it *archive.Item, zeros func(context.Context, uint32) (archive.Chunk, error)) (
	bool, error,
) {
	changed := false
	chunks, healthy := slices.Clone(it.Chunks), slices.Clone(it.Chunks)
	err := settle(ctx, p, it, func(v verdict) (err error) {
		if v.fate == fateLost && zeros == nil {
			v.use = it.Chunks[v.i]
		} else if v.fate == fateLost {
			if v.use, err = zeros(ctx, v.healthy.Size); err != nil {
				return err
			}
			if v.use.ID == v.healthy.ID { // what was lost was zeros
				v.healthy = v.use
			}
		}
		if v.fate == fateSound || v.fate == fateHealed {
			v.healthy = v.use
		}
		changed = changed || v.fate != fatePatched && v.use != it.Chunks[v.i]
		chunks[v.i], healthy[v.i] = v.use, v.healthy
		return nil
	})
	if err != nil || !changed {
		return false, err
	}
	it.Chunks, it.ChunksHealthy = chunks, healthy
	if !it.Patched() || len(chunks) > maxPatchedChunks {
		it.ChunksHealthy = nil
	}
	return true, nil
}

// zeros returns a chunk of zeros, which it stores. One that is longer than a chunk can be is none that was ever stored, and
// gets as many as there can be.
func (c *Check) zeros(ctx context.Context, size uint32) (archive.Chunk, error) {
	return c.add(ctx, make([]byte, min(size, envelope.MaxDataSize)))
}

// add makes sure that data is in the repository.
func (c *Check) add(ctx context.Context, data []byte) (archive.Chunk, error) {
	chunk := archive.Chunk{ID: c.key.ID(data), Size: uint32(len(data))}
	if size, ok := c.added[chunk.ID]; ok {
		chunk.CSize = size
		return chunk, nil
	}
	i := c.objects.find(chunk.ID)
	if i >= 0 && c.objects.marks[i]&(gone|damaged) == 0 {
		_, env, err := c.open(ctx, chunk.ID)
		if err == nil {
			c.objects.marks[i] |= used
			chunk.CSize = uint32(len(env))
			c.added[chunk.ID] = chunk.CSize
			return chunk, nil
		}
		if isNewer(err) { // it is the data, in another form
			c.objects.marks[i] |= used
			chunk.CSize = uint32(len(env))
			return chunk, nil
		}
		if !isLost(err) {
			return chunk, err
		}
	}
	env, err := c.key.Seal(nil, data)
	if err == nil {
		err = c.store.Put(ctx, chunk.ID, env)
	}
	if err != nil {
		return chunk, err
	}
	if i >= 0 {
		c.objects.marks[i] = used
		if c.objects.sizes != nil {
			c.objects.sizes[i] = int32(len(data))
		}
	}
	chunk.CSize = uint32(len(env))
	c.added[chunk.ID] = chunk.CSize
	return chunk, nil
}

// deleteUnused deletes the objects that nothing refers to any more, and those whose content is wrong. Where the repair only
// heals, these are what the healed archives were made of, if all others could be looked at.
func (c *Check) deleteUnused(ctx context.Context) error {
	if c.heals && c.report.Gaps+int64(len(c.report.Dropped)) > 0 {
		return nil
	}
	for i, id := range c.objects.ids {
		m := c.objects.marks[i]
		switch {
		case id == archive.ManifestID || m&(gone|foreign|unknown) != 0:
			continue
		case c.heals && (m.has(damaged) || !m.has(superseded)):
			continue
		case m.has(damaged | wanted):
		case m.has(used), m.has(damaged), c.report.KeepsOrphans:
			continue
		}
		if err := c.store.Delete(ctx, id); err != nil {
			return fmt.Errorf("delete object %v: %w", id, err)
		}
	}
	return nil
}
