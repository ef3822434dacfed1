package backup

import (
	"context"
	"errors"
	"fmt"

	"garret/internal/archive"
	"garret/repository"
)

// CheckpointSuffix is what follows the name of an archive in that of its checkpoint: what an unfinished backup has
// stored so far. Where that is taken, a dot and a number follow.
const CheckpointSuffix = ".checkpoint"

// PartSuffix is what follows the path of a file of which a checkpoint has only the beginning.
const PartSuffix = ".garret-part"

// InterruptedError says that a backup was interrupted, and where what it had stored is. It matches context.Canceled, or
// what else was the cause.
type InterruptedError struct {
	Archive string // the checkpoint's name; empty: nothing is kept
	Cause   error
}

func (e *InterruptedError) Error() string {
	if e.Archive == "" {
		return "interrupted"
	}
	return fmt.Sprintf("interrupted; what was stored so far is archive %q, and a further backup goes on from there", e.Archive)
}

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Cause }

// interrupted commits what there is when the context is done.
func (a *assembly) interrupted(ctx context.Context) error {
	e := &InterruptedError{Cause: context.Canceled}
	if a.Checkpoint <= 0 || a.stats.Files+a.stats.Others == 0 && a.part(a.cut) == nil {
		return e
	}
	if err := a.makeCheckpoint(ctx, a.cut, true); err != nil {
		return fmt.Errorf("interrupted; what was stored so far could not be kept: %w", err)
	}
	e.Archive = a.checkpoint
	return e
}

// saveCheckpoint commits what there is, with the part of a file that is being read. What cannot be committed ends the
// backup.
func (a *assembly) saveCheckpoint(ctx context.Context, current *entry) {
	if ctx.Err() != nil {
		return
	}
	if err := a.makeCheckpoint(ctx, current, false); err != nil {
		a.fail(fmt.Errorf("make a checkpoint: %w", err))
	}
}

// makeCheckpoint keeps the tasks still meanwhile: Attic goes on with the counter after the manifest's, so that nothing may
// be sealed between the manifest and the commit. What was stored of files that are not in the checkpoint yet is committed
// too, but for the last checkpoint: a further backup finds it there.
func (a *assembly) makeCheckpoint(ctx context.Context, current *entry, last bool) error {
	a.still.Lock()
	defer a.still.Unlock()
	a.chunks.nextCheckpoint()
	store := func(data []byte) (repository.ID, error) { return a.chunks.addTemporary(ctx, data) }
	var more []*archive.Item
	if part := a.part(current); part != nil {
		if last {
			a.chunks.use(part.Chunks...)
		}
		more = append(more, part)
	}
	ids, err := a.items.Snapshot(store, more...)
	if err != nil {
		return err
	}
	name := a.checkpoint
	if name == "" {
		name = a.freeName(a.Name + CheckpointSuffix)
	}
	id, err := store(a.record(name, ids))
	if err != nil {
		return err
	}
	if err := a.chunks.dropTemporary(ctx, false); err != nil {
		return err
	}
	if last {
		if err := a.chunks.dropUnused(ctx); err != nil {
			return err
		}
	}
	if err := a.commit(ctx, name, id); err != nil {
		return err
	}
	a.checkpoint = name
	a.Checkpointed(name)
	return nil
}

func (a *assembly) freeName(name string) string {
	free := name
	for n := 1; ; n++ {
		if _, taken := a.catalog.Manifest.Archives[free]; !taken {
			return free
		}
		free = fmt.Sprintf("%s.%d", name, n)
	}
}

// part returns an item of the part of a file that is stored, nil if there is none.
func (a *assembly) part(e *entry) *archive.Item {
	if e == nil || e.read == nil {
		return nil
	}
	it, chunks := e.stored()
	if len(chunks) == 0 || len(chunks) > maxChunks {
		return nil
	}
	it.Path += PartSuffix
	it.HasChunks, it.Chunks, it.Source = true, chunks, ""
	return &it
}

// temporary are the objects that only checkpoints need, and nobody before them, with the number of the last checkpoint
// that does. An object is taken out as soon as anybody else needs it, which may be at any time.
type temporary struct {
	ids        map[repository.ID]int
	checkpoint int
}

// nextCheckpoint begins a checkpoint.
func (s *chunkStore) nextCheckpoint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.temporary.checkpoint++
}

// addTemporary makes sure that data is in the repository for the checkpoint.
func (s *chunkStore) addTemporary(ctx context.Context, data []byte) (repository.ID, error) {
	id := s.key.ID(data)
	s.mu.Lock()
	_, known := s.known[id]
	if _, mine := s.temporary.ids[id]; mine || !known {
		s.temporary.ids[id] = s.temporary.checkpoint
	}
	s.mu.Unlock()
	if known {
		return id, nil
	}
	csize, isNew, err := s.ensure(ctx, id, data)
	if err != nil {
		return id, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[id] = csize
	if !isNew {
		delete(s.temporary.ids, id)
	}
	return id, nil
}

// dropTemporary deletes the objects that former checkpoints alone needed, or all.
func (s *chunkStore) dropTemporary(ctx context.Context, all bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, last := range s.temporary.ids {
		if last == s.temporary.checkpoint && !all {
			continue
		}
		err := s.store.Delete(ctx, id)
		if errors.Is(err, repository.ErrAppendOnly) { // then it stays
			err = nil
		}
		if err != nil && !errors.Is(err, repository.ErrNotFound) {
			return err
		}
		delete(s.temporary.ids, id)
		delete(s.known, id)
	}
	return nil
}
