package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"garret/internal/fsmeta"
)

// A way leads from the target down to an item. It remembers where it is, as the next item is not far.
type way struct {
	top   *fsmeta.Dir
	names []string // of the directories below the top
	trail fsmeta.Trail
}

// maxPath is the length in bytes of the longest path that is followed. The system's own limit is for a single call.
const maxPath = 1 << 20

// split returns the names in a path, none for the target itself. None of them leads up.
func split(path string) ([]string, error) {
	if path == "." {
		return nil, nil
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("has a path of %d bytes, which is too long", len(path))
	}
	names := strings.Split(path, "/")
	for _, n := range names {
		if n == "" || n == "." || n == ".." || strings.Contains(n, "\x00") {
			return nil, errors.New("is not a path that stays in the target")
		}
	}
	return names, nil
}

// to returns the directory of a path and the name in it, "." for the target itself. Directories on the way that do not
// exist are made if so wished, for their owner alone; links on the way are not followed.
func (w *way) to(path string, make bool) (*fsmeta.Dir, string, error) {
	names, err := split(path)
	if err != nil {
		return nil, "", err
	}
	if len(names) == 0 {
		return w.top, ".", nil
	}
	names, last := names[:len(names)-1], names[len(names)-1]
	common := 0
	for common < min(len(names), len(w.names)) && names[common] == w.names[common] {
		common++
	}
	w.leave(common)
	d := w.top
	if common > 0 {
		if d, err = w.trail.Dir(); err != nil { // somebody has moved it
			w.leave(0)
			d, common = w.top, 0
		}
	}
	for _, n := range names[common:] {
		next, err := d.OpenDir(n)
		if make && errors.Is(err, fs.ErrNotExist) {
			if err = d.Mkdir(n); err == nil {
				next, err = d.OpenDir(n)
			}
		}
		if err != nil {
			return nil, "", err
		}
		w.names = append(w.names, n)
		w.trail.Enter(next)
		d = next
	}
	return d, last, nil
}

// leave goes up again until as many names are left.
func (w *way) leave(depth int) {
	for len(w.names) > depth {
		w.names = w.names[:len(w.names)-1]
		w.trail.Leave()
	}
}
