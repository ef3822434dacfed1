package backup

import (
	"context"
	"io"
	"sync"

	"garret/internal/archive"
	"garret/internal/catalog"
)

// A Writer makes an archive of items that somebody else comes up with, such as the entries of a tar, in their order. It
// stores their content as Run does, sealing in parallel. It is for one goroutine at a time.
type Writer struct {
	p        *pipeline
	ctx      context.Context
	reader   *reader
	assembly *assembly
	sealing  sync.WaitGroup
	done     chan struct{} // closed once all items are stored
	ended    bool
}

// NewWriter begins an archive. What Options say of files to read, and of checkpoints, is not heeded. Close must be called
// at the end.
func NewWriter(ctx context.Context, store Store, cat *catalog.Catalog, opts Options) (*Writer, error) {
	o := opts.withDefaults()
	if err := o.checkName(cat); err != nil {
		return nil, err
	}
	o.Known, o.Checkpoint = nil, 0
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pipeline{
		Options: o,
		store:   store,
		catalog: cat,
		chunks:  newChunkStore(store, cat.Key),
		fail:    cancel,
		order:   make(chan *entry, 4096),
		tasks:   make(chan task, o.Workers),
		room:    newRoom(bytesInFlight),
		seed:    cat.Key.ChunkSeed(),
	}
	w := &Writer{p: p, ctx: ctx, reader: newReader(p), assembly: newAssembly(p), done: make(chan struct{})}
	for range o.Workers {
		w.sealing.Go(func() { p.seal(ctx) })
	}
	go func() {
		defer close(w.done)
		w.assembly.run(ctx)
	}()
	return w, nil
}

// Add stores an item, which the Writer owns from then on, with its content if it has any; that is read to its end. Only
// a regular file can have content, and one without it is another name of the file in Source. After an error, which may be
// one of reading the content or of storing what came before, the archive cannot be finished.
func (w *Writer) Add(it *archive.Item, content io.Reader) error {
	e := &entry{path: it.Path, item: it}
	if content != nil {
		e.read = make(chan struct{})
		e.left.Store(1)
		_, _, err := w.reader.cut(w.ctx, e, content)
		e.finish()
		if err != nil {
			w.p.fail(err)
		}
	}
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.p.order <- e
	return nil
}

// Finish commits the archive, and adds it to the catalog's manifest. After an error nothing has been committed, unless it
// is the error of the commit itself; the transaction must then be rolled back, and the catalog read anew.
func (w *Writer) Finish() (*Stats, error) {
	w.end()
	if w.ctx.Err() != nil {
		return nil, context.Cause(w.ctx)
	}
	return w.p.finish(w.ctx, w.assembly)
}

// Close ends the Writer. What has not been finished is left to be rolled back.
func (w *Writer) Close() {
	w.p.fail(context.Canceled)
	w.end()
}

// end waits until nothing is done any more.
func (w *Writer) end() {
	if w.ended {
		return
	}
	w.ended = true
	close(w.p.order)
	<-w.done
	close(w.p.tasks)
	w.sealing.Wait()
}
