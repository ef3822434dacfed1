package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"garret/internal/archive"
	"garret/internal/fsmeta"
)

// ErrStdin is matched by the error about a standard input that could not be read to its end.
var ErrStdin = errors.New("the standard input cannot be stored")

// roots returns where the walks begin, see findRoots.
func (o *Options) roots() (roots, below []*root, err error) {
	if o.FilesFrom != nil && (len(o.Paths) > 0 || o.Stdin != nil) {
		return nil, nil, errors.New("a list of files stands alone")
	}
	if roots, below, err = findRoots(o.Dir, o.Paths); err != nil {
		return nil, nil, err
	}
	all := slices.Concat(roots, below)
	for _, r := range all {
		if o.Given != "" && !filepath.IsAbs(r.given) {
			r.given = filepath.Join(o.Given, r.given)
		}
	}
	if o.Stdin != nil {
		err = o.checkStdin(all)
	}
	return roots, below, err
}

// checkStdin finds out whether the name of the standard input is a file's that is stored too.
func (o *Options) checkStdin(roots []*root) error {
	name := SafePath(o.StdinName)
	if name == "." || writtenAsDir(o.StdinName) {
		return fmt.Errorf("%w: %q is not the name of a file", ErrStdin, o.StdinName)
	}
	for _, r := range roots {
		rest, below := strings.CutPrefix(name, r.path+"/")
		if r.path == "." {
			rest, below = name, true
		}
		same := filepath.Join(r.file, rest)
		_, err := os.Lstat(same)
		if name == r.path || strings.HasPrefix(r.path, name+"/") || below && err == nil {
			return fmt.Errorf("the standard input: %w as %q, %q", ErrSameName, r.file, name)
		}
	}
	return nil
}

// visitStdin stores the standard input. It is read here and not by a reader, as nothing is left to walk.
func (w *walker) visitStdin(ctx context.Context) {
	if w.Stdin == nil || ctx.Err() != nil {
		return
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	e := &entry{path: w.StdinName, stdin: true, item: &archive.Item{
		Path:  SafePath(w.StdinName),
		Mode:  fsmeta.TypeRegular | 0o600,
		UID:   uid,
		GID:   gid,
		User:  w.owners.UserName(uid),
		Group: w.owners.GroupName(gid),
		MTime: archive.NanosOf(time.Now()),
	}}
	if w.files == nil { // a dry run
		w.met <- e
		return
	}
	e.read = make(chan struct{})
	e.left.Store(1)
	w.met <- e
	defer e.finish()
	content := interruptible(ctx, w.Stdin)
	defer content.Close()
	if _, _, err := newReader(w.pipeline).cut(ctx, e, content); err != nil {
		e.err = err
		w.fail(fmt.Errorf("%w as %q: %w", ErrStdin, w.StdinName, err))
	}
}

// interruptible returns a reader that gives up when the context is done, or when it is closed, even in the middle of a
// read. Somebody may then still be waiting for r.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(pw, struct{ io.Reader }{r}, make([]byte, 1<<20))
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	return pr
}
