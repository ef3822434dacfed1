package tarball

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
)

// A job is to write an item, or to tell of a gap in the items if it has none.
type job struct {
	item *archive.Item
	name string // its path in the tar
	err  error

	link     string // the path in the archive of the file that it is another name of
	linkName string // and in the tar

	chunks chan *fetch // of the content, in order
	got    []*fetch    // those taken from chunks and not released
	taken  int         // how many have been taken
}

// size returns how long the content is, or something larger than any file where the sum makes no sense.
func (j *job) size() int64 { return j.offset(len(j.item.Chunks)) }

// offset returns where a chunk begins.
func (j *job) offset(i int) (n int64) {
	for _, c := range j.item.Chunks[:i] {
		if n += int64(c.Size); n > maxExported {
			return maxExported + 1
		}
	}
	return n
}

// A fetch is a chunk that is on its way. data and err belong to whoever has waited for done.
type fetch struct {
	done   chan struct{}
	data   []byte
	err    error
	weight int64
}

// bytesAhead bounds the content that has been fetched and not yet written. One file of maxBuffered bytes has room in it.
const bytesAhead = 4 * maxBuffered

// fetchers is how many chunks are fetched and opened at a time. They are opened in parallel.
const fetchers = 8

// A queue goes through the items of an archive ahead of who writes them, and fetches what they need.
type queue struct {
	jobs    chan *job
	catalog *catalog.Catalog
	room    *semaphore.Weighted
	slots   chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// startQueue begins. plan makes a job of an item, or none. stop must be called at the end.
func startQueue(ctx context.Context, cat *catalog.Catalog, a *archive.Archive, plan func(*archive.Item) *job) *queue {
	ctx, cancel := context.WithCancel(ctx)
	q := &queue{
		jobs:    make(chan *job, 1024),
		catalog: cat,
		room:    semaphore.NewWeighted(bytesAhead),
		slots:   make(chan struct{}, fetchers),
		cancel:  cancel,
	}
	q.running.Go(func() {
		defer close(q.jobs)
		for it, err := range cat.Items(ctx, a) {
			j := &job{err: err}
			if err == nil {
				j = plan(it)
			}
			if j != nil && !q.add(ctx, j) {
				return
			}
		}
	})
	return q
}

// add hands a job on, and then fetches its content. It returns false once the context is done.
func (q *queue) add(ctx context.Context, j *job) bool {
	hasContent := j.item != nil && j.item.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && j.link == "" && j.err == nil
	if hasContent {
		j.chunks = make(chan *fetch, min(len(j.item.Chunks), 2*fetchers))
	}
	select {
	case q.jobs <- j:
	case <-ctx.Done():
		return false
	}
	if !hasContent {
		return true
	}
	defer close(j.chunks)
	for i := range j.item.Chunks {
		c := &j.item.Chunks[i]
		f := &fetch{done: make(chan struct{}), weight: min(int64(c.Size), maxBuffered)}
		if q.room.Acquire(ctx, f.weight) != nil {
			return false
		}
		select {
		case q.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		q.running.Go(func() {
			f.data, f.err = q.fetch(ctx, c)
			<-q.slots
			close(f.done)
		})
		select {
		case j.chunks <- f:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (q *queue) fetch(ctx context.Context, c *archive.Chunk) ([]byte, error) {
	data, err := q.catalog.Get(ctx, c.ID)
	if err == nil {
		err = catalog.CheckSize(data, *c)
	}
	return data, err
}

// chunk waits for a chunk of a job, which must not have been released. Its error may be that the context is done.
func (q *queue) chunk(j *job, i int) ([]byte, error) {
	for j.taken <= i {
		f, ok := <-j.chunks
		if !ok {
			return nil, context.Canceled
		}
		j.got = append(j.got, f)
		j.taken++
	}
	f := j.got[i-(j.taken-len(j.got))]
	<-f.done
	return f.data, f.err
}

// release forgets the first chunk that has not been released, which has been waited for.
func (q *queue) release(j *job) {
	q.room.Release(j.got[0].weight)
	j.got[0] = nil
	j.got = j.got[1:]
}

// skip gives up the content of a job, of which nothing has been released.
func (q *queue) skip(j *job) error {
	if j.chunks == nil {
		return nil
	}
	for i := range j.item.Chunks {
		if _, err := q.chunk(j, i); err == context.Canceled {
			return err
		}
		q.release(j)
	}
	return nil
}

// stop ends the fetching and waits until nothing of it is left.
func (q *queue) stop() {
	q.cancel()
	for range q.jobs {
	}
	q.running.Wait()
}
