package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"garret/internal/archive"
	"garret/internal/fsmeta"
)

// A walker goes through the paths, depth first, a directory before what is in it, and its names in the format's order.
type walker struct {
	*pipeline
	owners *fsmeta.Owners
	links  map[fsmeta.FileID]string // the first name of files that have several
	trail  fsmeta.Trail             // of the directories that it is in

	root    *root            // whose walk it is
	device  *uint64          // on which the root is; nil: not yet known
	pending map[string]*root // roots that lie below others and have not been met yet, by path in the archive
	flat    bool             // directories are not gone into
	told    []fsmeta.FileID  // those of Options.Skip that have been met
}

func (w *walker) run(ctx context.Context) {
	for _, r := range w.below {
		if w.pending == nil {
			w.pending = map[string]*root{}
		}
		w.pending[r.path] = r
	}
	for _, r := range w.roots {
		w.visitRoot(ctx, r)
	}
	// What somebody has named is stored, even if the way to it from above is left out.
	for _, r := range w.below {
		if w.pending[r.path] != nil {
			w.visitRoot(ctx, r)
		}
	}
	w.visitList(ctx)
	w.visitStdin(ctx)
}

func (w *walker) visitRoot(ctx context.Context, r *root) {
	parent, name := r.parent()
	d, err := fsmeta.OpenParent(parent)
	if err != nil {
		w.met <- &entry{path: r.file, err: err}
		return
	}
	defer d.Release()
	w.root, w.device = r, nil
	w.visit(ctx, d, name, r.path)
}

// A root is where a walk begins.
type root struct {
	given string // its path as it was given, clean
	file  string // and in the file system
	path  string // and in the archive
	dir   bool   // it is written as a directory, which a symbolic link does not change
}

func newRoot(dir, path string) *root {
	r := &root{given: filepath.Clean(path), file: filepath.Clean(path), path: SafePath(path), dir: writtenAsDir(path)}
	if !filepath.IsAbs(path) {
		r.file = filepath.Join(dir, path)
	}
	return r
}

// parent returns the directory in which a root is, and its name there.
func (r *root) parent() (dir, name string) {
	if r.dir {
		return r.file, "."
	}
	return filepath.Dir(r.file), filepath.Base(r.file)
}

// writtenAsDir reports whether a path means a directory whatever its last name is: it ends in a slash, or in no name.
func writtenAsDir(path string) bool {
	switch filepath.Base(path) {
	case ".", "..", "/":
		return true
	}
	return strings.HasSuffix(path, "/") || strings.HasSuffix(path, "/.")
}

// findRoots returns the roots of a backup, and apart from them those that lie below another one.
func findRoots(dir string, paths []string) (roots, below []*root, err error) {
	first := map[string]*root{} // by path in the archive
	for _, p := range paths {
		r := newRoot(dir, p)
		if other, ok := first[r.path]; !ok {
			first[r.path] = r
			roots = append(roots, r)
		} else if other.file != r.file {
			return nil, nil, fmt.Errorf("%q and %q: %w, %q", other.file, r.file, ErrSameName, r.path)
		} else if r.dir {
			other.dir = true
		}
	}
	var clash error
	isBelow := func(r *root) bool {
		for above := r.path; above != "."; {
			above = filepath.Dir(above)
			other, ok := first[above]
			if !ok {
				continue
			}
			rest, _ := strings.CutPrefix(r.path, above+"/")
			same := filepath.Join(other.file, rest)
			if same == r.file {
				link, err := linkOnTheWay(other, rest, r.dir)
				if link != "" {
					clash = fmt.Errorf("%q: %w, %q", r.file, ErrBelowLink, link)
				}
				if err == nil { // else the walk tells what is wrong with it
					below = append(below, r)
				}
				return err == nil
			}
			if _, err := os.Lstat(same); err == nil {
				clash = fmt.Errorf("%q and %q: %w, %q", same, r.file, ErrSameName, r.path)
			}
		}
		return false
	}
	roots = slices.DeleteFunc(roots, isBelow)
	slices.SortStableFunc(below, func(a, b *root) int { return strings.Count(a.path, "/") - strings.Count(b.path, "/") })
	return roots, below, clash
}

// linkOnTheWay returns the first symbolic link that the walk of a root meets on its way to what is below it, which it
// would not follow; and the link that is there if a directory is meant. The error says that there is no such way.
func linkOnTheWay(above *root, below string, dir bool) (string, error) {
	file := above.file
	info, err := os.Lstat(file)
	if above.dir {
		info, err = os.Stat(file)
	}
	for _, name := range strings.Split(below, "/") {
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return file, nil
		}
		file = filepath.Join(file, name)
		info, err = os.Lstat(file)
	}
	if err == nil && dir && info.Mode()&os.ModeSymlink != 0 {
		return file, nil
	}
	return "", err
}

// SafePath returns the path that a file has in an archive: relative, clean, and without a ".." in it.
func SafePath(path string) string {
	path = filepath.Clean(path)
	for {
		rest := strings.TrimPrefix(strings.TrimLeft(path, "/"), "../")
		if rest == path {
			break
		}
		path = rest
	}
	if path == "" || path == ".." {
		return "."
	}
	return path
}

// visit meets an entry of a directory, and all that is below it.
func (w *walker) visit(ctx context.Context, parent *fsmeta.Dir, name, path string) {
	if ctx.Err() != nil {
		return
	}
	e := &entry{path: parent.Path(name)}
	if w.excluded(e, path) {
		return
	}
	info, err := parent.Lstat(name)
	if err != nil {
		e.err = err
		w.met <- e
		return
	}
	if w.elsewhere(e, info) {
		return
	}
	delete(w.pending, path)
	switch info.Type() {
	case fsmeta.TypeDir:
		w.visitDir(ctx, parent, name, path, e)
	case fsmeta.TypeRegular:
		w.visitFile(ctx, parent, name, path, e, info)
	case fsmeta.TypeSymlink:
		w.describe(e, parent, name, path, info)
		e.item.Source, e.err = parent.Readlink(name)
		w.met <- e
	case fsmeta.TypeChar, fsmeta.TypeBlock, fsmeta.TypeFIFO:
		w.describe(e, parent, name, path, info)
		w.met <- e
	case fsmeta.TypeSocket:
		w.leave(e, &leftOut{reason: "a socket", socket: true})
	default:
		e.err = ErrUnknownType
		w.met <- e
	}
}

func (w *walker) newItem(path string, info *fsmeta.Info) *archive.Item {
	return fsmeta.NewItem(path, info, w.owners)
}

func (w *walker) describe(e *entry, d *fsmeta.Dir, name, path string, info *fsmeta.Info) {
	e.describe(d, name, path, info, w.owners)
}

func (w *walker) visitDir(ctx context.Context, parent *fsmeta.Dir, name, path string, e *entry) {
	// A directory that cannot be read is stored all the same, as what is known of it is true.
	d, openErr := parent.OpenDir(name)
	if openErr == nil {
		w.trail.Enter(d)
		defer w.trail.Leave()
	}
	self, selfName := d, "."
	if openErr != nil {
		self, selfName = parent, name
	}
	info, err := self.Lstat(selfName)
	if err != nil || info.Type() != fsmeta.TypeDir {
		if e.err = err; err == nil {
			e.err = openErr
		}
		w.met <- e
		return
	}
	if w.skipped(e, info) || w.elsewhere(e, info) || openErr == nil && w.isCache(e, d) {
		return
	}
	w.describe(e, self, selfName, path, info)
	dirPath := e.path
	w.met <- e
	if w.flat {
		return
	}
	if openErr != nil {
		w.met <- &entry{path: dirPath, err: openErr}
		return
	}
	names, err := d.Names()
	if err != nil {
		w.met <- &entry{path: dirPath, err: err} // and go on with the names that there are
	}
	slices.SortFunc(names, archive.CompareNames)
	for _, n := range names {
		child := n
		if path != "." {
			child = path + "/" + n
		}
		if d, err = w.trail.Dir(); err != nil {
			w.met <- &entry{path: dirPath, err: err}
			return
		}
		w.visit(ctx, d, n, child)
	}
}

func (w *walker) visitFile(ctx context.Context, parent *fsmeta.Dir, name, path string, e *entry, info *fsmeta.Info) {
	e.item, e.info, e.mayChange = w.newItem(path, info), info, w.mayChange(path)
	if info.Nlink > 1 {
		e.shared = &info.FileID
		if first, ok := w.links[info.FileID]; ok {
			w.describe(e, parent, name, path, info)
			e.item.Source = first
			w.met <- e
			return
		}
		w.links[info.FileID] = path
	}
	if w.files != nil { // no dry run
		e.dir, e.name = parent.Retain(), name
	}
	w.met <- e
}
