package mount

import (
	"sort"
	"sync"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/repository"
)

// markEvery is the number of chunks of a file for which one offset is kept.
const markEvery = 64

// content is what is in a regular file. It has 40 bytes of memory for each chunk, and is never changed.
type content struct {
	archive int    // which of those that are mounted
	path    string // in it
	chunks  []archive.Chunk
	marks   []int64 // the offset of every markEvery-th chunk
	size    int64
}

func newContent(k int, path string, chunks []archive.Chunk) *content {
	c := &content{archive: k, path: path}
	for i := range chunks {
		if chunks[i].Size == 0 {
			continue
		}
		if len(c.chunks)%markEvery == 0 {
			c.marks = append(c.marks, c.size)
		}
		c.size += int64(chunks[i].Size)
		c.chunks = append(c.chunks, chunks[i])
	}
	return c
}

// find returns the chunk in which an offset lies, and where the chunk begins. The offset must be in the file.
func (c *content) find(offset int64) (i int, start int64) {
	mark := sort.Search(len(c.marks), func(k int) bool { return c.marks[k] > offset }) - 1
	i, start = mark*markEvery, c.marks[mark]
	for start+int64(c.chunks[i].Size) <= offset {
		start += int64(c.chunks[i].Size)
		i++
	}
	return i, start
}

// read returns up to len(buf) bytes from an offset on, in buf or in a chunk, and fewer only at the end of the file. What
// is lost is told to lost, which returns nil if zeros may stand for it.
func (c *content) read(buf []byte, offset int64, get func(repository.ID) ([]byte, error), lost func(*catalog.DamageError) error) ([]byte, error) {
	if offset < 0 || offset >= c.size {
		return nil, nil
	}
	buf = buf[:min(int64(len(buf)), c.size-offset)]
	i, start := c.find(offset)
	for done := 0; done < len(buf); i++ {
		size := int64(c.chunks[i].Size)
		from := offset + int64(done) - start
		n := int(min(size-from, int64(len(buf)-done)))
		data, err := get(c.chunks[i].ID)
		if err == nil {
			err = catalog.CheckSize(data, c.chunks[i])
		}
		switch {
		case err != nil:
			if err := lost(&catalog.DamageError{Offset: start, Size: size, Err: err}); err != nil {
				return nil, err
			}
			clear(buf[done:][:n])
		case n == len(buf): // all of it is in one chunk, and need not be copied
			return data[from:][:n], nil
		default:
			copy(buf[done:], data[from:][:n])
		}
		done += n
		start += size
	}
	return buf, nil
}

const (
	// firstWindow and lastWindow are how many bytes are fetched ahead of who reads from the beginning to the end: first
	// few, then twice as many each time.
	firstWindow = 512 << 10
	lastWindow  = 4 << 20
	// maxSkew is how far from where the last read has ended the next may begin and still be a part of such a reading: the
	// kernel itself reads ahead, and its requests overtake each other.
	maxSkew = 512 << 10
)

// A reading is a file that somebody has open. It finds out whether it is read from the beginning to the end.
type reading struct {
	*content
	mu     sync.Mutex
	next   int64 // where the last read has ended
	window int64 // bytes to fetch ahead; 0: the reading has jumped
	ahead  int   // the first chunk that has not been fetched ahead
}

// advance notes a read, and fetches ahead what will be read next. fetch reports whether it has begun to.
func (r *reading) advance(offset int64, n int, fetch func(repository.ID) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if skew := offset - r.next; skew < -maxSkew || skew > maxSkew || r.size == 0 {
		r.next, r.window, r.ahead = offset+int64(n), 0, 0
		return
	}
	r.next = max(r.next, offset+int64(n))
	r.window = min(max(2*r.window, firstWindow), lastWindow)
	if r.next >= r.size {
		return
	}
	i, start := r.find(r.next)
	for ; i < len(r.chunks) && start < r.next+r.window; i++ {
		if i >= r.ahead {
			if !fetch(r.chunks[i].ID) {
				return
			}
			r.ahead = i + 1
		}
		start += int64(r.chunks[i].Size)
	}
}
