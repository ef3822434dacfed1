package repository

import (
	"testing"
	"time"

	"garret/repository/storage"
)

// checkInParts checks a repository a segment at a time, and calls between before each part but the first.
func checkInParts(t *testing.T, mem *storage.Mem, between func(r *Repository)) (findings []Finding, parts int) {
	t.Helper()
	r := openIn(t, mem, plain())
	defer mustClose(t, r)
	o := CheckOptions{Until: time.Unix(1, 0)} // which is over
	for {
		report, err := r.Check(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		parts++
		findings = append(findings, report.Findings...)
		if !report.Partial {
			return findings, parts
		}
		if report.Segments != 1 || report.Last < o.From || report.Next <= report.Last {
			t.Fatalf("from %d: %+v", o.From, report)
		}
		o.From = report.Next
		between(r)
	}
}

func TestCheckInPartsSeesAllSegments(t *testing.T) {
	nothing := func(*Repository) {}
	if found, parts := checkInParts(t, transactions(t, 10), nothing); len(found) > 0 || parts < 10 {
		t.Errorf("a sound one, in %d parts: %v", parts, found)
	}
	mem := transactions(t, 10)
	flip(mem, 3, 52)
	flip(mem, 9, 52)
	found, _ := checkInParts(t, mem, nothing)
	for _, n := range []uint32{3, 9} {
		mustFind(t, &Report{Findings: found}, DamagedRange, n)
		mustFind(t, &Report{Findings: found}, LostObject, n)
	}
	if len(found) != 4 {
		t.Errorf("found %v", found)
	}
	mem = transactions(t, 10)
	lose(mem, 4)
	found, _ = checkInParts(t, mem, nothing)
	mustFind(t, &Report{Findings: found}, MissingSegment, 4)
}

// TestCheckInPartsWhileSegmentsMove compacts and writes between the parts: what is damaged is found all the same, and what
// is sound is not taken for lost.
func TestCheckInPartsWhileSegmentsMove(t *testing.T) {
	i := 0
	churn := func(r *Repository) {
		if i++; i > 8 {
			return
		}
		mustPut(t, r, 100+i, valueOf(i))
		mustDelete(t, r, i)
		mustCommit(t, r)
		mustCompact(t, r)
	}
	if found, _ := checkInParts(t, transactions(t, 10), churn); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestPartOfACheckRepairsNothing(t *testing.T) {
	r := openIn(t, transactions(t, 3), plain())
	defer mustClose(t, r)
	for _, o := range []CheckOptions{{Repair: true, From: 1}, {Repair: true, Until: time.Now()}} {
		if _, err := r.Check(t.Context(), o); err == nil {
			t.Errorf("%+v is done", o)
		}
	}
}

func TestPlacesFollowTheLog(t *testing.T) {
	r := openIn(t, transactions(t, 5), plain())
	defer mustClose(t, r)
	ids := []ID{numbered(3), numbered(1), numbered(99), numbered(5)}
	places, err := r.Places(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if places[1].Compare(places[0]) >= 0 || places[0].Compare(places[3]) >= 0 || places[2] != (Place{}) {
		t.Errorf("they are %v", places)
	}
	before := places[1]
	putCommit(t, r, 1, "anew")
	if places, err = r.Places(t.Context(), ids); err != nil || places[1].Compare(before) <= 0 || places[1].Compare(places[3]) <= 0 {
		t.Errorf("what was replaced is at %v, %v", places[1], err)
	}
}
