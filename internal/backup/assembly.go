package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// An assembly makes the stream of items, and the archive of it. It is one goroutine's.
type assembly struct {
	*pipeline
	items *archive.ItemWriter
	lost  map[fsmeta.FileID]bool // files with several names, which the first of them does not stand for in the archive
	cut   *entry                 // which the end of the context found in the midst of being read

	checkpoint string // the name of the checkpoint archive, once there is one
	tick       <-chan time.Time
}

func newAssembly(p *pipeline) *assembly {
	return &assembly{
		pipeline: p,
		items: archive.NewItemWriter(p.seed, func(data []byte) (repository.ID, error) {
			// A checkpoint needs the stream whole, and so it is not cut off by the end of a context.
			c, err := p.chunks.add(context.Background(), data)
			p.chunks.use(c)
			if p.Uses != nil {
				p.Uses.Add(c)
			}
			return c.ID, err
		}),
		lost: map[fsmeta.FileID]bool{},
	}
}

// run takes the entries in order.
func (a *assembly) run(ctx context.Context) {
	if a.Checkpoint > 0 {
		t := time.NewTicker(a.Checkpoint)
		defer t.Stop()
		a.tick = t.C
	}
	for {
		select {
		case e, ok := <-a.order:
			if !ok {
				return
			}
			a.await(ctx, e)
			e.complete()
			if ctx.Err() != nil && (e.err != nil || a.lacksFirst(e)) {
				a.skip(e)
			} else {
				a.add(e)
			}
		case <-a.tick:
			a.saveCheckpoint(ctx, nil)
		}
	}
}

// await returns when the content of an entry is stored.
func (a *assembly) await(ctx context.Context, e *entry) {
	if e.read == nil {
		return
	}
	for {
		select {
		case <-e.read:
			return
		case <-a.tick:
			a.saveCheckpoint(ctx, e)
		}
	}
}

// lacksFirst reports whether an entry is another name of a file of which the first is not stored.
func (a *assembly) lacksFirst(e *entry) bool { return e.shared != nil && a.lost[*e.shared] }

// add takes one entry.
func (a *assembly) add(e *entry) {
	if e.leftOut != nil {
		a.leaveOut(e)
		return
	}
	if e.err == nil && a.lacksFirst(e) {
		e.err = fmt.Errorf("is another name of %q, which is not stored or is another file by now", e.item.Source)
	}
	if e.err != nil {
		if e.shared != nil {
			a.lost[*e.shared] = true
		}
		a.stats.Warnings++
		a.Warn(e.path, e.err)
		a.list(e, StatusError)
		return
	}
	if e.shared != nil && e.info.FileID != *e.shared {
		a.lost[*e.shared] = true
	}
	if e.attrErr != nil {
		a.stats.Warnings++
		a.Warn(e.path, e.attrErr)
	}
	if e.flaw != nil && !(e.mayChange && errors.Is(e.flaw, ErrChanged)) {
		a.stats.Warnings++
		a.Warn(e.path, e.flaw)
	}
	a.count(e)
	a.list(e, e.storedStatus())
	if a.Known != nil && e.file != "" && e.attrErr == nil {
		a.Known.Remember(e.file, e.info, e.item)
	}
	if err := a.items.Add(e.item); err != nil {
		a.fail(fmt.Errorf("store the items: %w", err))
	}
}

// skip takes an entry that the end of the context left unfinished.
func (a *assembly) skip(e *entry) {
	if e.shared != nil {
		a.lost[*e.shared] = true
	}
	if a.cut == nil {
		a.cut = e
	}
}

// count takes an entry into the statistics.
func (a *assembly) count(e *entry) {
	switch e.item.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		a.stats.Dirs++
	case fsmeta.TypeRegular:
		a.stats.Files++
		a.Progress.Files.Add(1)
	default:
		a.stats.Others++
	}
	if e.item.HasChunks {
		a.chunks.use(e.item.Chunks...)
		for i := range e.item.Chunks {
			a.stats.Bytes += int64(e.item.Chunks[i].Size)
			if a.Uses != nil {
				a.Uses.Add(e.item.Chunks[i])
			}
		}
		a.stats.Contents++
		a.stats.Chunks += int64(len(e.item.Chunks))
		a.Progress.At(&e.item.Path)
	}
}

// finish makes the archive and commits it, without what only the checkpoint needed.
func (a *assembly) finish(ctx context.Context) error {
	ids, err := a.items.Flush()
	if err != nil {
		return fmt.Errorf("store the items: %w", err)
	}
	record, err := a.chunks.add(ctx, a.record(a.Name, ids))
	if err != nil {
		return fmt.Errorf("store the record of archive %q: %w", a.Name, err)
	}
	a.chunks.use(record)
	a.stats.Record = record
	if err := a.chunks.dropTemporary(ctx, true); err != nil {
		return fmt.Errorf("remove the checkpoint: %w", err)
	}
	if err := a.chunks.dropUnused(ctx); err != nil {
		return fmt.Errorf("remove what no file needs: %w", err)
	}
	return a.commit(ctx, a.Name, record.ID)
}

// record encodes the record of an archive of a stream of items.
func (a *assembly) record(name string, ids []repository.ID) []byte {
	r := &archive.Archive{
		Name:     name,
		Items:    ids,
		Cmdline:  a.Cmdline,
		Hostname: a.Hostname,
		Username: a.Username,
		Time:     a.Time,
		Comment:  a.Comment,
	}
	if name == a.Name {
		r.Tags = a.Tags
	}
	return r.Encode()
}

// commit puts an archive into the manifest, in place of the checkpoint, and commits.
func (a *assembly) commit(ctx context.Context, name string, id repository.ID) error {
	archives := make(map[string]archive.ArchiveRef, len(a.catalog.Manifest.Archives)+1)
	for n, ref := range a.catalog.Manifest.Archives {
		if n != a.checkpoint {
			archives[n] = ref
		}
	}
	archives[name] = archive.ArchiveRef{ID: id, Time: a.Time}
	if err := a.catalog.Save(ctx, a.store, archives); err != nil {
		return err
	}
	if err := a.store.Commit(ctx); err != nil {
		return fmt.Errorf("commit archive %q: %w", name, err)
	}
	return nil
}
