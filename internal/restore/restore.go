// Package restore brings the files of an archive back.
//
// The items come in order. Directories, links and nodes are made as they come; regular files go through a bounded
// queue to as many goroutines as there are processors, each of which fetches the chunks of its file ahead and writes
// them in order. Hard links wait until all files are there, and what directories have beside their entries comes last.
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
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

// DamagedSuffix is what the name of a file gets of which something is lost.
const DamagedSuffix = ".damaged"

// Options say what to restore, and where.
type Options struct {
	Target string                 // an existing directory
	Match  func(path string) bool // which items; nil: all
	// Warn is told of each item that could not be restored as it was, and with an empty path of items that are lost. It is
	// called by one goroutine at a time.
	Warn func(path string, err error)
	// Progress, if not nil, counts along.
	Progress *Progress
	Workers  int // writing files at a time; 0: some
}

// Progress counts what has been restored so far. It may be read at any time.
type Progress struct {
	Files atomic.Int64
	Bytes atomic.Int64
	path  atomic.Pointer[string]
}

// Count returns the numbers, and the path of the latest file.
func (p *Progress) Count() (files, bytes int64, path string) {
	if latest := p.path.Load(); latest != nil {
		path = *latest
	}
	return p.Files.Load(), p.Bytes.Load(), path
}

// Stats say what has been restored.
type Stats struct {
	Files    int64 // regular files, hard links included
	Dirs     int64
	Others   int64
	Bytes    int64
	Warnings int64
}

// DamageError says which part of a file is lost.
type DamageError struct {
	Offset, Size int64 // in bytes
	Err          error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("bytes %d to %d are lost: %v", e.Offset, e.Offset+e.Size-1, e.Err)
}

// Unwrap returns why.
func (e *DamageError) Unwrap() error { return e.Err }

// Run restores an archive. The error says what ended it early, as a full disk does; what had been restored by then is
// complete. What concerns one file alone goes to Options.Warn.
func Run(ctx context.Context, cat *catalog.Catalog, a *archive.Archive, o Options) (*Stats, error) {
	if o.Workers <= 0 {
		o.Workers = max(2, runtime.GOMAXPROCS(0))
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if o.Warn == nil {
		o.Warn = func(string, error) {}
	}
	target, err := fsmeta.OpenDir(o.Target)
	if err != nil {
		return nil, err
	}
	defer target.Release()
	names, err := target.Names()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{
		Options:  o,
		catalog:  cat,
		archive:  a,
		fail:     cancel,
		restorer: fsmeta.Restorer{Owners: new(fsmeta.Owners)},
		path:     walk{dirs: []*fsmeta.Dir{target}},
		source:   walk{dirs: []*fsmeta.Dir{target}},
		jobs:     make(chan job, 64),
		writing:  newPaths(),
		broken:   map[string]bool{},
		fresh:    len(names) == 0,
	}
	defer r.path.leave(0)
	defer r.source.leave(0)
	err = r.run(ctx)
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
	path     walk // to the item at hand
	source   walk // to what a hard link is another name of
	jobs     chan job
	writing  *paths
	fresh    bool // the target was empty

	gaps  int             // in the items
	dirs  []*archive.Item // whose metadata is due
	links []*archive.Item

	mu     sync.Mutex
	stats  Stats
	broken map[string]bool // paths of files that are not there as a whole
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
					r.report(j.item, r.write(ctx, j))
				}
				j.dir.Release()
				r.writing.end(j.item.Path)
			}
		})
	}
	err := r.items(ctx)
	close(r.jobs)
	writing.Wait()
	for _, it := range r.links {
		if ctx.Err() != nil {
			break
		}
		r.report(it, r.link(it))
	}
	// Times that are right are worth it even after an error: a second attempt has less to do.
	for i := len(r.dirs) - 1; i >= 0; i-- {
		r.report(r.dirs[i], r.finishDir(r.dirs[i]))
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
		r.Progress.path.Store(&it.Path)
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
	for it, err := range r.catalog.Items(ctx, r.archive) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if lost(err) {
			r.gap(err)
			continue
		}
		if err != nil {
			return err
		}
		if r.Match != nil && !r.Match(it.Path) {
			if s, ok := sources[it.Path]; ok {
				s.item = it
			}
			continue
		}
		if it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.Source != "" {
			if s, ok := sources[it.Source]; ok && s.item != nil {
				if s.path == "" { // the first of its names that is wanted gets the content
					s.path = it.Path
					it.HasChunks, it.Chunks, it.Source = true, s.item.Chunks, ""
				} else {
					it.Source = s.path
				}
			}
		}
		if err := r.item(it); err != nil {
			r.report(it, err)
		}
	}
	return nil
}

// gap tells that some items are lost.
func (r *run) gap(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps++
	r.stats.Warnings++
	r.Warn("", fmt.Errorf("some files are lost: %w", err))
}

// A missingSource is a file that is not wanted itself, but under other names that come later.
type missingSource struct {
	item *archive.Item // once it has been met
	path string        // where its content goes instead
}

// missingSources finds these files, which takes a look at all items.
func (r *run) missingSources(ctx context.Context) (map[string]*missingSource, error) {
	sources := map[string]*missingSource{}
	if r.Match == nil {
		return sources, nil
	}
	for it, err := range r.catalog.Items(ctx, r.archive) {
		if lost(err) {
			continue // which is told when the items are restored
		}
		if err != nil {
			return nil, err
		}
		if it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.Source != "" && r.Match(it.Path) && !r.Match(it.Source) {
			sources[it.Source] = &missingSource{}
		}
	}
	return sources, nil
}

// item makes what an item is of, or sees to it that it is made later.
func (r *run) item(it *archive.Item) error {
	r.writing.await(it.Path)
	parent, name, err := r.path.to(it.Path)
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
		r.dirs = append(r.dirs, it)
		return nil
	case fsmeta.TypeRegular:
		if it.Source != "" {
			r.links = append(r.links, it)
			return nil
		}
		if !it.HasChunks {
			return errors.New("has neither content nor the name of another file in the archive")
		}
		r.writing.begin(it.Path)
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

// makeDir makes a directory, or makes sure that we may change the one that is there.
func makeDir(parent *fsmeta.Dir, name string) error {
	info, err := parent.Lstat(name)
	if err == nil && info.Type() == fsmeta.TypeDir {
		if mode := info.Mode & fsmeta.PermMask; mode&0o700 != 0o700 && os.Geteuid() != 0 {
			return parent.Chmod(name, mode|0o700)
		}
		return nil
	}
	if err == nil { // a file, of which nothing is kept
		if err := parent.Remove(name, false); err != nil {
			return fmt.Errorf("make room for it: %w", err)
		}
	}
	return parent.Mkdir(name)
}

// replacing calls make, which makes a file of some kind under the name that it is given. A file that has the name
// already is replaced once the new one is there; an empty directory is removed before.
func replacing(d *fsmeta.Dir, name string, make func(name string) error) error {
	temp, err := makeBeside(d, name, make)
	if err == nil && temp != name {
		err = replace(d, temp, name)
	}
	return err
}

// makeBeside calls make with a name or, if a file has it, with another one for replace. It returns which.
func makeBeside(d *fsmeta.Dir, name string, make func(name string) error) (string, error) {
	err := make(name)
	if !errors.Is(err, fs.ErrExist) {
		return name, err
	}
	info, err := d.Lstat(name)
	if err != nil {
		return name, err
	}
	if info.Type() == fsmeta.TypeDir {
		if err := d.Remove(name, true); err != nil {
			return name, fmt.Errorf("make room for it: %w", err)
		}
		return name, make(name)
	}
	temp := ".garret-tmp-" + rand.Text()
	return temp, make(temp)
}

// replace gives a file the name of another one, which is gone then. After an error the other one is still there, and
// the file is gone.
func replace(d *fsmeta.Dir, temp, name string) error {
	err := d.Rename(temp, name)
	// After an error it is of no use. If both were names of one file, it is still there too.
	if removeErr := d.Remove(temp, false); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	if err != nil {
		return fmt.Errorf("take the place of what is there: %w", err)
	}
	return nil
}

// link gives a file that has been written another name.
func (r *run) link(it *archive.Item) error {
	if r.broken[it.Source] {
		return fmt.Errorf("is another name of %q, which is not whole", it.Source)
	}
	if it.Source == it.Path {
		return errors.New("is another name of itself")
	}
	old, oldname, err := r.source.to(it.Source)
	if err != nil {
		return err
	}
	if r.gaps > 0 { // what has its name may have been there before
		info, err := old.Lstat(oldname)
		if err != nil {
			return err
		}
		if info.Type() != fsmeta.TypeRegular || info.MTime.Sec != it.MTime.Sec {
			return fmt.Errorf("is another name of %q, which is lost", it.Source)
		}
	}
	parent, name, err := r.path.to(it.Path)
	if err != nil {
		return err
	}
	return replacing(parent, name, func(name string) error { return parent.Link(old, oldname, name) })
}

func (r *run) finishDir(it *archive.Item) error {
	parent, name, err := r.path.to(it.Path)
	if err != nil {
		return err
	}
	return r.restorer.Restore(parent, name, nil, it)
}

// A walk leads from the target down to an item. It remembers the way, as the next item is not far.
type walk struct {
	names []string
	dirs  []*fsmeta.Dir // the target, and then one for each name
}

// to returns the directory of a path and the name in it, "." for the target itself. Directories on the way that do not
// exist are made, for their owner alone; links on the way are not followed.
func (w *walk) to(path string) (*fsmeta.Dir, string, error) {
	if path == "." {
		return w.dirs[0], ".", nil
	}
	names := strings.Split(path, "/")
	for _, n := range names {
		if n == "" || n == "." || n == ".." {
			return nil, "", errors.New("is not a path that stays in the target")
		}
	}
	names, last := names[:len(names)-1], names[len(names)-1]
	common := 0
	for common < min(len(names), len(w.names)) && names[common] == w.names[common] {
		common++
	}
	w.leave(common)
	for _, n := range names[common:] {
		d := w.dirs[len(w.dirs)-1]
		next, err := d.OpenDir(n)
		if errors.Is(err, fs.ErrNotExist) {
			if err = d.Mkdir(n); err == nil {
				next, err = d.OpenDir(n)
			}
		}
		if err != nil {
			return nil, "", err
		}
		w.names = append(w.names, n)
		w.dirs = append(w.dirs, next)
	}
	return w.dirs[len(w.dirs)-1], last, nil
}

// leave goes up again until as many names are left.
func (w *walk) leave(depth int) {
	for len(w.names) > depth {
		w.names = w.names[:len(w.names)-1]
		w.dirs[len(w.dirs)-1].Release()
		w.dirs = w.dirs[:len(w.dirs)-1]
	}
}

// lost reports whether an error of the catalog concerns one object alone.
func lost(err error) bool {
	return errors.Is(err, repository.ErrNotFound) || errors.Is(err, repository.ErrIntegrity)
}
