package fsck

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	"garret/internal/archive"
	"garret/repository"
)

// A mark is what is known of an object.
type mark uint8

const (
	gone       mark = 1 << iota // it is listed, and lost
	damaged                     // its content is not what its id says
	wanted                      // something refers to it, though it is lost or damaged
	used                        // something refers to it, and will after a repair
	content                     // it is a chunk of a file
	superseded                  // an archive refers to it that a repair writes anew
	foreign                     // nothing refers to it, and the key does not open it
	unknown                     // a newer garret has made it
)

func (m mark) has(all mark) bool { return m&all == all }

// objects is the set of a repository's objects: 33 bytes for each, and 4 more for their sizes.
type objects struct {
	ids   []repository.ID // ascending
	marks []mark
	sizes []int32           // of the data; -1: not known. nil: none is
	first [1<<16 + 1]uint32 // where in ids those begin whose first two bytes are the index
}

// page is how many ids are asked for at a time.
const page = 1 << 16

func listObjects(ctx context.Context, s Store, lost func(repository.ID) bool) (*objects, error) {
	o := &objects{}
	if l, ok := s.(interface {
		Len(ctx context.Context) (int, error)
	}); ok {
		n, err := l.Len(ctx)
		if err != nil {
			return nil, err
		}
		o.ids = make([]repository.ID, 0, n) // else growing takes five times as much
	}
	var marker *repository.ID
	for {
		ids, err := s.List(ctx, page, marker)
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			break
		}
		o.ids = append(o.ids, ids...)
		last := ids[len(ids)-1]
		marker = &last
	}
	slices.SortFunc(o.ids, compareIDs)
	o.ids = slices.Clip(slices.Compact(o.ids))
	o.marks = make([]mark, len(o.ids))
	for i, id := range o.ids {
		o.first[int(binary.BigEndian.Uint16(id[:]))+1]++
		if lost != nil && lost(id) {
			o.marks[i] = gone
		}
	}
	for i := range len(o.first) - 1 {
		o.first[i+1] += o.first[i]
	}
	return o, nil
}

// find returns the index of an object, or -1.
func (o *objects) find(id repository.ID) int {
	prefix := int(binary.BigEndian.Uint16(id[:]))
	low, high := int(o.first[prefix]), int(o.first[prefix+1])
	i, ok := slices.BinarySearchFunc(o.ids[low:high], id, compareIDs)
	if !ok {
		return -1
	}
	return low + i
}

// mark adds marks to an object, if it is there.
func (o *objects) mark(id repository.ID, m mark) {
	if i := o.find(id); i >= 0 {
		o.marks[i] |= m
	}
}

// is reports whether an object is there and has all of some marks.
func (o *objects) is(id repository.ID, all mark) bool {
	i := o.find(id)
	return i >= 0 && o.marks[i].has(all)
}

// count returns how many objects have all of some marks.
func (o *objects) count(all mark) (n int64) {
	for _, m := range o.marks {
		if m.has(all) {
			n++
		}
	}
	return n
}

func (o *objects) anyDamaged() bool {
	return slices.ContainsFunc(o.marks, func(m mark) bool { return m.has(damaged) })
}

// look implements presence.
func (o *objects) look(_ context.Context, id repository.ID) (there bool, size int64, err error) {
	i := o.find(id)
	if i < 0 || o.marks[i]&(gone|damaged) != 0 {
		return false, -1, nil
	}
	if o.sizes == nil {
		return true, -1, nil
	}
	return true, int64(o.sizes[i]), nil
}

// isOrphan reports whether nothing refers to an object, now and after a repair.
func (o *objects) isOrphan(i int) bool {
	return o.marks[i]&(used|superseded|gone|wanted) == 0 && o.ids[i] != archive.ManifestID
}

func compareIDs(a, b repository.ID) int { return bytes.Compare(a[:], b[:]) }
