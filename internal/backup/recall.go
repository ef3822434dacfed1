package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"garret/internal/fsmeta"
)

// A recall comes behind the walk, and finds out which files are as a former backup has met them. The others are to be read.
type recall struct {
	*pipeline
	owners *fsmeta.Owners
	cwd    string // where relative paths begin; empty: not yet asked
}

func (r *recall) run(ctx context.Context) {
	for e := range r.met {
		switch {
		case e.dir == nil:
			r.order <- e
		case r.Known != nil && ctx.Err() == nil && r.unchanged(ctx, e):
			e.dir.Release()
			e.dir = nil
			r.order <- e
		default:
			e.read = make(chan struct{})
			e.left.Store(1)
			r.order <- e
			r.files <- e
		}
	}
}

// absolute is filepath.Abs, which would ask the system where we are for every file.
func (r *recall) absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if r.cwd == "" {
		var err error
		if r.cwd, err = os.Getwd(); err != nil {
			return "", err
		}
	}
	return filepath.Join(r.cwd, path), nil
}

// unchanged reports whether a file is as a former backup has met it, and completes its item if so.
func (r *recall) unchanged(ctx context.Context, e *entry) bool {
	var err error
	if e.file, err = r.absolute(e.path); err != nil {
		return false // which costs time alone
	}
	it := *e.item
	e.known, e.reused = r.Known.Lookup(e.file, e.info, &it)
	if !e.reused {
		return false
	}
	e.reused, err = r.chunks.reuse(ctx, it.Chunks)
	if err != nil {
		r.fail(fmt.Errorf("look for the chunks of %q: %w", e.path, err))
	}
	if !e.reused {
		return false
	}
	if it.ACLAccess != nil || it.ACLDefault != nil { // names in it may have changed, or not be wanted
		e.describe(e.dir, e.name, it.Path, e.info, r.owners)
		e.item.HasChunks, e.item.Chunks = true, it.Chunks
	} else {
		e.item = &it
	}
	return true
}
