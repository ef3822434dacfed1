package backup

import (
	"context"
	"sync"
	"sync/atomic"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// An entry is something met in the walk. What is in it belongs to the walk until it is sent to met, then to the recall until
// it is sent to order; then, if read is not nil, to whoever reads it until read is closed; then to the assembly.
type entry struct {
	path    string // for messages
	file    string // absolute
	err     error  // why it cannot be stored
	flaw    error  // what may be wrong with its content; it is stored nevertheless
	attrErr error  // what could not be read of its attributes; it is stored nevertheless
	leftOut *leftOut
	stdin   bool // it is the standard input
	item    *archive.Item
	info    *fsmeta.Info   // of a regular file, as it was before its content was read
	shared  *fsmeta.FileID // set if the file has several names

	mayChange bool // which is nothing to report

	known  bool // a former backup has met the file
	reused bool // and it has not changed since

	read chan struct{} // closed when the content is stored; nil: there is none to be read
	dir  *fsmeta.Dir   // of a file whose content may have to be read
	name string        // in it
	left atomic.Int64  // the reader, and tasks that are not done

	first, second *reading      // of a file that was read twice; the second one may have failed
	tail          archive.Chunk // the last chunk of the first reading, read once more

	mu     sync.Mutex
	blocks [][]archive.Chunk // of the content; filled in by the tasks
}

// describe makes the item of an entry, with its attributes.
func (e *entry) describe(d *fsmeta.Dir, name, path string, info *fsmeta.Info, owners *fsmeta.Owners) {
	e.item = fsmeta.NewItem(path, info, owners)
	e.attrErr = fsmeta.ReadAttrs(d, name, nil, e.item, owners)
}

// blockSize is how many chunks of a file are put into one block: blocks do not move while the tasks fill them in.
const blockSize = 64

// begin forgets what was expected.
func (e *entry) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blocks = nil
}

// expect returns the place for the next chunk, which a task will fill in.
func (e *entry) expect() *archive.Chunk {
	e.left.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	last := len(e.blocks) - 1
	if last < 0 || len(e.blocks[last]) == cap(e.blocks[last]) {
		size := blockSize
		if last < 0 {
			size = 2 // most files are short
		}
		e.blocks = append(e.blocks, make([]archive.Chunk, 0, size))
		last++
	}
	block := append(e.blocks[last], archive.Chunk{})
	e.blocks[last] = block
	return &block[len(block)-1]
}

// finish is called when a task is done, and when the reader is.
func (e *entry) finish() {
	if e.left.Add(-1) == 0 {
		close(e.read)
	}
}

// set takes what the reader has found out about the file.
func (e *entry) set(r *reading, info *fsmeta.Info) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.item, e.info, e.attrErr = r.item, info, r.attrErr
}

// stored returns the item as it is, and the chunks from the beginning of the content that are stored. No task must be at
// work.
func (e *entry) stored() (it archive.Item, chunks []archive.Chunk) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.blocks {
		for _, c := range b {
			if c.ID == (repository.ID{}) {
				return *e.item, chunks
			}
			chunks = append(chunks, c)
		}
	}
	return *e.item, chunks
}

// maxChunks is how many chunks an item can have and still be read again, with room for all else that is in it.
const maxChunks = (archive.MaxItemSize - fsmeta.MaxAttrs - 2<<20) / 45

// complete puts the chunks into the item, or notes why that cannot be done.
func (e *entry) complete() {
	if e.read == nil || e.err != nil {
		return
	}
	e.settle()
	n := 0
	for _, b := range e.blocks {
		n += len(b)
	}
	it, chunks := e.stored()
	switch {
	case n > maxChunks:
		e.err = ErrTooManyChunks
	case len(chunks) < n:
		e.err = context.Canceled
	default:
		it.HasChunks, it.Chunks = true, chunks
		e.item = &it
	}
}
