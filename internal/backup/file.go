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

// cut makes tasks of the content, and returns its length and that of the last chunk.
func (r *reader) cut(ctx context.Context, e *entry, content io.Reader) (n, last int64, err error) {
	r.chunker.Reset(content)
	for chunks := 0; ctx.Err() == nil; chunks++ {
		if chunks > maxChunks {
			return n, last, ErrTooManyChunks
		}
		data, err := r.chunker.Next()
		if err == io.EOF {
			return n, last, nil
		}
		if err != nil {
			return n, last, err
		}
		buf, err := r.room.copyOf(ctx, data)
		if err != nil {
			return n, last, err
		}
		r.tasks <- task{data: buf, chunk: e.expect(), entry: e}
		last = int64(len(data))
		n += last
		r.Progress.Bytes.Add(last)
	}
	return n, last, ctx.Err()
}
