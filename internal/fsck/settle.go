package fsck

import (
	"context"

	"garret/internal/archive"
	"garret/repository"
)

// presence knows which chunks there are. The size is that of the data, or -1 if it is not known. A chunk whose content is
// known to be wrong is not there.
type presence interface {
	look(ctx context.Context, id repository.ID) (there bool, size int64, err error)
}

// A fate is what has become of a chunk of a file.
type fate int

const (
	fateSound   fate = iota
	fateHealed       // there are zeros in its place, and it is there again
	fatePatched      // there are zeros in its place, and it is still lost
	fateLost         // it is lost, or it and the zeros in its place are
)

// A verdict is about a chunk of a file.
type verdict struct {
	i       int   // its index
	offset  int64 // in the file
	fate    fate
	healthy archive.Chunk // the chunk that belongs there
	use     archive.Chunk // the one that is to stand there; that of fateLost is to be replaced by zeros
	resized bool          // the size in use is another than the item has
}

// settle finds out what is to become of each chunk of an item, in order.
func settle(ctx context.Context, p presence, it *archive.Item, visit func(verdict) error) error {
	healthy := it.Chunks
	if it.Patched() {
		healthy = it.ChunksHealthy
	}
	var offset int64
	for i, now := range it.Chunks {
		v := verdict{i: i, offset: offset, healthy: healthy[i], use: healthy[i]}
		there, size, err := p.look(ctx, v.healthy.ID)
		if err != nil {
			return err
		}
		switch {
		case there:
			if v.healthy.ID != now.ID {
				v.fate = fateHealed
			}
			if size >= 0 && size != int64(v.use.Size) {
				v.use.Size, v.resized = uint32(size), true
			}
		case v.healthy.ID == now.ID:
			v.fate = fateLost
		default:
			v.fate, v.use = fatePatched, now
			if there, _, err = p.look(ctx, now.ID); err != nil {
				return err
			}
			if !there {
				v.fate, v.use = fateLost, v.healthy
			}
		}
		if err := visit(v); err != nil {
			return err
		}
		offset += int64(v.healthy.Size)
	}
	return nil
}
