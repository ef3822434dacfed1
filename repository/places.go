package repository

import (
	"context"
	"fmt"
)

// A Place is where an object lies in the log. An object that is replaced, or moved by a compaction, gets a place behind all
// those there are, so that whoever reads in the order of places, and goes on later where they stopped, misses nothing.
type Place struct {
	Segment uint32 `json:"segment"`
	Offset  uint32 `json:"offset"`
}

// Compare returns -1 if p comes before q in the log, 1 if it comes behind, and else 0.
func (p Place) Compare(q Place) int {
	return location{p.Segment, p.Offset}.compare(location{q.Segment, q.Offset})
}

// Places returns where objects lie, in the order of their ids: 8 bytes for each. One that is not there has the zero place.
// To read many objects in the order of their places is faster where the log is on a disk that turns.
func (r *Repository) Places(ctx context.Context, ids []ID) ([]Place, error) {
	places := make([]Place, len(ids))
	for i, id := range ids {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		loc, ok, err := r.locate(id)
		if err != nil && r.heal(ctx, err) {
			loc, ok, err = r.locate(id)
		}
		if err != nil {
			return nil, fmt.Errorf("find object %v: %w", id, err)
		}
		if ok {
			places[i] = Place{loc.segment, loc.offset}
		}
	}
	return places, nil
}

func (r *Repository) locate(id ID) (location, bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.usableLocked(); err != nil {
		return location{}, false, err
	}
	return r.index.lookup(id)
}
