package repository

import "fmt"

// FindingKind is what a check has found.
type FindingKind string

// The kinds of findings.
const (
	// DamagedRange is a part of a segment that holds no sound entry. A repair sets the segment aside and keeps the rest.
	DamagedRange FindingKind = "damaged range"
	// LostObject is an object that the index knows and the segments no longer hold. A repair forgets it, and does not
	// bring back an older value of it.
	LostObject FindingKind = "lost object"
	// UndeletedObject is an object that had been deleted, says the index, while the segments, of which something is lost,
	// still hold it. A repair deletes it again.
	UndeletedObject FindingKind = "undeleted object"
	// IndexMismatch is an object of which the index does not know, or knows an older value only, without anything being lost
	// that would explain it. A repair makes a new index.
	IndexMismatch FindingKind = "index mismatch"
	// DamagedIndex is an index file, or a part of one, that is damaged. It is never believed, and costs only time: it is made
	// anew when it is needed, and by a repair.
	DamagedIndex FindingKind = "damaged index"
	// MissingSegment is a segment that the index refers to and that is not there.
	MissingSegment FindingKind = "missing segment"
	// MissingCommit is a transaction that an index says was committed and whose COMMIT entry is not there. A repair adds
	// one behind it.
	MissingCommit FindingKind = "missing commit"
)

// A Finding is one thing that is not as it should be.
type Finding struct {
	Kind    FindingKind
	Segment uint32
	Offset  int64 // in the segment, in bytes
	Length  int64 // in bytes; 0 if it is not about a range
	Object  *ID   // nil if it is not about one object
	Detail  string
}

func (f Finding) String() string {
	s := string(f.Kind)
	if f.Object != nil {
		s += fmt.Sprintf(" %v", *f.Object)
	}
	s += fmt.Sprintf(": segment %d", f.Segment)
	if f.Length > 0 {
		s += fmt.Sprintf(", bytes %d to %d", f.Offset, f.Offset+f.Length-1)
	} else if f.Offset > 0 {
		s += fmt.Sprintf(", byte %d", f.Offset)
	}
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}

// A Report is the result of a check.
type Report struct {
	Segments int   // that were read
	Entries  int   // sound ones in them
	Bytes    int64 // of the segments
	Objects  int   // as the segments have them; after a repair, as the repository has them then
	Findings []Finding
	Repaired bool

	Last    uint32 // the last segment that was read
	Partial bool   // the time was over before all segments were read
	Next    uint32 // the one to go on with, if Partial
}

// OK reports whether all is well: nothing was found.
func (r *Report) OK() bool { return len(r.Findings) == 0 }
