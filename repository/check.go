package repository

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"garret/repository/segment"
)

// CheckOptions are how a check is done.
type CheckOptions struct {
	// Repair mends what was found. It needs the exclusive lock, and takes it. Nothing is destroyed: a damaged segment is
	// kept beside the new one under a name that ends in ".beforerecover".
	Repair bool
	// Confirm, if not nil, is called before a repair changes anything, with all that was found; the repair is not done if
	// it returns false. It must not call the repository.
	Confirm func(*Report) bool
	// Progress, if not nil, is called after each segment that was read.
	Progress func(done, total int)

	// From is the first segment to read, and Until, if not zero, when to stop reading: a check can be done in parts, each
	// of which begins with Report.Next of the one before. That stays right when segments are compacted or written
	// meanwhile, as what is new is always behind. A part verifies the entries of its segments and that the objects are
	// there that the index has in them, but not that the index knows of all there are. At least one segment is read. A
	// repair needs the whole check.
	From  uint32
	Until time.Time
}

// Check reads all segments, verifies every entry's checksum, and compares the index with what the segments hold. There
// must be no open transaction. The report is complete also when damage was found: that is no error.
//
// A repair can be interrupted and done again at any time, and finds nothing to do after it was done.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (*Report, error) {
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := r.idle(); err != nil && !errors.Is(err, ErrCheckNeeded) {
		return nil, fmt.Errorf("check: %w", aboutPlaces(err))
	}
	if o.Repair && (o.From > 0 || !o.Until.IsZero()) {
		return nil, errors.New("check: a repair needs the whole check, and not a part of it")
	}
	if o.Repair && r.opts.AppendOnly {
		return nil, fmt.Errorf("repair: %w", ErrAppendOnly)
	}
	if o.Repair {
		if err := r.upgrade(ctx); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	if r.Damage() != nil {
		found, err := r.asFound(ctx)
		if err != nil {
			return nil, fmt.Errorf("check: %w", aboutPlaces(err))
		}
		defer found.index.close()
		r = found
	}
	c := &check{r: r, o: o, report: &Report{}, log: newLogTable(r.index.count), scanned: map[uint32]int64{}}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("check: %w", aboutPlaces(err))
	}
	if !o.Repair || c.report.OK() || o.Confirm != nil && !o.Confirm(c.report) {
		return c.report, nil
	}
	if err := c.repair(ctx); err != nil {
		return c.report, fmt.Errorf("repair: %w", err)
	}
	c.report.Repaired, c.report.Objects = true, r.index.count
	return c.report, nil
}

// check is one run of Check.
type check struct {
	r       *Repository
	o       CheckOptions
	report  *Report
	last    int64            // the last segment of the state that is checked
	trusted bool             // the index was loaded and says what was committed
	log     *logTable        // the index as the segments give it
	scanned map[uint32]int64 // segments to their sizes
	damaged []uint32
	known   map[uint32][]int64 // offsets of entries in damaged segments, by the index
	undo    []ID               // objects that the segments hold and that are not to be brought back
	saved   []savedObject      // objects that are sound though the segments, read in order, do not have them
}

type savedObject struct {
	id ID
	at location
}

func (c *check) find(f Finding) { c.report.Findings = append(c.report.Findings, f) }

func (c *check) run(ctx context.Context) error {
	r := c.r
	sound := r.usable() == nil
	c.trusted = sound || r.isWitness
	if err := c.findLast(sound); err != nil {
		return err
	}
	if !sound && c.trusted {
		if err := c.catchUp(ctx); err != nil {
			return err
		}
	}
	if r.interrupted {
		c.find(Finding{Kind: IndexMismatch, Segment: uint32(max(c.last, 0)), Detail: "a repair was interrupted"})
	}
	if r.gap >= 0 {
		c.find(Finding{Kind: MissingSegment, Segment: uint32(r.gap), Detail: gapDetail})
	}
	all, err := r.store.Segments(-1)
	if err != nil {
		return err
	}
	if sound {
		if err := c.findStaleIndex(); err != nil {
			return err
		}
	}
	end := len(all)
	for end > 0 && int64(all[end-1]) > c.last {
		end--
	}
	begin, _ := slices.BinarySearch(all[:end], c.o.From)
	if err := c.scanAll(ctx, all[begin:end]); err != nil {
		return err
	}
	if c.trusted {
		if err := c.compare(ctx); err != nil {
			return err
		}
	}
	c.report.Objects = c.log.live
	return nil
}

// findStaleIndex looks for an index of a transaction that the log does not have. One that has its hints with it was
// written by somebody who had committed so far; an index alone may be anything.
func (c *check) findStaleIndex() error {
	n, err := c.r.newestIndex()
	if err != nil || n <= c.last {
		return err
	}
	hints, err := c.r.store.OpenFile(fmt.Sprintf("%s%d", hintsPrefix, n))
	if err != nil {
		return nil
	}
	c.find(Finding{
		Kind: MissingSegment, Segment: uint32(n),
		Detail: fmt.Sprintf("there is an index of this transaction, and the last is that of segment %d", c.last),
	})
	return hints.Close()
}

// findLast finds out up to which segment the log was committed. Where the COMMIT is gone, an index tells.
func (c *check) findLast(sound bool) error {
	r := c.r
	c.last = r.committed
	if sound {
		return nil
	}
	indexed, err := r.newestIndex()
	if err != nil {
		return err
	}
	claims := []int64{indexed}
	all, err := r.store.Segments(-1)
	if err != nil {
		return err
	}
	if st, _ := readState(r.store); st != nil {
		claims = append(claims, int64(st.transaction))
		st.close()
		if !slices.Contains(all, st.transaction) {
			c.find(Finding{Kind: MissingSegment, Segment: st.transaction, Detail: "it was committed, says the index"})
		}
	}
	r.listing = listing{}
	if c.last, err = r.lastCommitted(-1); err != nil {
		return err
	}
	claims = append(claims, r.damagedCommit)
	committed := c.last
	if committed < 0 {
		if c.last, err = r.lastWithEntries(); err != nil {
			return err
		}
	}
	for _, claim := range claims {
		for _, n := range all {
			if int64(n) <= claim {
				c.last = max(c.last, int64(n))
			}
		}
	}
	if c.last > committed {
		c.find(Finding{
			Kind: MissingCommit, Segment: uint32(c.last),
			Detail: lastCommitDetail(committed),
		})
	}
	return nil
}

func lastCommitDetail(committed int64) string {
	if committed < 0 {
		return "no segment is committed"
	}
	return fmt.Sprintf("it was committed, say an index or the rest of the commit; the last that is, is segment %d", committed)
}

// scannedSegment is what a segment holds.
type scannedSegment struct {
	number  uint32
	size    int64
	entries []segment.Entry // without COMMITs
	commits int
	damage  error
	err     error
}

// scanAll reads the segments, several at a time, and applies them in order.
func (c *check) scanAll(ctx context.Context, numbers []uint32) error {
	ctx, cancel := context.WithCancel(ctx)
	const readers = 4
	queue := make(chan chan scannedSegment, readers)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	scanners := sync.Pool{New: func() any { return new(segment.Scanner) }}
	running.Go(func() {
		defer close(queue)
		for i, n := range numbers {
			if i > 0 && !c.o.Until.IsZero() && !time.Now().Before(c.o.Until) {
				c.report.Partial, c.report.Next = true, n
				return
			}
			out := make(chan scannedSegment, 1)
			select {
			case queue <- out:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				scan := scanners.Get().(*segment.Scanner)
				defer scanners.Put(scan)
				out <- c.scan(n, scan)
			})
		}
	})
	done := 0
	for out := range queue {
		s := <-out
		if s.err != nil {
			return s.err
		}
		if err := c.add(s); err != nil {
			return err
		}
		c.report.Last = s.number
		if done++; c.o.Progress != nil {
			c.o.Progress(done, len(numbers))
		}
	}
	return ctx.Err()
}

func (c *check) scan(n uint32, scan *segment.Scanner) scannedSegment {
	s := scannedSegment{number: n}
	in, err := c.r.store.OpenSegment(n)
	if err != nil {
		s.err = fmt.Errorf("open segment %d: %w", n, err)
		return s
	}
	defer in.Close()
	s.size = in.Size()
	scan.Reset(in, in.Size())
	for scan.Scan() {
		if e := scan.Entry(); e.Tag == segment.Commit {
			s.commits++
		} else {
			s.entries = append(s.entries, e)
		}
	}
	if s.damage = scan.Err(); s.damage != nil && !isDamage(s.damage) {
		s.err = fmt.Errorf("read segment %d: %w", n, s.damage)
	}
	return s
}

// add applies a segment to the index that the check makes.
func (c *check) add(s scannedSegment) error {
	c.scanned[s.number] = s.size
	if s.damage != nil {
		c.damaged = append(c.damaged, s.number)
		if err := c.salvage(&s); err != nil {
			return err
		}
	}
	c.report.Segments++
	c.report.Bytes += s.size
	c.report.Entries += len(s.entries) + s.commits
	for _, e := range s.entries {
		switch e.Tag {
		case segment.Put:
			c.log.set(e.ID, location{s.number, uint32(e.Offset)})
		case segment.Delete:
			c.log.remove(e.ID)
		}
	}
	return nil
}

// salvage finds what is still sound in a damaged segment.
func (c *check) salvage(s *scannedSegment) error {
	known, err := c.knownOffsets(s.number)
	if err != nil {
		return err
	}
	in, err := c.r.store.OpenSegment(s.number)
	if err != nil {
		return fmt.Errorf("open segment %d: %w", s.number, err)
	}
	defer in.Close()
	s.entries, s.commits = s.entries[:0], 0
	ranges, err := segment.Salvage(in, in.Size(), known, func(e segment.Entry, _ []byte) error {
		if ok, err := c.isCredible(s.number, e); !ok {
			return err
		}
		s.entries = append(s.entries, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read segment %d: %w", s.number, err)
	}
	if len(ranges) == 0 { // there is not even a byte of it
		ranges = []segment.Range{{}}
	}
	for _, bad := range ranges {
		c.find(Finding{Kind: DamagedRange, Segment: s.number, Offset: bad.Offset, Length: bad.Length, Detail: s.damage.Error()})
	}
	return nil
}

// isCredible reports whether an entry found in a damaged segment is one of this log, as far as the index can tell, and not
// one within a value that was damaged: a PUT must be where the index has the object, and a DELETE must not come behind
// it. A true entry for which that does not hold is dead.
func (c *check) isCredible(n uint32, e segment.Entry) (bool, error) {
	if !c.trusted || e.Tag == segment.Commit {
		return true, nil
	}
	loc, ok, err := c.r.index.lookup(e.ID)
	if isDamage(err) {
		return true, nil
	}
	at := location{n, uint32(e.Offset)}
	if e.Tag == segment.Put {
		return ok && loc == at, err
	}
	return !ok || !loc.before(at), err
}

// knownOffsets returns where in a segment the index has objects, ascending. The index is walked once, for all segments.
func (c *check) knownOffsets(n uint32) ([]int64, error) {
	if !c.trusted {
		return nil, nil
	}
	if c.known == nil {
		c.known = map[uint32][]int64{}
		var inner error
		err := c.r.index.walk(nil, func(id ID) bool {
			var loc location
			if loc, _, inner = c.r.index.lookup(id); inner == nil {
				c.known[loc.segment] = append(c.known[loc.segment], int64(loc.offset))
			}
			return inner == nil
		})
		if err = errors.Join(err, inner); isDamage(err) {
			clear(c.known) // then without
		} else if err != nil {
			return nil, err
		}
	}
	slices.Sort(c.known[n])
	return c.known[n], nil
}
