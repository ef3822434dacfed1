package repository

import (
	"context"
	"fmt"

	"garret/repository/segment"
)

// Dead returns about how many bytes of the segments nobody needs any more: what was deleted or replaced and, if Compact
// would drop them, most of the DELETE entries. It is what Compact would free. There must be no open transaction. It may have
// to read the segments with something dead in them, and changes nothing.
func (r *Repository) Dead(ctx context.Context) (int64, error) {
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := r.idle(); err != nil {
		return 0, fmt.Errorf("find out what is dead: %w", err)
	}
	if r.broken != nil {
		return 0, fmt.Errorf("find out what is dead: %w", r.broken)
	}
	if err := r.measure(); err != nil {
		return 0, fmt.Errorf("find out what is dead: %w", err)
	}
	var dead int64
	dropsDeletes := r.isWorthBase()
	for n, g := range r.garbage {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if g.bytes < allDead {
			dead += g.bytes
			if dropsDeletes {
				dead += int64(g.tombstones) * segment.KeyedSize
			}
			continue
		}
		if s, err := r.segments.acquire(n); err == nil { // else it has been removed
			dead += s.Size()
			s.release()
		}
	}
	return dead, nil
}
