package restore

import (
	"context"
	"iter"
	"sync"

	"golang.org/x/sync/semaphore"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// Content is fetched ahead of the files that are being written, in the order of the items, so that a repository that is
// far away is asked for much at a time.
const (
	itemsAhead = 4096
	bytesAhead = 32 << 20
	leastPiece = 4 << 10 // that a chunk counts for: it takes more than its content
)

// ahead fetches the content of files.
type ahead struct {
	r    *run
	room *semaphore.Weighted // bytes of content that was fetched and is not written yet

	mu    sync.Mutex
	files map[*archive.Item]chan *piece // that have been met and are not being written yet
}

// A piece is a chunk that is being fetched, or was.
type piece struct {
	data []byte
	err  error
	done chan struct{}
}

func newAhead(r *run) *ahead {
	return &ahead{r: r, room: semaphore.NewWeighted(bytesAhead), files: map[*archive.Item]chan *piece{}}
}

// items returns the items of the archive, as the catalog does, and begins to fetch their content. Of an item with content,
// either content or drop must be called.
func (a *ahead) items(ctx context.Context) iter.Seq2[*archive.Item, error] {
	type next struct {
		it  *archive.Item
		err error
	}
	return func(yield func(*archive.Item, error) bool) {
		getting := ctx // which may last longer than the items do
		ctx, cancel := context.WithCancel(ctx)
		queue := make(chan next, itemsAhead)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() {
			defer close(queue)
			for it, err := range a.r.catalog.Items(ctx, a.r.archive) {
				var pieces chan *piece
				if err == nil && a.wants(it) {
					pieces = make(chan *piece, min(len(it.Chunks), bytesAhead/leastPiece))
					a.mu.Lock()
					a.files[it] = pieces
					a.mu.Unlock()
				}
				select {
				case queue <- next{it, err}:
				case <-ctx.Done():
				}
				if pieces != nil {
					a.fetch(ctx, getting, it, pieces)
				}
				if ctx.Err() != nil {
					return
				}
			}
		})
		for n := range queue {
			if !yield(n.it, n.err) {
				return
			}
		}
	}
}

// wants reports whether an item's content will be asked for.
func (a *ahead) wants(it *archive.Item) bool {
	return it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.HasChunks && it.Source == "" && a.r.wanted(it.Path)
}

func weight(c *archive.Chunk) int64 { return min(max(int64(c.Size), leastPiece), bytesAhead) }

// fetch fetches the chunks of a file as there is room for them.
func (a *ahead) fetch(ctx, getting context.Context, it *archive.Item, pieces chan *piece) {
	defer close(pieces)
	for i := range it.Chunks {
		c := &it.Chunks[i]
		if a.room.Acquire(ctx, weight(c)) != nil {
			return
		}
		p := &piece{done: make(chan struct{})}
		go func() {
			p.data, p.err = a.r.catalog.Get(getting, c.ID)
			close(p.done)
		}()
		select {
		case pieces <- p:
		case <-ctx.Done():
			return
		}
	}
}

// content returns the chunks of a file as catalog.Read does.
func (a *ahead) content(ctx context.Context, it *archive.Item) iter.Seq2[[]byte, error] {
	a.mu.Lock()
	pieces := a.files[it]
	delete(a.files, it)
	a.mu.Unlock()
	if pieces == nil {
		chunks := it.Chunks
		return a.r.catalog.Read(ctx, len(chunks), func(i int) repository.ID { return chunks[i].ID }, readAhead)
	}
	return func(yield func([]byte, error) bool) {
		for i := range it.Chunks {
			p, ok := <-pieces
			if !ok {
				yield(nil, context.Cause(ctx))
				return
			}
			<-p.done
			more := yield(p.data, p.err)
			p.data = nil
			a.room.Release(weight(&it.Chunks[i]))
			if !more {
				go a.discard(it.Chunks[i+1:], pieces)
				return
			}
		}
	}
}

// drop is called in place of content for an item that nothing is made of.
func (a *ahead) drop(it *archive.Item) {
	a.mu.Lock()
	pieces := a.files[it]
	delete(a.files, it)
	a.mu.Unlock()
	if pieces != nil {
		go a.discard(it.Chunks, pieces)
	}
}

func (a *ahead) discard(chunks []archive.Chunk, pieces chan *piece) {
	for i := range chunks {
		p, ok := <-pieces
		if !ok {
			return
		}
		<-p.done
		a.room.Release(weight(&chunks[i]))
	}
}
