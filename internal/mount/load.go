package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

// readAhead is how many chunks of an item stream are fetched at a time. They have 64 KiB or so, at most 10 MiB.
const readAhead = 8

// A loader reads the items of an archive into a tree.
type loader struct {
	catalog *catalog.Catalog
	owner   owner // of folders that have no items
	// without are the chunks of the item stream that could not be read the first time, by their place in it, sorted. They are
	// left out again, whether or not they can be read now: the kernel knows files by their indices.
	without []int
	warn    func(path string, err error)
}

// load returns the tree of an archive, and the places of the chunks of its item stream that could not be read. What is
// wrong with single items it tells. An error says that nothing can be shown.
func (l *loader) load(ctx context.Context, name string) (*tree, []int, error) {
	rec, err := l.catalog.Archive(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	var (
		b      = newBuilder(l.owner, archive.NanosOf(rec.Time))
		owners fsmeta.Owners
		dec    archive.ItemDecoder
		pieces []piece
		fed    int64
		gaps   []int
		i      = -1
	)
	for data, err := range l.catalog.Read(ctx, len(rec.Items), func(i int) repository.ID { return rec.Items[i] }, readAhead) {
		i++
		_, skip := slices.BinarySearch(l.without, i)
		switch {
		case err != nil && !catalog.Lost(err):
			return nil, nil, fmt.Errorf("read the items, chunk %d of %d: %w", i+1, len(rec.Items), err)
		case err != nil && !skip:
			l.warn("", fmt.Errorf("some files are lost: read the items, chunk %d of %d: %w", i+1, len(rec.Items), err))
			fallthrough
		case skip:
			gaps = append(gaps, i)
			dec.Skip()
			continue
		}
		pieces = append(pieces, piece{rec.Items[i], fed})
		fed += int64(len(data))
		dec.Feed(data)
		if err := l.items(b, &dec, &owners); err != nil {
			return nil, nil, err
		}
	}
	if err := dec.Close(); err != nil {
		l.skip(&dec, err)
	}
	if err := l.items(b, &dec, &owners); err != nil {
		return nil, nil, err
	}
	return b.finish(pieces, l.warn), gaps, nil
}

// skip goes on behind what is no item.
func (l *loader) skip(dec *archive.ItemDecoder, err error) {
	l.warn("", fmt.Errorf("some files are lost: %w", err))
	dec.Recover()
}

// items takes in what items there are. Its error is that there are too many.
func (l *loader) items(b *builder, dec *archive.ItemDecoder, owners *fsmeta.Owners) error {
	for {
		it, ok, err := dec.Next()
		if err != nil {
			l.skip(dec, err)
			continue
		}
		if !ok {
			return nil
		}
		uid, gid := owners.IDs(it)
		if err := b.add(it, dec.Offset(), owner{uid, gid}); errors.Is(err, errTooMany) {
			return err
		} else if err != nil {
			l.warn(it.Path, err)
		}
	}
}

// item reads the item of an entry again. get returns the data of a chunk.
func (t *tree) item(i uint32, get func(repository.ID) ([]byte, error)) (*archive.Item, error) {
	e := &t.entries[i]
	if e.has(flagMade) {
		return nil, errNoEntry
	}
	at := int64(e.item)
	k := sort.Search(len(t.pieces), func(k int) bool { return t.pieces[k].start > at }) - 1
	var dec archive.ItemDecoder
	for ; k < len(t.pieces); k++ {
		data, err := get(t.pieces[k].id)
		if err != nil {
			return nil, err
		}
		skip := max(0, at-t.pieces[k].start)
		if skip > int64(len(data)) {
			break
		}
		dec.Feed(data[skip:])
		it, ok, err := dec.Next()
		if ok || err != nil {
			return it, err
		}
		at = 0
	}
	return nil, fmt.Errorf("the item ends too early: %w", repository.ErrIntegrity)
}
