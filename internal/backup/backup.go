// Package backup makes archives of files.
//
// A backup is a pipeline, and every arrow in it a queue of bounded length:
//
//	walk ─────────────────────────── entries in order ───────────────────────────▶ assemble ──▶ items, archive,
//	  └──▶ regular files ──▶ read and cut ──▶ chunks ──▶ id, compress, seal, store ──▶ ┘          manifest, commit
//
// One goroutine walks, a few read, and as many as there are processors seal. What they find out about an entry comes
// together in the order in which the entries were met, so that the same tree always gives the same stream of items.
// Memory is bounded by the queues, apart from the table of chunks that this backup has met, and one of the paths in a list.
//
// Nothing that could not be read as a whole is stored as if it were: an entry that cannot be read, or that vanishes
// meanwhile, is reported and left out, and the rest goes on. A file that keeps changing is stored with a mark, see
// archive.Flaw. An error of the store ends the backup, and nothing of it is committed.
package backup

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/internal/progress"
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
	// ErrChanged is reported of a file that changed each time it was read, and not only by growing. It is stored with a mark.
	ErrChanged = errors.New("changed while it was read: what is stored may be a mixture of what it had in it")
	// ErrShort is matched by the error about a file of which what could be read is unlikely to be all, although nobody has
	// changed it. It is stored with a mark.
	ErrShort = errors.New("may not be stored whole")
	// ErrReplaced is reported of a file in whose place there was something that is no file, each time it was to be read.
	ErrReplaced = errors.New("was replaced by something that is no file, and is not stored")
	// ErrUnknownType is reported of what is neither a file, a directory, a link, a device, a FIFO nor a socket.
	ErrUnknownType = errors.New("is of an unknown type, and is not stored")
)

// A Store is what a backup needs of a repository. It must be safe for concurrent use.
type Store interface {
	Has(ctx context.Context, id repository.ID) (bool, error)
	// Size returns the length of an object's envelope in bytes. The error matches repository.ErrNotFound if there is no such
	// object, and repository.ErrIntegrity if it is damaged.
	Size(ctx context.Context, id repository.ID) (int, error)
	// Put stores or replaces an object, and does not keep env.
	Put(ctx context.Context, id repository.ID, env []byte) error
	Delete(ctx context.Context, id repository.ID) error
	Commit(ctx context.Context) error
}

// Known is what is known of files from former backups.
type Known interface {
	// Lookup returns whether the file at an absolute path is known, and whether it is unchanged. If so, its chunks and
	// attributes are put into the item.
	Lookup(path string, info *fsmeta.Info, it *archive.Item) (known, unchanged bool)
	// Remember notes what was true of a file before and after it was read.
	Remember(path string, info *fsmeta.Info, it *archive.Item)
}

// Uses is told each use of a chunk by the archive, in content and in the stream of items, by one goroutine.
type Uses interface{ Add(chunk archive.Chunk) }

// Options say what to back up.
type Options struct {
	Name     string    // of the archive; must be new
	Time     time.Time // of the archive; zero: now
	Cmdline  []string
	Hostname string
	Username string
	Comment  string
	Tags     []string // which a checkpoint does not get

	Dir   string   // where Paths begin; empty: the current directory
	Paths []string // of files and directories; each is stored under itself, made relative, and once

	// A symbolic link among Paths is stored as a link, unless its path says that the directory behind it is meant: by a
	// slash or "." at the end.

	Selection

	// NumericOwner stores the numbers of owners alone, without their names.
	NumericOwner bool

	// Skip are directories to leave out with all that is in them, as the repository itself. Skipped is told of each.
	Skip    []fsmeta.FileID
	Skipped func(path string)
	// Socket, if not nil, is told of each socket: nothing of it is stored, as it would not outlive the program behind it.
	Socket func(path string)
	// List, if not nil, is told what becomes of each entry, in order, and by the goroutine that calls Warn.
	List func(Listed)
	// Warn is told of each entry that is not stored, not with all its attributes, or with a flaw, in order. It is called by
	// one goroutine at a time.
	Warn func(path string, err error)
	// Progress, if not nil, counts along.
	Progress *progress.Files
	// Reading, if not nil, is told before each piece of a file is read how much of it has been. It is for tests, and is
	// called by several goroutines.
	Reading func(path string, n int64)

	// Known, if not nil, spares the reading of files that are unchanged.
	Known Known
	// Uses, if not nil, is told what the archive uses.
	Uses Uses
	// Checkpoint is how often what is stored so far is committed as an archive of its own; 0: never. Checkpointed is then
	// told its name each time, and when the backup is interrupted.
	Checkpoint   time.Duration
	Checkpointed func(name string)

	Readers int // of files at a time; 0: some
	Workers int // sealing chunks at a time; 0: one for each processor
}

// Stats say what a backup has stored.
type Stats struct {
	Files    int64 // regular files, hard links included
	Contents int64 // of these, the ones that are no further name of another
	Dirs     int64
	Others   int64 // symbolic links, devices, FIFOs
	Bytes    int64 // of content, each file whole
	Chunks   int64 // of content, each use counted
	Warnings int64 // entries that are not stored, not with all their attributes, or with a flaw

	NewChunks int64 // chunks that were not in the repository before, the archive's own records included
	NewBytes  int64 // their size as stored

	Record archive.Chunk // the object of the archive's record, whose id is the archive's
}

// bytesInFlight bounds the chunks that have been read and not yet stored.
const bytesInFlight = 128 << 20

// Run makes an archive and commits it, and adds it to the catalog's manifest.
//
// When the context is cancelled, what is stored so far is committed as a checkpoint archive, and the error is an
// *InterruptedError. After any other error nothing has been committed since the last checkpoint, unless it is the error
// of the commit itself; the transaction must then be rolled back, and the catalog read anew.
func Run(ctx context.Context, store Store, cat *catalog.Catalog, opts Options) (*Stats, error) {
	o := opts.withDefaults()
	if err := o.checkName(cat); err != nil {
		return nil, err
	}
	roots, below, err := o.roots()
	if err != nil {
		return nil, err
	}
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &pipeline{
		Options: o,
		store:   store,
		catalog: cat,
		roots:   roots,
		below:   below,
		chunks:  newChunkStore(store, cat.Key),
		fail:    cancel,
		met:     make(chan *entry, 48), // each of these and of files has a folder that stays open
		order:   make(chan *entry, 4096),
		files:   make(chan *entry, 80),
		tasks:   make(chan task, o.Workers),
		room:    newRoom(bytesInFlight),
		seed:    cat.Key.ChunkSeed(),
	}
	a := newAssembly(p)
	err = p.run(working, a)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return nil, a.interrupted(context.WithoutCancel(ctx))
	case err != nil:
		return nil, err
	}
	return p.finish(ctx, a)
}

// checkName returns an error about a name that the archive cannot have.
func (o *Options) checkName(cat *catalog.Catalog) error {
	if _, ok := cat.Manifest.Archives[o.Name]; ok {
		return fmt.Errorf("archive %q: %w", o.Name, ErrArchiveExists)
	}
	return archive.CheckName(o.Name)
}

// finish makes the archive, and says what was stored.
func (p *pipeline) finish(ctx context.Context, a *assembly) (*Stats, error) {
	if err := a.finish(ctx); err != nil {
		return nil, err
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
		o.Progress = new(progress.Files)
	}
	if o.Skipped == nil {
		o.Skipped = func(string) {}
	}
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	if o.Checkpointed == nil {
		o.Checkpointed = func(string) {}
	}
	return o
}

// A pipeline is one run. Its queues are closed by who fills them and always drained by who empties them, so that
// nobody is ever stuck; once the context is done, nobody does any more work on what is in them.
type pipeline struct {
	Options
	store   Store
	catalog *catalog.Catalog
	roots   []*root
	below   []*root // those that are met in the walks of roots, if nothing is in the way
	chunks  *chunkStore
	fail    context.CancelCauseFunc // ends the run with an error
	met     chan *entry             // all entries, as the walk meets them
	order   chan *entry             // the same, once it is known which of them must be read
	files   chan *entry             // those whose content must be read
	tasks   chan task               // pieces of content
	still   sync.RWMutex            // held shared by who does a task, and by who wants none done
	room    *room
	seed    uint32
	stats   Stats // belongs to the assembly
}

func (p *pipeline) run(ctx context.Context, a *assembly) error {
	var walking, reading, sealing sync.WaitGroup
	owners := &fsmeta.Owners{Numeric: p.NumericOwner}
	walking.Go(func() {
		w := walker{pipeline: p, owners: owners, links: map[fsmeta.FileID]string{}}
		w.run(ctx)
		close(p.met)
	})
	walking.Go(func() {
		r := recall{pipeline: p, owners: owners}
		r.run(ctx)
		close(p.files)
		close(p.order)
	})
	for range p.Readers {
		reading.Go(func() { newReader(p).run(ctx) })
	}
	for range p.Workers {
		sealing.Go(func() { p.seal(ctx) })
	}
	a.run(ctx)
	walking.Wait()
	reading.Wait()
	close(p.tasks)
	sealing.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
