package fsmeta

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxTrail is how many directories of a trail are open at a time.
const maxTrail = 128

// A Trail is the way down from one directory to another, for who goes through a tree: a stack of directories, of which
// only the deepest are open, so that a tree may be deeper than files may be open. The zero value is an empty one. It is
// for one goroutine.
type Trail struct {
	levels []level
	closed int // how many of the levels, from the first, are closed
}

type level struct {
	dir  *Dir
	path string
	id   FileID // once it is closed
	err  error  // why it could not be opened again
}

// Len returns the number of directories.
func (t *Trail) Len() int { return len(t.levels) }

// Enter goes down into a directory in the deepest one, and takes it over.
func (t *Trail) Enter(d *Dir) {
	t.levels = append(t.levels, level{dir: d})
	if len(t.levels)-t.closed <= maxTrail {
		return
	}
	l := &t.levels[t.closed]
	info, err := l.dir.Lstat(".")
	if err != nil {
		return // so it stays open
	}
	l.dir.Release()
	*l = level{path: l.dir.Path("."), id: info.FileID}
	t.closed++
}

// Dir returns the deepest directory, which belongs to the trail. The error says that the way back to it is lost, as
// somebody has moved what is below.
func (t *Trail) Dir() (*Dir, error) {
	l := &t.levels[len(t.levels)-1]
	return l.dir, l.err
}

// Leave goes up again from the deepest directory.
func (t *Trail) Leave() {
	last := len(t.levels) - 1
	left := t.levels[last]
	t.levels[last] = level{}
	t.levels = t.levels[:last]
	if last > 0 && t.closed == last {
		t.closed--
		l := &t.levels[last-1]
		l.dir, l.err = left.up(l)
	}
	if left.dir != nil {
		left.dir.Release()
	}
}

// up opens the directory above one again, if it is still the one that it was.
func (below *level) up(l *level) (*Dir, error) {
	if below.dir == nil {
		return nil, below.err
	}
	d, err := openDir(below.dir.fd, "..", l.path, unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	info, err := d.Lstat(".")
	if err == nil && info.FileID != l.id {
		err = &fs.PathError{Op: "go back to", Path: l.path, Err: errors.New("what is below was moved meanwhile")}
	}
	if err != nil {
		d.Release()
		return nil, err
	}
	return d, nil
}
