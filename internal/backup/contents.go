package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"garret/internal/archive"
	"garret/internal/fsmeta"
)

// How far a file is read that has more in it than its size says, and does not grow: as far as the larger of maxUnstated and
// twice its size. What the system makes up as it is read has no end sooner, and is read as far as maxMadeUp, whatever its
// size: there are files in /proc that have as many bytes as there are addresses.
const (
	maxUnstated = 1 << 30
	maxMadeUp   = 64 << 20
)

// A reading is what came of reading a file once.
type reading struct {
	item          *archive.Item
	attrErr       error
	before, after *fsmeta.Info
	stated        int64 // the size that the system stands by, in bytes
	length, last  int64 // of what was read, and of its last chunk, in bytes
	endless       bool  // there was more
	madeUp        bool  // by the system, with no size that means anything
	blocks        [][]archive.Chunk
}

// flaw returns what is wrong with what was read, nil if nothing is. What counts is content: permissions may change.
func (r *reading) flaw() error {
	sameTime := r.before.MTime == r.after.MTime
	switch {
	case r.endless:
		return fmt.Errorf("%w: it had not ended after %d bytes", ErrShort, r.length)
	case r.length < r.stated && sameTime && !r.madeUp: // nobody has truncated it
		return fmt.Errorf("%w: it has %d bytes, and %d as the system says", ErrShort, r.length, r.stated)
	case !sameTime || r.before.Size != r.after.Size:
		return ErrChanged
	}
	return nil
}

// grew reports whether the file may only have grown.
func (r *reading) grew() bool {
	return r.length == r.before.Size && r.length < r.after.Size && !r.endless
}

// readFile reads a file, and once more if that shows a flaw. What is true of the entry then is for settle to find out.
func (r *reader) readFile(ctx context.Context, e *entry) error {
	first, err := r.readOnce(ctx, e, nil)
	if err == ErrReplaced || err == nil && first.length == 0 && first.grew() { // of one that was empty, nothing would be stored
		first, err = r.readOnce(ctx, e, nil)
	}
	if err != nil || first.flaw() == nil {
		return err
	}
	e.first, first.blocks = first, e.blocks
	if first.endless {
		return nil
	}
	second, err := r.readOnce(ctx, e, first)
	if err == nil {
		e.second = second
	} else if ctx.Err() != nil || errors.Is(err, ErrTooManyChunks) {
		return err
	}
	return nil // it may be gone: then there is what was read first
}

// readOnce reads a file, which a former reading may have found wanting.
func (r *reader) readOnce(ctx context.Context, e *entry, former *reading) (*reading, error) {
	f, err := e.dir.Open(e.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	before, err := fsmeta.Fstat(f)
	if err != nil {
		return nil, err
	}
	if before.Type() != fsmeta.TypeRegular {
		return nil, ErrReplaced
	}
	now := &reading{before: before, stated: before.Size}
	if former != nil && former.before.MTime == before.MTime {
		now.stated = max(now.stated, former.stated)
	}
	now.describe(e, f, before, &r.owners)
	c := contents{file: f, size: before.Size, watch: r.Reading, path: e.path}
	e.begin()
	if now.length, now.last, err = r.cut(ctx, e, &c); err != nil {
		return nil, err
	}
	if now.after, err = fsmeta.Fstat(f); err != nil {
		return nil, err
	}
	now.endless = c.endless
	now.madeUp = now.length < now.stated && fsmeta.MadeUp(f)
	info := before
	if before.CTime != now.after.CTime && now.flaw() == nil {
		info = now.after
		now.describe(e, f, info, &r.owners)
	}
	e.set(now, info)
	if former != nil && former.grew() && now.flaw() != nil {
		err = r.readTail(ctx, e, f, former)
	}
	return now, err
}

// describe makes the item, as of a time at which info was true.
func (r *reading) describe(e *entry, f *os.File, info *fsmeta.Info, owners *fsmeta.Owners) {
	r.item = fsmeta.NewItem(e.item.Path, info, owners)
	r.attrErr = fsmeta.ReadAttrs(e.dir, e.name, f, r.item, owners)
}

// readTail reads once more what was the last chunk of a former reading, as that has been cut by the end of the file.
func (r *reader) readTail(ctx context.Context, e *entry, f *os.File, former *reading) error {
	data := make([]byte, former.last)
	if _, err := f.ReadAt(data, former.length-former.last); err != nil || len(data) == 0 {
		return nil // then it is not the same
	}
	buf, err := r.room.copyOf(ctx, data)
	if err == nil {
		e.left.Add(1)
		r.tasks <- task{data: buf, chunk: &e.tail, entry: e}
	}
	return err
}

// settle decides what to store of a file that was read twice, once all its chunks are stored.
//
// What was the same in both readings was in the file all the time between them, and so is what the file was then: all of it,
// or as much of it as there was at first, if it has only grown. Anything else is stored with a mark.
func (e *entry) settle() {
	first, second := e.first, e.second
	switch {
	case first == nil:
	case second == nil:
		e.choose(first, first.flaw())
	case second.flaw() == nil:
	case errors.Is(second.flaw(), ErrShort):
		e.choose(second, second.flaw())
	case first.flaw() == ErrChanged && equalChunks(e.blocks, first.blocks):
	case first.grew() && e.startsAs(first.blocks):
		e.choose(first, nil)
	default:
		e.choose(second, second.flaw())
	}
}

// choose takes a reading for what is stored.
func (e *entry) choose(r *reading, flaw error) {
	if r == e.first {
		e.blocks = r.blocks
	}
	e.set(r, r.before)
	if e.flaw = flaw; errors.Is(flaw, ErrShort) {
		e.item.SetFlaw(archive.FlawShort)
	} else if flaw != nil {
		e.item.SetFlaw(archive.FlawChanged)
	}
}

func equalChunks(a, b [][]archive.Chunk) bool {
	return slices.Equal(slices.Concat(a...), slices.Concat(b...))
}

// startsAs reports whether the content begins with that of a shorter reading.
func (e *entry) startsAs(blocks [][]archive.Chunk) bool {
	all, start := slices.Concat(e.blocks...), slices.Concat(blocks...)
	end := len(start) - 1
	return end < 0 || end <= len(all) && slices.Equal(all[:end], start[:end]) && e.tail == start[end]
}

// contents reads a file up to the size that it is said to have, or to its end if that is not true.
type contents struct {
	file    *os.File
	size    int64 // it is said to have; what it grows by is not read
	n       int64 // how much has been read
	beyond  bool  // there is more than its size says
	checked bool  // it is not made up, although it is large
	endless bool
	watch   func(path string, n int64)
	path    string
}

func (c *contents) Read(p []byte) (int, error) {
	if c.watch != nil {
		c.watch(c.path, c.n)
	}
	if c.n >= maxMadeUp && !c.checked {
		c.endless, c.checked = fsmeta.MadeUp(c.file), true
	}
	limit := c.size
	if c.n >= c.size {
		limit = max(maxUnstated, 2*c.size)
		c.endless = c.endless || c.n >= limit
	}
	if c.endless {
		return 0, io.EOF
	}
	n, err := fsmeta.Reader(c.file).Read(p[:min(int64(len(p)), limit-c.n)])
	if n > 0 && c.n >= c.size && !c.beyond {
		now, err := fsmeta.Fstat(c.file)
		if err != nil {
			return 0, err
		}
		if now.Size != c.size {
			return 0, io.EOF // it has grown meanwhile
		}
		c.beyond = true
	}
	c.n += int64(n)
	return n, err
}
