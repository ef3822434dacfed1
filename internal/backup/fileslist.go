package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"garret/internal/fsmeta"
)

// ErrZeroByte is matched by the error about a list of lines that has a zero byte in it, which no path can have.
var ErrZeroByte = errors.New("has a zero byte in it")

// maxListed is the greatest length of a line in a list of paths, in bytes. No system takes a path that is as long.
const maxListed = 64 << 10

// A PathList returns paths, one after another. If one cannot be had, it returns an error in its place, and is over; so it
// is when the context is done, even if the next path is still waited for.
type PathList func(ctx context.Context) iter.Seq2[string, error]

// Lines returns the paths in a list, one a line, or each with a zero byte after it. Of a line a carriage return at its end
// is no part, nor is a byte order mark at the beginning of the list; a path with one, or with a line feed, needs the zero
// bytes. Empty paths say nothing.
//
// The list is read as it comes. An error ends it, as the end of the context does.
func Lines(list io.Reader, null bool) PathList {
	return func(ctx context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) { lines(ctx, list, null, yield) }
	}
}

func lines(ctx context.Context, list io.Reader, null bool, yield func(string, error) bool) {
	input := interruptible(ctx, list)
	defer input.Close()
	lines := bufio.NewReaderSize(input, maxListed)
	end := byte('\n')
	if null {
		end = 0
	}
	for n := 1; ; n++ {
		line, err := lines.ReadSlice(end)
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("path %d of the list is longer than 64 KiB", n)
		}
		if err != nil && err != io.EOF {
			yield("", err)
			return
		}
		path := strings.TrimSuffix(string(line), string(end))
		if !null {
			path = strings.TrimSuffix(path, "\r")
			if n == 1 {
				path = strings.TrimPrefix(path, "\ufeff")
			}
			if strings.ContainsRune(path, 0) {
				yield("", fmt.Errorf("path %d of the list %w", n, ErrZeroByte))
				return
			}
		}
		if path != "" && !yield(path, nil) || err == io.EOF {
			return
		}
	}
}

// A digest stands for a path, as lists may have millions of them.
type digest [16]byte

func digestOf(path string) digest {
	sum := sha256.Sum256([]byte(path))
	return digest(sum[:16])
}

// A fileList knows what a list has named so far. Nothing must be stored twice, nor behind what is stored as a link.
type fileList struct {
	files map[digest]digest // by path in the archive, the path in the file system
	links map[digest]bool   // the symbolic links among them
	above map[digest]bool   // what has something below it that was named

	skipped map[string]bool // directories: whether they are one of Options.Skip, or in one
}

// visitList stores what FilesFrom names.
func (w *walker) visitList(ctx context.Context) {
	if w.FilesFrom == nil {
		return
	}
	l := &fileList{
		files: map[digest]digest{}, links: map[digest]bool{}, above: map[digest]bool{}, skipped: map[string]bool{},
	}
	var dir *fsmeta.Dir // of the latest file, as the next one is likely to be there too
	var dirPath string
	defer func() {
		if dir != nil {
			dir.Release()
		}
	}()
	w.flat = true
	for path, err := range w.FilesFrom(ctx) {
		if err != nil {
			w.fail(fmt.Errorf("read the list of files: %w", err))
			return
		}
		if ctx.Err() != nil {
			return
		}
		r := newRoot(w.Dir, path)
		parent, name := r.parent()
		if dir == nil || dirPath != parent {
			d, err := fsmeta.OpenParent(parent)
			if err != nil {
				var cause *fs.PathError
				if errors.As(err, &cause) { // the way there is not what the list names
					err = &fs.PathError{Op: "lstat", Path: r.file, Err: cause.Err}
				}
				w.met <- &entry{path: r.file, err: err}
				continue
			}
			if dir != nil {
				dir.Release()
			}
			dir, dirPath = d, parent
		}
		w.root = r
		w.visitListed(ctx, l, dir, name, r)
	}
}

func (w *walker) visitListed(ctx context.Context, l *fileList, dir *fsmeta.Dir, name string, r *root) {
	e := &entry{path: dir.Path(name)}
	if w.excluded(e, r.path) {
		return
	}
	if w.inSkipped(l, filepath.Dir(r.file)) {
		w.leave(e, &leftOut{reason: reasonSkip})
		return
	}
	path, file := digestOf(r.path), digestOf(r.file)
	if other, ok := l.files[path]; ok {
		if other != file {
			w.met <- &entry{path: r.file, err: fmt.Errorf("%w as another path of the list, %q", ErrSameName, r.path)}
		}
		return
	}
	info, err := dir.Lstat(name)
	if err == nil { // else it is for the visit to report
		link := info.Type() == fsmeta.TypeSymlink
		if link && l.above[path] {
			err := fmt.Errorf("is a symbolic link, and something behind it is stored already: %w", ErrBelowLink)
			w.met <- &entry{path: r.file, err: err}
			return
		}
		for above := range parents(r.path) {
			d := digestOf(above)
			if l.links[d] {
				w.met <- &entry{path: r.file, err: fmt.Errorf("%w, %q", ErrBelowLink, above)}
				return
			}
			l.above[d] = true
		}
		l.files[path] = file
		if link {
			l.links[path] = true
		}
	}
	w.visit(ctx, dir, name, r.path)
}

// inSkipped reports whether a directory is one of Options.Skip, or in one. The first time that is told.
func (w *walker) inSkipped(l *fileList, dir string) bool {
	if skipped, ok := l.skipped[dir]; ok {
		return skipped
	}
	skipped := false
	if d, err := fsmeta.OpenParent(dir); err == nil {
		if info, err := d.Lstat("."); err == nil {
			skipped = w.skipped(&entry{path: dir}, info)
		}
		d.Release()
	}
	if above := filepath.Dir(dir); !skipped && above != dir {
		skipped = w.inSkipped(l, above)
	}
	l.skipped[dir] = skipped
	return skipped
}

// parents returns the folders that a path in an archive is in, the nearest first.
func parents(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for path = filepath.Dir(path); path != "."; path = filepath.Dir(path) {
			if !yield(path) {
				return
			}
		}
	}
}
