package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"garret/repository/hashindex"
	"garret/repository/segment"
	"garret/repository/storage"
)

// What a repository makes of segments and indexes that are damaged, lost, or of another history.

// TestStaleForeignIndex has an index and hints, as the reference writes them, of transactions that are lost. They must not
// be taken for an index of what is committed later, under the same number.
func TestStaleForeignIndex(t *testing.T) {
	mem := transactions(t, 10)
	dropIndex(mem, nil, ownPrefix)
	lose(mem, 8, 9, 10)
	r := openIn(t, mem, plain())
	mustFind(t, mustCheck(t, r, false), MissingSegment, 10)
	want := valuesOf(1, 7)
	for i := 21; i <= 23; i++ {
		putCommit(t, r, i, valueOf(i))
		want[numbered(i)] = valueOf(i)
	}
	mustClose(t, r)
	mustHold(t, mem, want, "committed anew")
}

// TestStaleFutureIndex is the same with tables, which say for certain that something was lost.
func TestStaleFutureIndex(t *testing.T) {
	mem := transactions(t, 10)
	lose(mem, 8, 9, 10)
	if _, err := OpenIn(context.Background(), mem, plain()); !errors.Is(err, ErrCheckNeeded) {
		t.Fatalf("open: %v", err)
	}
	r := openForCheckIn(t, mem, plain())
	mustFind(t, mustCheck(t, r, true), MissingSegment, 10)
	want := valuesOf(1, 7)
	for i := 21; i <= 23; i++ {
		putCommit(t, r, i, valueOf(i))
		want[numbered(i)] = valueOf(i)
	}
	mustClose(t, r)
	mustHold(t, mem, want, "committed anew")
}

// TestStaleIndexAbortedTransaction interrupts a transaction whose segment has the number of an index of a lost one. That
// index must not make it a committed one.
func TestStaleIndexAbortedTransaction(t *testing.T) {
	mem := transactions(t, 10)
	dropIndex(mem, nil, ownPrefix)
	lose(mem, 10)
	r := openIn(t, mem, plain())
	for i := 50; i <= 51; i++ {
		mustPut(t, r, i, strings.Repeat("never committed", 200))
	}
	if err := r.appender.drain(); err != nil {
		t.Fatal(err)
	}
	left := mem.Clone()
	mustClose(t, r)
	mustHold(t, left, valuesOf(1, 9), "interrupted")
}

// TestRepairWithReaders reads objects that are sound while others are repaired.
func TestRepairWithReaders(t *testing.T) {
	const n = 1000
	mem := transaction(t, n)
	flip(mem, 3, 100)
	r := openIn(t, mem, plain())
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := n; !done.Load(); i-- {
				if _, err := r.Get(context.Background(), numbered(i)); err != nil {
					t.Errorf("object %d during the repair: %v", i, err)
					return
				}
				if i == n-400 {
					i = n
				}
			}
		})
	}
	report := mustCheck(t, r, true)
	done.Store(true)
	readers.Wait()
	mustFind(t, report, DamagedRange, 3)
	got, want := stateOf(t, r), valuesOf(1, n)
	maps.DeleteFunc(want, func(id ID, _ string) bool { _, ok := got[id]; return !ok })
	if len(want) != n-1 {
		t.Errorf("%d objects are left of %d, of which one was damaged", len(want), n)
	}
	compare(t, r, want, nil)
	mustClose(t, r)
	mustHold(t, mem, want, "repaired")
}

// TestEmptySegment has a committed segment of length zero, as a power failure can leave it on some file systems.
func TestEmptySegment(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		mem := transactions(t, 3)
		if !indexed {
			dropIndex(mem, nil, ownPrefix, indexPrefix, hintsPrefix)
		}
		mem.Damage(2, "", func([]byte) []byte { return []byte{} })
		r := openForCheckIn(t, mem, plain())
		mustFind(t, mustCheck(t, r, true), DamagedRange, 2)
		mustClose(t, r)
		want := valuesOf(1, 3)
		delete(want, numbered(2))
		mustHold(t, mem, want, "repaired")
	}
}

// TestDamagedVictimThreshold compacts a segment that turns out to be damaged behind an object that was moved out of it. The
// DELETE of that object must stay for as long as the segment does.
func TestDamagedVictimThreshold(t *testing.T) {
	mem := new(storage.Mem)
	o := plain()
	o.MaxSegmentSize = 100_000
	r := createIn(t, mem, o)
	putCommit(t, r, 9, "to be deleted") // segment 1
	mustPut(t, r, 1, "the value")       // segment 2
	mustDelete(t, r, 9)
	mustPut(t, r, 2, strings.Repeat("z", 100))
	mustCommit(t, r)
	putCommit(t, r, 5, "five")
	writeIndex(t, r)
	mustClose(t, r)
	flip(mem, 2, -20) // in the value of object 2
	o.CompactThreshold = 0.25
	r = openIn(t, mem, o)
	mustCompact(t, r) // moves object 1, and finds the damage
	mustPut(t, r, 20, strings.Repeat("w", 5000))
	mustDelete(t, r, 1)
	mustCommit(t, r)
	writeIndex(t, r)
	mustDelete(t, r, 20) // brings the segment with the DELETE of object 1 to the threshold
	mustCommit(t, r)
	mustNotHave(t, r, 1)
	mustClose(t, r)
	dropIndex(mem, nil, ownPrefix, indexPrefix, hintsPrefix)
	r = openForCheckIn(t, mem, o)
	mustCheck(t, r, true)
	mustNotHave(t, r, 1)
	mustClose(t, r)
	mustHold(t, mem, model{numbered(5): "five"}, "repaired")
}

// TestSalvageFromPayload damages a PUT whose value holds entries of other objects. These must not be taken for entries of
// the log, as far as the index knows better.
func TestSalvageFromPayload(t *testing.T) {
	mem := transactions(t, 3)
	r := openIn(t, mem, plain())
	wrong, erase := segment.PutHeader(numbered(1), []byte("wrong")), segment.DeleteEntry(numbered(3))
	value := slices.Concat(bytes.Repeat([]byte{7}, 50), wrong[:], []byte("wrong"), erase[:], bytes.Repeat([]byte{8}, 50))
	mustPut(t, r, 4, string(value))
	mustPut(t, r, 5, valueOf(5))
	mustCommit(t, r)
	writeIndex(t, r)
	mustClose(t, r)
	flip(mem, 4, segment.MagicSize+4) // the size of the entry
	r = openIn(t, mem, plain())
	mustFind(t, mustCheck(t, r, true), LostObject, 4)
	want := valuesOf(1, 5)
	delete(want, numbered(4))
	compare(t, r, want, nil)
	mustClose(t, r)
	mustHold(t, mem, want, "repaired")
}

// TestReferenceReordersDelete opens what the reference's compaction leaves of a transaction that deletes an object, stores
// another, and stores the first one again: a copy of the DELETE behind the PUT that followed it.
func TestReferenceReordersDelete(t *testing.T) {
	ctx := context.Background()
	mem := new(storage.Mem)
	mustClose(t, createIn(t, mem, plain()))
	lose(mem, 0)
	put := func(i int) []byte {
		header := segment.PutHeader(numbered(i), []byte(valueOf(i)))
		return append(header[:], valueOf(i)...)
	}
	write := func(n int64, entries ...[]byte) {
		all := slices.Concat([]byte(segment.Magic), slices.Concat(entries...), segment.CommitEntry[:])
		mem.Damage(n, "", func([]byte) []byte { return all })
	}
	erase := segment.DeleteEntry(numbered(1))
	write(3, put(1))
	write(4, erase[:], put(2))
	table := hashindex.NewSized(2, 2)
	table.Set(numbered(1), 3, uint32(segment.MagicSize))
	table.Set(numbered(2), 4, uint32(segment.MagicSize+segment.KeyedSize))
	var index bytes.Buffer
	if _, err := table.WriteTo(&index); err != nil {
		t.Fatal(err)
	}
	mem.Damage(-1, indexPrefix+"4", func([]byte) []byte { return index.Bytes() })
	mem.Damage(-1, hintsPrefix+"4", func([]byte) []byte { return (&hints{live: map[uint32]int{3: 1, 4: 1}}).encode() })

	r := openIn(t, mem, plain())
	if value, err := r.Get(ctx, numbered(1)); err != nil || string(value) != valueOf(1) {
		t.Errorf("get: %q %v", value, err)
	}
	mustFind(t, mustCheck(t, r, false), IndexMismatch, 3)
	mustCheck(t, r, true)
	compare(t, r, valuesOf(1, 2), nil)
	mustClose(t, r)
	mustHold(t, mem, valuesOf(1, 2), "repaired")
}

// TestFlippedCommit flips each bit of the last COMMIT, which no index knows of. It is no aborted transaction for that, and
// must not be removed as one.
func TestFlippedCommit(t *testing.T) {
	mem := new(storage.Mem)
	r := createIn(t, mem, plain())
	for i := 1; i <= 5; i++ {
		putCommit(t, r, i, valueOf(i))
	}
	mustClose(t, r)
	for bit := range 8 * segment.HeaderSize {
		if bit == 8*segment.HeaderSize-7 {
			continue // the only one of the last byte: without it the COMMIT is as an interrupted write leaves it
		}
		m := mem.Clone()
		m.Damage(5, "", func(b []byte) []byte {
			b[len(b)-segment.HeaderSize+bit/8] ^= 1 << (bit % 8)
			return b
		})
		before := segmentOf(t, m, 5)
		if _, err := OpenIn(context.Background(), m, plain()); !errors.Is(err, ErrCheckNeeded) {
			t.Fatalf("bit %d: open: %v", bit, err)
		}
		r := openForCheckIn(t, m, plain())
		mustFind(t, mustCheck(t, r, false), MissingCommit, 5)
		if !bytes.Equal(segmentOf(t, m, 5), before) {
			t.Errorf("bit %d: the segment was changed", bit)
		}
		mustCheck(t, r, true)
		mustClose(t, r)
		mustHold(t, m, valuesOf(1, 5), fmt.Sprintf("bit %d", bit))
	}
}

// TestLostSegmentBehindIndex loses a segment that is newer than the index and not the last one.
func TestLostSegmentBehindIndex(t *testing.T) {
	for n := 3; n <= 4; n++ {
		mem := transactions(t, 2)
		r := openIn(t, mem, plain())
		for i := 3; i <= 5; i++ {
			putCommit(t, r, i, valueOf(i))
		}
		mustClose(t, r)
		lose(mem, int64(n))
		// The reference, killed in the middle of a compaction, leaves the same: the repository opens, with a warning.
		warned := 0
		o := plain()
		o.Warn = func(error) { warned++ }
		r, err := OpenIn(context.Background(), mem, o)
		if err != nil || warned != 1 {
			t.Fatalf("open without segment %d: %v, %d warnings", n, err, warned)
		}
		mustClose(t, r)
		r = openForCheckIn(t, mem, o)
		mustFind(t, mustCheck(t, r, false), MissingSegment, uint32(n))
		mustCheck(t, r, true)
		mustClose(t, r)
		want := valuesOf(1, 5)
		delete(want, numbered(n))
		mustHold(t, mem, want, "repaired")
	}
}

// TestLostSegmentBehindDelta loses one where no other program can have removed it.
func TestLostSegmentBehindDelta(t *testing.T) {
	mem := transactions(t, 8)
	o := plain()
	o.tuning = tuning{tail: tail{bytes: 1 << 20, segments: 1000, entries: 5000}, layer: 1, tombstones: 50}
	r := openIn(t, mem, o)
	writeIndex(t, r)
	putCommit(t, r, 9, valueOf(9))
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	if base := r.index.base(); base == nil || len(r.index.tables) != 2 {
		t.Fatalf("there are %d tables", len(r.index.tables))
	}
	for i := 10; i <= 12; i++ {
		putCommit(t, r, i, valueOf(i))
	}
	mustClose(t, r)
	lose(mem, 11)
	if _, err := OpenIn(context.Background(), mem, plain()); !errors.Is(err, ErrCheckNeeded) {
		t.Fatalf("open: %v", err)
	}
	r = openForCheckIn(t, mem, plain())
	mustFind(t, mustCheck(t, r, false), MissingSegment, 11)
	mustCheck(t, r, true)
	mustClose(t, r)
	want := valuesOf(1, 12)
	delete(want, numbered(11))
	mustHold(t, mem, want, "repaired")
}

// TestTombstonesKeptByDamageReopened has more DELETEs than are worth keeping, all of which a damaged segment keeps needed.
// Not every commit may try to compact them again.
func TestTombstonesKeptByDamageReopened(t *testing.T) {
	mem := new(storage.Mem)
	o := plain()
	o.CompactThreshold = 0.25
	o.tuning = tuning{tail: tail{bytes: 1 << 20, segments: 1000, entries: 5000}, layer: 1, tombstones: 50}
	var ops atomic.Int64
	mem.Hook = func(string) error { ops.Add(1); return nil }
	r := createIn(t, mem, o)
	mustPut(t, r, 3, "x")
	putCommit(t, r, 2, strings.Repeat("live", 200)) // segment 1
	mustDelete(t, r, 3)
	mustCommit(t, r)
	writeIndex(t, r)
	mustClose(t, r)
	flip(mem, 1, -20)
	r = openIn(t, mem, o)
	for i := range 200 {
		mustPut(t, r, 100+i, "v")
	}
	mustCommit(t, r)
	for i := range 200 {
		mustDelete(t, r, 100+i)
	}
	mustCommit(t, r)
	for i := 1000; i < 1006; i++ {
		ops.Store(0)
		putCommit(t, r, i, valueOf(i))
	}
	if n := ops.Load(); n > 15 {
		t.Errorf("the last of several commits of an object takes %d operations", n)
	}
	mustCheck(t, r, true)
	mustClose(t, r)
	mustHold(t, mem, valuesOf(1000, 1005), "repaired")
}

// TestHealIsTriedOnce has a damaged index and a damaged segment. All objects that the sound part of the index knows must be
// readable, and no other: what is damaged in the segment may have replaced or deleted it. They are not to be had for the price
// of reading all segments for each of them. After a repair all other objects are there.
func TestHealIsTriedOnce(t *testing.T) {
	const n = 900
	mem := transaction(t, n)
	damaged := 0
	r := openIn(t, mem, plain())
	for i := 1; i <= n; i++ {
		loc, ok, err := r.index.lookup(numbered(i))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if at := int(loc.offset); loc.segment == 20 && at <= 100 && 100 < at+segment.KeyedSize+len(valueOf(i)) {
			damaged = i
		}
	}
	mustClose(t, r)
	names, _ := mem.Files()
	for _, name := range names {
		if strings.HasPrefix(name, indexPrefix) {
			mem.Damage(-1, name, func(b []byte) []byte {
				for i := 20_000; i < 32_000; i += 40 {
					b[i] ^= 4
				}
				return b
			})
		}
	}
	flip(mem, 20, 100)
	total := 0
	numbers, _ := mem.Segments(-1)
	for _, n := range numbers {
		total += len(segmentOf(t, mem, n))
	}
	s := &watched{Storage: mem}
	r = openIn(t, s, plain())
	readable, want := 0, valuesOf(1, n)
	delete(want, numbered(damaged))
	for i := 1; i <= n; i++ {
		_, ok, lookupErr := r.index.lookup(numbered(i))
		value, err := r.Get(context.Background(), numbered(i))
		switch {
		case err == nil && i != damaged && ok && string(value) == valueOf(i):
			readable++
		case err == nil || i != damaged && lookupErr == nil:
			t.Errorf("object %d is %q, %v; the index says %v, %v", i, value, err, ok, lookupErr)
		}
	}
	if damaged == 0 || readable < n/2 {
		t.Errorf("%d objects can be read of %d, all but %d", readable, n, damaged)
	}
	if err := r.Put(t.Context(), numbered(1), nil); !errors.Is(err, ErrCheckNeeded) {
		t.Errorf("it is written to: %v", err)
	}
	if read, limit := s.read.Load(), n*plain().MaxSegmentSize+int64(10*total); read > limit {
		t.Errorf("%d bytes were read, want at most %d", read, limit)
	}
	mustCheck(t, r, true)
	mustClose(t, r)
	mustHold(t, mem, want, "repaired")
}

// TestHoleBringsNoOldValueBack cuts the newest entries of objects out of a segment, exactly, so that those behind them come to
// lie where the index has others. What was replaced must not be read, before a repair nor after it.
func TestHoleBringsNoOldValueBack(t *testing.T) {
	for _, exact := range []bool{true, false} {
		t.Run(fmt.Sprintf("exact=%v", exact), func(t *testing.T) {
			mem := new(storage.Mem)
			r := createIn(t, mem, plain())
			for i := 1; i <= 6; i++ {
				putCommit(t, r, i, "old")
			}
			for i := 1; i <= 6; i++ { // entries of one length, in one segment
				mustPut(t, r, i, "new")
			}
			mustCommit(t, r)
			putCommit(t, r, 7, "new") // the segment that an index ends with says whether the index is one of this log
			writeIndex(t, r)
			loc := func(i int) location {
				loc, ok, err := r.index.lookup(numbered(i))
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				return loc
			}
			from, to := int(loc(3).offset)-segment.KeyedSize, int(loc(5).offset)-segment.KeyedSize // with their DELETEs
			n := loc(3).segment
			mustClose(t, r)
			mem.Damage(int64(n), "", func(b []byte) []byte {
				b = slices.Delete(b, from, to)
				if !exact {
					b[from] ^= 1
				}
				return b
			})

			// What was shifted is not where it was, and counts as lost: it cannot be told from what somebody put there.
			must := model{numbered(1): "new", numbered(2): "new", numbered(7): "new"}
			look := func(when string) {
				t.Helper()
				for i := 1; i <= 7; i++ {
					v, err := r.Get(t.Context(), numbered(i))
					if _, ok := must[numbered(i)]; err == nil && string(v) != "new" || ok && err != nil {
						t.Errorf("%s: object %d is %q, %v", when, i, v, err)
					}
				}
			}
			r = openForCheckIn(t, mem, plain())
			look("damaged")
			if report := mustCheck(t, r, true); report.OK() {
				t.Error("nothing is noticed")
			}
			look("repaired")
			if report := mustCheck(t, r, true); !report.OK() {
				t.Errorf("a second repair finds %v", report.Findings)
			}
			mustClose(t, r)
		})
	}
}
