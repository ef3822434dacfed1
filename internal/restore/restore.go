// Package restore brings the files of an archive back.
//
// The items come in order, and the content of files is fetched ahead of them. Directories, links and nodes are made as they
// come; regular files go through a bounded queue to as many goroutines as there are processors, each of which writes the
// chunks of its file in order. Hard links wait until all files are there; then come the flags that forbid to change files, and last
// what directories have beside their entries.
//
// The target itself gets the metadata that the archive has for it only if it was empty before: an archive of "." must
// not close a folder in which there is more.
//
// Everything is done from one open directory to the next (see fsmeta), so that no path, no link and no ".." of an
// archive leads out of the target. What is in the way of a file is replaced, once the file is there as a whole; a
// directory only if it is empty.
//
// A file of which some chunks are missing or damaged keeps the rest: zeros stand for what is lost, and the file is
// named NAME.damaged, so that nobody takes it for whole. It takes nothing's place.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/internal/progress"
)

// DamagedSuffix is what the name of a file gets of which something is lost.
const DamagedSuffix = ".damaged"

// Options say what to restore, and where.
type Options struct {
	Target string                 // an existing directory
	Match  func(path string) bool // which items; nil: all. Called by one goroutine at a time, more than once for a path
	// Strip is how many names are cut off at the beginning of each path. What has no more than these is left out.
	Strip int
	// NumericOwner gives files to the numbers in the archive, whoever has them here; else names come first.
	NumericOwner bool
	// Sparse makes holes of the blocks of a file that are all zeros, which take no room.
	Sparse bool
	// DryRun reads and verifies everything, and writes nothing. There need not be a target.
	DryRun bool
	// Content, if not nil, gets the content of the files, one after another, in the order of the archive; nothing else is
	// written. Zeros stand for what is lost. A file with several names comes once.
	Content io.Writer

	// Begin, if not nil, is told of each item that is going to be restored, in order.
	Begin func(it *archive.Item)
	// Warn is told of each item that could not be restored as it was, and with an empty path of items that are lost. It is
	// called by one goroutine at a time, and so is Begin.
	Warn func(path string, err error)
	// Progress, if not nil, counts along.
	Progress *progress.Files
	Workers  int // writing files at a time; 0: some
}

// Stats say what has been restored.
type Stats struct {
	Files    int64 // regular files, hard links included
	Dirs     int64
	Others   int64
	Bytes    int64
	Warnings int64
}

// Run restores an archive. The error says what ended it early, as a full disk does; what had been restored by then is
// complete. What concerns one file alone goes to Options.Warn.
func Run(ctx context.Context, cat *catalog.Catalog, a *archive.Archive, o Options) (*Stats, error) {
	if o.Workers <= 0 {
		o.Workers = max(2, runtime.GOMAXPROCS(0))
	}
	if o.Progress == nil {
		o.Progress = new(progress.Files)
	}
	if o.Begin == nil {
		o.Begin = func(*archive.Item) {}
	}
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{
		Options:  o,
		catalog:  cat,
		archive:  a,
		fail:     cancel,
		restorer: fsmeta.Restorer{Owners: &fsmeta.Owners{Numeric: o.NumericOwner}},
		jobs:     make(chan job, 64),
		writing:  newPaths(),
		broken:   map[string]bool{},
		locks:    map[string]lock{},
	}
	r.ahead = newAhead(r)
	if !r.nothing() {
		target, err := fsmeta.OpenDir(o.Target)
		if err != nil {
			return nil, err
		}
		defer target.Release()
		names, err := target.Names()
		if err != nil {
			return nil, err
		}
		r.fresh = len(names) == 0
		r.path.top, r.source.top = target, target
		defer r.path.leave(0)
		defer r.source.leave(0)
	}
	err := r.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &r.stats, err
}

// run is one restoration.
type run struct {
	Options
	catalog  *catalog.Catalog
	archive  *archive.Archive
	fail     context.CancelCauseFunc
	restorer fsmeta.Restorer
	path     way // to the item at hand
	source   way // to what a hard link is another name of
	ahead    *ahead
	jobs     chan job
	writing  *paths
	fresh    bool // the target was empty

	gaps  int     // in the items
	dirs  waiting // whose metadata is due
	links waiting

	matching sync.Mutex // held while Match is called

	mu     sync.Mutex
	stats  Stats
	broken map[string]bool // paths of files that are not there as a whole
	locks  map[string]lock // by path
}

// waiting are items with which something is done in the end, in order. Of several with one path, as somebody may have made
// them up without end, the last one counts.
type waiting struct {
	items []*archive.Item
	at    map[string]int // where in items a path is
}

func (w *waiting) add(it *archive.Item) {
	if i, ok := w.at[it.Path]; ok {
		w.items[i] = it
		return
	}
	if w.at == nil {
		w.at = map[string]int{}
	}
	w.at[it.Path] = len(w.items)
	w.items = append(w.items, it)
}

// nothing reports whether no file is made.
func (r *run) nothing() bool { return r.DryRun || r.Content != nil }

// place returns where in the target an item goes, nothing if it goes nowhere.
func (r *run) place(path string) string {
	for n := r.Strip; n > 0 && path != ""; n-- {
		_, path, _ = strings.Cut(path, "/")
	}
	return path
}

// wanted reports whether an item is restored.
func (r *run) wanted(path string) bool {
	r.matching.Lock()
	defer r.matching.Unlock()
	return (r.Match == nil || r.Match(path)) && (r.Strip == 0 || r.place(path) != "")
}

// A job is to write a regular file.
type job struct {
	dir  *fsmeta.Dir
	name string
	item *archive.Item
}

func (r *run) run(ctx context.Context) error {
	var writing sync.WaitGroup
	for range r.Workers {
		writing.Go(func() {
			for j := range r.jobs {
				if ctx.Err() == nil {
					r.report(j.item, r.do(ctx, j))
				}
				if j.dir != nil {
					j.dir.Release()
					r.writing.end(r.place(j.item.Path))
				}
			}
		})
	}
	err := r.items(ctx)
	close(r.jobs)
	writing.Wait()
	if r.nothing() {
		err = cmp.Or(err, r.checkLinks(ctx))
	} else {
		r.makeLinks(ctx)
	}
	for _, l := range r.locks {
		if r.broken[l.item.Path] { // it has not come to its place
			continue
		}
		if err := r.lock(l); err != nil {
			r.warn(l.item, err)
		}
	}
	// Times that are right are worth it even after an error: a second attempt has less to do.
	for _, it := range slices.Backward(r.dirs.items) {
		r.report(it, r.finishDir(it))
	}
	return err
}

// report counts an item, and tells what went wrong with it. A disk that is full is full for all of them.
func (r *run) report(it *archive.Item, err error) {
	if errors.Is(err, context.Canceled) {
		return // the person knows
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		r.fail(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.stats.Warnings++
		r.Warn(it.Path, err)
		return
	}
	switch it.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		r.stats.Dirs++
	case fsmeta.TypeRegular:
		r.stats.Files++
		r.Progress.Files.Add(1)
		r.Progress.At(&it.Path)
	default:
		r.stats.Others++
	}
}

// items goes through the items, and does all but what has to wait.
func (r *run) items(ctx context.Context) error {
	sources, err := r.missingSources(ctx)
	if err != nil {
		return err
	}
	for it, err := range r.ahead.items(ctx) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if catalog.Lost(err) {
			r.gap(err)
			continue
		}
		if err != nil {
			return err
		}
		if !r.wanted(it.Path) {
			for _, name := range sources.found(it) {
				r.start(ctx, name)
			}
			continue
		}
		if isLink(it) {
			if s := sources[it.Source]; s != nil && !s.give(it) {
				continue
			}
		}
		r.start(ctx, it)
	}
	for _, it := range sources.waiting() {
		r.report(it, fmt.Errorf("is another name of %q, which is not in the archive", it.Source))
	}
	return nil
}

// start does with an item what is to be done now.
func (r *run) start(ctx context.Context, it *archive.Item) {
	r.mu.Lock()
	r.Begin(it)
	r.mu.Unlock()
	do := r.item
	if r.nothing() {
		do = r.read
	}
	if err := do(ctx, it); err != nil {
		r.ahead.drop(it)
		r.report(it, err)
	}
}

// gap tells that some items are lost.
func (r *run) gap(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps++
	r.stats.Warnings++
	r.Warn("", fmt.Errorf("some files are lost: %w", err))
}

var errNoContent = errors.New("has neither content nor the name of another file in the archive")

// read reads the content of an item, if it has any, and makes nothing.
func (r *run) read(ctx context.Context, it *archive.Item) error {
	if _, err := split(r.place(it.Path)); err != nil {
		return err
	}
	if it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular {
		switch {
		case it.Source != "":
			r.links.add(it)
			return nil
		case !it.HasChunks:
			return errNoContent
		case r.Content == nil:
			r.jobs <- job{item: it}
			return nil
		}
		damage, err := r.content(ctx, stream{r.Content}, it)
		if err != nil {
			r.fail(err)
		}
		if err := errors.Join(err, isDamaged(damage)); err != nil {
			return err
		}
	}
	r.report(it, nil)
	return nil
}

// item makes what an item is of, or sees to it that it is made later.
func (r *run) item(_ context.Context, it *archive.Item) error {
	path := r.place(it.Path)
	r.writing.await(path)
	parent, name, err := r.path.to(path, true)
	if err != nil {
		return err
	}
	typ := it.Mode & fsmeta.TypeMask
	if name == "." && typ != fsmeta.TypeDir {
		return errors.New("is not a directory, and cannot take the place of the target")
	}
	switch typ {
	case fsmeta.TypeDir:
		if name == "." && !r.fresh {
			r.report(it, nil)
			return nil
		}
		if err := makeDir(parent, name); err != nil {
			return err
		}
		r.dirs.add(it)
		return nil
	case fsmeta.TypeRegular:
		if it.Source != "" {
			r.links.add(it)
			return nil
		}
		if !it.HasChunks {
			return errNoContent
		}
		r.writing.begin(path)
		r.jobs <- job{parent.Retain(), name, it}
		return nil
	case fsmeta.TypeSymlink:
		err = replacing(parent, name, func(name string) error { return parent.Symlink(it.Source, name) })
	case fsmeta.TypeFIFO, fsmeta.TypeChar, fsmeta.TypeBlock:
		var rdev uint64
		if it.Rdev != nil {
			rdev = *it.Rdev
		} else if typ != fsmeta.TypeFIFO {
			return errors.New("is a device without a number in the archive")
		}
		err = replacing(parent, name, func(name string) error { return parent.Mknod(name, typ|0o600, rdev) })
	default:
		return fmt.Errorf("is of an unknown type (mode %o)", it.Mode)
	}
	if err == nil {
		err = r.restorer.Restore(parent, name, nil, it)
	}
	if err == nil {
		r.report(it, nil)
	}
	return err
}

func (r *run) finishDir(it *archive.Item) error {
	parent, name, err := r.path.to(r.place(it.Path), true)
	if err != nil {
		return err
	}
	err = r.restorer.Restore(parent, name, nil, it)
	if !fsmeta.Locks(it) {
		return err
	}
	info, statErr := parent.Lstat(name)
	if statErr == nil {
		statErr = r.restorer.Lock(parent, name, info.FileID, it)
	}
	return errors.Join(err, statErr)
}

// warn tells of something about an item that has been counted already, or will not be.
func (r *run) warn(it *archive.Item, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Warnings++
	r.Warn(it.Path, err)
}
