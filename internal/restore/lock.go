package restore

import (
	"os"

	"garret/internal/archive"
	"garret/internal/fsmeta"
)

// A lock is a file with flags that forbid changes, which come when nothing more is to be changed.
type lock struct {
	item *archive.Item
	id   fsmeta.FileID
}

// willLock remembers that a file, which has been written, is to be locked.
func (r *run) willLock(f *os.File, it *archive.Item) error {
	if !fsmeta.Locks(it) {
		return nil
	}
	info, err := fsmeta.Fstat(f)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locks[it.Path] = lock{it, info.FileID}
	return nil
}

func (r *run) lock(l lock) error {
	parent, name, err := r.path.to(r.place(l.item.Path), false)
	if err != nil {
		return err
	}
	return r.restorer.Lock(parent, name, l.id, l.item)
}
