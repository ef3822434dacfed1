package backup

import (
	"context"
	"fmt"

	"garret/internal/catalog"
	"garret/internal/fsmeta"
)

// DryRun walks as Run does, and tells Options.List what would be stored and what would not. No file is opened, so that
// only what cannot be found or listed is reported. Of the Stats, Files, Dirs, Others, Bytes and Warnings are told.
func DryRun(ctx context.Context, cat *catalog.Catalog, opts Options) (*Stats, error) {
	o := opts.withDefaults()
	if _, ok := cat.Manifest.Archives[o.Name]; ok {
		return nil, fmt.Errorf("archive %q: %w", o.Name, ErrArchiveExists)
	}
	roots, below, err := o.roots()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.Known = nil
	p := &pipeline{Options: o, roots: roots, below: below, fail: cancel, met: make(chan *entry, 4096)}
	w := walker{pipeline: p, owners: new(fsmeta.Owners), links: map[fsmeta.FileID]string{}}
	go func() {
		w.run(ctx)
		close(p.met)
	}()
	a := &assembly{pipeline: p}
	for e := range p.met {
		if ctx.Err() == nil {
			a.would(e)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return &p.stats, nil
}

// would tells what would become of an entry.
func (a *assembly) would(e *entry) {
	switch {
	case e.leftOut != nil:
		a.leaveOut(e)
	case e.err != nil:
		a.stats.Warnings++
		a.Warn(e.path, e.err)
		a.list(e, StatusError)
	default:
		status := e.storedStatus()
		if status == StatusAdded {
			status = StatusWould
		}
		if e.info != nil && e.item.Source == "" {
			a.stats.Bytes += e.info.Size
		}
		a.count(e)
		a.list(e, status)
	}
}
