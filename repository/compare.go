package repository

import (
	"context"
	"errors"
	"io/fs"
	"slices"
)

// isBroken reports whether the segment of a location is damaged, missing, or cut off before it.
func (c *check) isBroken(loc location) bool {
	size, ok := c.scanned[loc.segment]
	return !ok || int64(loc.offset) >= size || slices.Contains(c.damaged, loc.segment)
}

// isProof reports whether what the index has of an object, and the segments do not, is lost, so that what they have of it is
// an older value. In the same segment it may as well be the newest, which has moved because something before it is gone. An index
// of another program has no checksums, and who has come to use it since does not know better.
func (c *check) isProof(want, got location) bool {
	_, isThere := c.scanned[want.segment]
	if !isThere || slices.Contains(c.damaged, want.segment) || c.r.hasOwnIndex() && c.isBroken(want) {
		return true
	}
	return got.segment != want.segment && c.r.hasOwnIndex()
}

// isThere reports whether the object that the index has at a location can be read there. In the log, what comes later
// counts, unless the index has come up to that and says otherwise: then a segment is not the one that it was. And the
// reference's compaction is known to put an old DELETE behind the PUT of the same transaction.
func (c *check) isThere(loc location, id ID) (bool, error) {
	if got, ok := c.log.get(id); ok && loc.before(got) && !(c.r.hasOwnIndex() && int64(got.segment) <= c.r.replayed) {
		return false, nil
	}
	_, err := c.r.read(loc, id)
	if errors.Is(err, fs.ErrNotExist) || isDamage(err) {
		return false, nil
	}
	return err == nil, err
}

// isPart reports whether some segments have not been read.
func (c *check) isPart() bool { return c.o.From > 0 || c.report.Partial }

// covers reports whether a segment is one of those that were to be read.
func (c *check) covers(n uint32) bool {
	return n >= c.o.From && (!c.report.Partial || n < c.report.Next)
}

// compare holds the index that was loaded against the segments.
func (c *check) compare(ctx context.Context) error {
	index := &c.r.index
	// An index with checksums of its own is believed when it says that something was deleted: a segment that is missing, or
	// cut off between two entries, leaves no other trace.
	explained := len(c.damaged) > 0 || c.r.hasOwnIndex()
	missing := map[uint32]bool{}
	misnamed := map[location]bool{} // where the index has objects that are not there
	unseen := 0
	var inner error
	err := index.walk(nil, func(id ID) bool {
		if ctx.Err() != nil {
			return false
		}
		var want location
		if want, _, inner = index.lookup(id); inner != nil {
			return false
		}
		if !c.covers(want.segment) {
			return true
		}
		got, ok := c.log.get(id)
		if !ok {
			unseen++
		}
		if ok && (got == want || c.r.hasMoved(want, got)) {
			return true
		}
		if readable, err := c.isThere(want, id); readable || err != nil {
			inner = err
			c.saved = append(c.saved, savedObject{id, want})
			c.find(Finding{
				Kind: IndexMismatch, Segment: want.segment, Offset: int64(want.offset), Object: &id,
				Detail: "it is sound, but the segments have something else behind it",
			})
			return inner == nil
		}
		lost := Finding{Kind: LostObject, Segment: want.segment, Offset: int64(want.offset), Object: &id}
		if ok && want.before(got) {
			lost.Kind, lost.Detail = IndexMismatch, "the segments have a later value"
			c.find(lost)
			return true
		}
		if ok {
			if !c.isProof(want, got) {
				lost.Kind, lost.Detail = IndexMismatch, "the segments have it elsewhere"
				c.find(lost)
				return true
			}
			lost.Detail = "an older value is still there"
			c.undo = append(c.undo, id)
		}
		if c.isBroken(want) {
			explained = true
		} else {
			misnamed[want] = true
		}
		if _, ok := c.scanned[want.segment]; !ok && !missing[want.segment] {
			missing[want.segment] = true
			c.find(Finding{Kind: MissingSegment, Segment: want.segment, Detail: "the index has objects in it"})
		}
		c.find(lost)
		return true
	})
	if err = errors.Join(err, inner, ctx.Err()); err != nil {
		if !isDamage(err) {
			return err
		}
		c.find(Finding{Kind: DamagedIndex, Segment: uint32(max(c.last, 0)), Detail: err.Error()})
		return nil
	}
	if c.isPart() || c.log.live == index.count-unseen {
		return nil
	}
	ids := make([]ID, 0, 16)
	for id := range c.log.all {
		_, ok, err := index.lookup(id)
		if isDamage(err) {
			c.find(Finding{Kind: DamagedIndex, Segment: uint32(max(c.last, 0)), Detail: err.Error()})
			return nil
		}
		if err != nil {
			return err
		}
		if !ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	for _, id := range ids {
		loc, _ := c.log.get(id)
		f := Finding{Kind: IndexMismatch, Segment: loc.segment, Offset: int64(loc.offset), Object: &id}
		f.Detail = "the index does not have it"
		if explained && !misnamed[loc] {
			f.Kind, f.Detail = UndeletedObject, "what held its deletion must have been lost"
			c.undo = append(c.undo, id)
		}
		c.find(f)
	}
	return nil
}
