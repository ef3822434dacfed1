package repository

import (
	"errors"
	"io/fs"
	"slices"

	"garret/repository/segment"
)

// garbage is what a segment holds that is no longer needed.
type garbage struct {
	bytes      int64 // of PUT entries that were replaced or deleted
	tombstones int   // DELETE entries
}

// measure finds out how much is dead in which segment, as far as that is not known yet.
func (r *Repository) measure() error {
	slices.SortFunc(r.deaths, location.compare)
	for _, loc := range r.deaths {
		r.bury(loc)
	}
	r.deaths = nil
	for len(r.unmeasured) > 0 {
		n := r.unmeasured[len(r.unmeasured)-1]
		g, err := r.measureSegment(n)
		switch {
		case err == nil:
			r.garbage[n] = g
			r.candidates[n] = true
		case errors.Is(err, fs.ErrNotExist):
		case isDamage(err):
			r.garbage[n] = garbage{bytes: 1} // something, so that tombstones are kept for it
		default:
			return err
		}
		r.unmeasured = r.unmeasured[:len(r.unmeasured)-1]
	}
	return nil
}

// bury adds a dead PUT entry to its segment's garbage. One that cannot be read counts a byte: that there is something
// dead must be known, how much is a matter of economy.
func (r *Repository) bury(loc location) {
	size := int64(1)
	if s, err := r.segments.acquire(loc.segment); err == nil {
		var h [segment.HeaderSize]byte
		if n, _ := s.ReadAt(h[:], int64(loc.offset)); n == len(h) {
			if e, err := segment.ParseHeader(h[:]); err == nil {
				size = int64(e.Size)
			}
		}
		s.release()
	}
	g := r.garbage[loc.segment]
	g.bytes += size
	r.garbage[loc.segment] = g
	r.candidates[loc.segment] = true
}

func (r *Repository) measureSegment(n uint32) (g garbage, err error) {
	s, err := r.segments.acquire(n)
	if err != nil {
		return g, err
	}
	defer s.release()
	scan := segment.NewScanner(s, s.Size())
	for scan.Scan() {
		switch e := scan.Entry(); e.Tag {
		case segment.Delete:
			g.tombstones++
		case segment.Put:
			loc, ok, err := r.index.lookup(e.ID)
			if err != nil {
				return g, err
			}
			if !ok || loc != (location{n, uint32(e.Offset)}) {
				g.bytes += int64(e.Size)
			}
		}
	}
	return g, scan.Err()
}
