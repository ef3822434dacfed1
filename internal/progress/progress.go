// Package progress counts how far a piece of work has come while it goes on, for whoever shows it.
package progress

import "sync/atomic"

// Files counts the files of a backup, a restoration or an export as they are done. The zero value is ready. It is safe
// for concurrent use, and may be read at any time.
type Files struct {
	Files  atomic.Int64 // regular files that are done
	Bytes  atomic.Int64 // of content
	latest atomic.Pointer[string]
}

// At remembers the path of what is at hand. The text that path points to must not change any more.
func (f *Files) At(path *string) { f.latest.Store(path) }

// Count returns the numbers, and the path that At was told last.
func (f *Files) Count() (files, bytes int64, path string) {
	if latest := f.latest.Load(); latest != nil {
		path = *latest
	}
	return f.Files.Load(), f.Bytes.Load(), path
}
