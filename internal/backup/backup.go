// Package backup makes archives of files.
//
// A backup is a pipeline, and every arrow in it a queue of bounded length:
//
//	walk ─────────────────────────── entries in order ───────────────────────────▶ assemble ──▶ items, archive,
//	  └──▶ regular files ──▶ read and cut ──▶ chunks ──▶ id, compress, seal, store ──▶ ┘          manifest, commit
//
// One goroutine walks, a few read, and as many as there are processors seal. What they find out about an entry comes
// together in the order in which the entries were met, so that the same tree always gives the same stream of items.
// Memory is bounded by the queues, apart from the table of chunks that this backup has met.
//
// Nothing that could not be read as a whole is stored as if it were: an entry that cannot be read, or that vanishes or
// keeps changing meanwhile, is reported and left out, and the rest goes on. An error of the store ends the backup, and
// nothing of it is committed.
package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

var (
	// ErrArchiveExists is matched by the error about an archive whose name is taken.
	ErrArchiveExists = errors.New("archive exists already")
	// ErrSameName is matched by the error about two paths that would be stored under the same name.
	ErrSameName = errors.New("would be stored under the same name")
	// ErrBelowLink is matched by the error about a path that leads through a symbolic link which is stored as a link.
	ErrBelowLink = errors.New("lies behind a symbolic link that would be stored as a link")
	// ErrTooManyChunks is reported of a file whose list of chunks nothing could read again.
	ErrTooManyChunks = errors.New("has too many chunks for an archive, and is not stored")
	// ErrChanged is reported of a file that changed each time it was read.
	ErrChanged = errors.New("changed while it was read, and is not stored")
	// ErrUnknownType is reported of what is neither a file, a directory, a link, a device, a FIFO nor a socket.
	ErrUnknownType = errors.New("is of an unknown type, and is not stored")
)

// A Store is what a backup needs of a repository. It must be safe for concurrent use.
type Store interface {
	Has(ctx context.Context, id repository.ID) (bool, error)
	// Get returns an object's envelope; an error that matches repository.ErrIntegrity says that it is damaged.
	Get(ctx context.Context, id repository.ID) ([]byte, error)
	// Put stores or replaces an object, and does not keep env.
	Put(ctx context.Context, id repository.ID, env []byte) error
	Commit(ctx context.Context) error
}

// Options say what to back up.
type Options struct {
	Name     string    // of the archive; must be new
	Time     time.Time // of the archive; zero: now
	Cmdline  []string
	Hostname string
	Username string

	Dir   string   // where Paths begin; empty: the current directory
	Paths []string // of files and directories; each is stored under itself, made relative, and once

	// A symbolic link among Paths is stored as a link, unless its path says that the directory behind it is meant: by a
	// slash or "." at the end.

	// Skip are directories to leave out with all that is in them, as the repository itself. Skipped is told of each.
	Skip    []fsmeta.FileID
	Skipped func(path string)
	// Warn is told of each entry that is not stored, in order. It is called by one goroutine at a time.
	Warn func(path string, err error)
	// Progress, if not nil, counts along.
	Progress *Progress

	Readers int // of files at a time; 0: some
	Workers int // sealing chunks at a time; 0: one for each processor
}

// Progress counts what a backup has done so far. It may be read at any time.
type Progress struct {
	Files atomic.Int64 // regular files that have been stored
	Bytes atomic.Int64 // of content that has been read
	path  atomic.Pointer[string]
}

// Count returns the numbers, and the path of the latest file.
func (p *Progress) Count() (files, bytes int64, path string) {
	if latest := p.path.Load(); latest != nil {
		path = *latest
	}
	return p.Files.Load(), p.Bytes.Load(), path
}

// Stats say what a backup has stored.
type Stats struct {
	Files    int64 // regular files, hard links included
	Dirs     int64
	Others   int64 // symbolic links, devices, FIFOs
	Bytes    int64 // of content, each file whole
	Chunks   int64 // of content, each use counted
	Warnings int64 // entries that are not stored

	NewChunks int64 // chunks that were not in the repository before, the archive's own records included
	NewBytes  int64 // their size as stored
}

// bytesInFlight bounds the chunks that have been read and not yet stored.
const bytesInFlight = 128 << 20

// Run makes an archive and commits it, and adds it to the catalog's manifest.
//
// After an error nothing has been committed, unless it is the error of the commit itself; the transaction must then be
// rolled back, and the catalog read anew. A cancelled context is an error.
func Run(ctx context.Context, store Store, cat *catalog.Catalog, opts Options) (*Stats, error) {
	o := opts.withDefaults()
	if _, ok := cat.Manifest.Archives[o.Name]; ok {
		return nil, fmt.Errorf("archive %q: %w", o.Name, ErrArchiveExists)
	}
	roots, err := findRoots(o.Dir, o.Paths)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &pipeline{
		Options: o,
		roots:   roots,
		chunks:  newChunkStore(store, cat.Key),
		fail:    cancel,
		order:   make(chan *entry, 4096),
		files:   make(chan *entry, 128),
		tasks:   make(chan task, o.Workers),
		room:    newRoom(bytesInFlight),
		seed:    cat.Key.ChunkSeed(),
	}
	ids, err := p.run(ctx)
	if err != nil {
		return nil, err
	}
	a := &archive.Archive{
		Name:     o.Name,
		Items:    ids,
		Cmdline:  o.Cmdline,
		Hostname: o.Hostname,
		Username: o.Username,
		Time:     o.Time,
	}
	record, err := p.chunks.add(ctx, a.Encode())
	if err != nil {
		return nil, fmt.Errorf("store the record of archive %q: %w", o.Name, err)
	}
	archives := maps.Clone(cat.Manifest.Archives)
	archives[o.Name] = archive.ArchiveRef{ID: record.ID, Time: o.Time}
	if err := cat.Save(ctx, store, archives); err != nil {
		return nil, err
	}
	if err := store.Commit(ctx); err != nil {
		return nil, fmt.Errorf("commit archive %q: %w", o.Name, err)
	}
	p.stats.NewChunks, p.stats.NewBytes = p.chunks.newChunks.Load(), p.chunks.newBytes.Load()
	return &p.stats, nil
}

func (o Options) withDefaults() Options {
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	o.Time = o.Time.UTC().Truncate(time.Microsecond)
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Readers <= 0 {
		o.Readers = min(max(2, o.Workers), 4)
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if o.Skipped == nil {
		o.Skipped = func(string) {}
	}
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	return o
}

// A pipeline is one run. Its queues are closed by who fills them and always drained by who empties them, so that
// nobody is ever stuck; once the context is done, nobody does any more work on what is in them.
type pipeline struct {
	Options
	roots  []*root
	chunks *chunkStore
	fail   context.CancelCauseFunc // ends the run with an error
	order  chan *entry             // all entries, as they were met
	files  chan *entry             // those whose content must be read
	tasks  chan task               // pieces of content
	room   *room
	seed   uint32
	stats  Stats // belongs to assemble
}

// An entry is something met in the walk. What is in it belongs to the walk until it is sent to order; then, if read is
// not nil, to whoever reads it until read is closed; then to assemble.
type entry struct {
	path    string // for messages
	err     error  // why it cannot be stored
	skipped bool   // it is one of Options.Skip
	item    *archive.Item
	shared  *fsmeta.FileID // set if the file has several names

	read   chan struct{} // closed when the content has been cut; nil: there is none
	dir    *fsmeta.Dir
	name   string
	blocks [][]archive.Chunk // of the content; filled in by the tasks
	tasks  sync.WaitGroup
}

// maxChunks is how many chunks an item can have and still be read again, with room for all else that is in it.
const maxChunks = (archive.MaxItemSize - 1<<20) / 45

func (e *entry) chunks() (n int) {
	for _, b := range e.blocks {
		n += len(b)
	}
	return n
}

func (p *pipeline) run(ctx context.Context) ([]repository.ID, error) {
	var walking, reading, sealing sync.WaitGroup
	w := walker{pipeline: p, links: map[fsmeta.FileID]string{}}
	walking.Go(func() {
		w.run(ctx)
		close(p.files)
		close(p.order)
	})
	for range p.Readers {
		reading.Go(func() { newReader(p).run(ctx) })
	}
	for range p.Workers {
		sealing.Go(func() { p.seal(ctx) })
	}
	ids, err := p.assemble(ctx)
	walking.Wait()
	reading.Wait()
	close(p.tasks)
	sealing.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return ids, err
}

// assemble makes the stream of items.
func (p *pipeline) assemble(ctx context.Context) ([]repository.ID, error) {
	items := archive.NewItemWriter(p.seed, func(data []byte) (repository.ID, error) {
		c, err := p.chunks.add(ctx, data)
		return c.ID, err
	})
	lost := map[fsmeta.FileID]bool{} // files with several names of which the first is not stored
	for e := range p.order {
		if e.read != nil {
			<-e.read
			e.tasks.Wait()
			if e.err == nil && e.chunks() > maxChunks {
				e.err = ErrTooManyChunks
			}
		}
		if ctx.Err() != nil {
			continue
		}
		if e.skipped {
			p.Skipped(e.path)
			continue
		}
		if e.err == nil && e.shared != nil && lost[*e.shared] {
			e.err = fmt.Errorf("is another name of %q, which is not stored", e.item.Source)
		}
		if e.err != nil {
			if e.shared != nil {
				lost[*e.shared] = true
			}
			p.stats.Warnings++
			p.Warn(e.path, e.err)
			continue
		}
		p.count(e)
		if err := items.Add(e.item); err != nil {
			p.fail(fmt.Errorf("store the items: %w", err))
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ids, err := items.Flush()
	if err != nil {
		return nil, fmt.Errorf("store the items: %w", err)
	}
	return ids, nil
}

// count completes the item of an entry and takes it into the statistics.
func (p *pipeline) count(e *entry) {
	switch e.item.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		p.stats.Dirs++
	case fsmeta.TypeRegular:
		p.stats.Files++
		p.Progress.Files.Add(1)
	default:
		p.stats.Others++
	}
	if e.read == nil {
		return
	}
	e.item.HasChunks = true
	for _, b := range e.blocks {
		e.item.Chunks = append(e.item.Chunks, b...)
		p.stats.Chunks += int64(len(b))
		for _, c := range b {
			p.stats.Bytes += int64(c.Size)
		}
	}
	p.Progress.path.Store(&e.item.Path)
}
