package backup

import (
	"context"
	"io"

	"garret/internal/chunker"
	"garret/internal/fsmeta"
)

// A reader reads files, one after another, and cuts their content into tasks.
type reader struct {
	*pipeline
	chunker *chunker.Chunker
	owners  fsmeta.Owners
}

func newReader(p *pipeline) *reader {
	return &reader{pipeline: p, chunker: chunker.New(p.seed), owners: fsmeta.Owners{Numeric: p.NumericOwner}}
}

func (r *reader) run(ctx context.Context) {
	for e := range r.files {
		if e.err = ctx.Err(); e.err == nil {
			e.err = r.readFile(ctx, e)
		}
		e.dir.Release()
		e.finish()
	}
}

// readFile reads a file, and once more if it changed meanwhile. Its item then says what was true before and after.
func (r *reader) readFile(ctx context.Context, e *entry) error {
	err := r.tryFile(ctx, e)
	if err == ErrChanged || err == ErrSize {
		err = r.tryFile(ctx, e)
	}
	return err
}

// tryFile reads the file. It returns ErrChanged or ErrSize if that was not as a whole, with nobody changing it.
func (r *reader) tryFile(ctx context.Context, e *entry) error {
	f, err := e.dir.Open(e.name)
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := fsmeta.Fstat(f)
	if err != nil {
		return err
	}
	if before.Type() != fsmeta.TypeRegular {
		return ErrChanged // something else has taken its name
	}
	if e.shared != nil && *e.shared != before.FileID {
		return ErrChanged // and later names of the file would become names of this one
	}
	item := fsmeta.NewItem(e.item.Path, before, &r.owners)
	e.attrErr = fsmeta.ReadAttrs(e.dir, e.name, f, item, &r.owners)
	// One that grows without end is noticed by the first byte.
	n, err := r.cut(ctx, e, io.LimitReader(fsmeta.Reader(f), before.Size+1))
	if err != nil {
		return err
	}
	after, err := fsmeta.Fstat(f)
	if err != nil {
		return err
	}
	e.set(item, before)
	switch {
	case !before.SameContent(after):
		return ErrChanged
	case n != before.Size:
		return ErrSize
	}
	return nil
}

// cut makes tasks of the content, and returns its length.
func (r *reader) cut(ctx context.Context, e *entry, content io.Reader) (int64, error) {
	var n int64
	e.begin()
	r.chunker.Reset(content)
	for chunks := 0; ctx.Err() == nil; chunks++ {
		if chunks > maxChunks {
			return n, ErrTooManyChunks
		}
		data, err := r.chunker.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		buf, err := r.room.copyOf(ctx, data)
		if err != nil {
			return n, err
		}
		r.tasks <- task{data: buf, chunk: e.expect(), entry: e}
		n += int64(len(data))
		r.Progress.Bytes.Add(int64(len(data)))
	}
	return n, ctx.Err()
}
