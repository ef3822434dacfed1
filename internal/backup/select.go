package backup

import (
	"io"
	"path/filepath"
	"slices"
	"strings"

	"garret/internal/fsmeta"
	"garret/internal/pattern"
)

// A Selection says what of the files there are goes into an archive. What is left out is not read, and a directory that
// is left out is not gone into; but what is among Paths itself is stored even if the way to it is left out.
type Selection struct {
	// Exclude decides about each path by what was given, made clean, with the names below it added. A path among Paths can
	// be excluded as well.
	Exclude *pattern.Rules
	// Given is how Dir was given by the person who wrote the patterns; empty: not at all, as it is the current directory.
	Given string
	// ExcludeCaches leaves out directories with a valid CACHEDIR.TAG, see https://bford.info/cachedir/.
	ExcludeCaches bool
	// OneFileSystem leaves out what is not on the same file system as the one of Paths that it is below. The directory
	// on which another file system is mounted is left out too, as it cannot be seen.
	OneFileSystem bool

	// MayChange decides as Exclude does about the files of which it is nothing to report that they changed while they were
	// read. They are marked all the same.
	MayChange *pattern.Rules

	// FilesFrom are paths to store instead of Paths and Stdin, as Lines reads them: each itself, and nothing that is in it.
	// One that cannot be stored is reported as if a walk had met it; an error ends the backup. Only Exclude concerns them.
	FilesFrom PathList

	// Stdin is stored as a regular file with the path StdinName, and must be read to its end without an error: if not, the
	// backup is one. After a cancellation a goroutine may be left that waits for Stdin.
	Stdin     io.Reader
	StdinName string
}

// A Status says in one letter what became of an entry. The letters are Borg's.
type Status byte

// The statuses of entries.
const (
	StatusAdded     Status = 'A' // a regular file that is new
	StatusModified  Status = 'M' // one that was there already, with another content
	StatusUnchanged Status = 'U' // one that was there already, and has not been read again
	StatusChanged   Status = 'C' // one that is stored with a flaw, as it changed while it was read or may not be whole
	StatusWould     Status = '+' // a regular file that would be stored: all that a dry run knows of it
	StatusStdin     Status = 'i'
	StatusDir       Status = 'd'
	StatusSymlink   Status = 's'
	StatusHardlink  Status = 'h'
	StatusFIFO      Status = 'f'
	StatusChar      Status = 'c'
	StatusBlock     Status = 'b'
	StatusExcluded  Status = 'x'
	StatusError     Status = 'E' // it is not stored; Options.Warn was told why
)

// Listed is what became of an entry.
type Listed struct {
	Path   string // as in messages
	Status Status
	Rule   *pattern.Rule // what excluded it; nil: see Reason
	Reason string        // why it is excluded, if not by a rule
}

// leftOut says why an entry is left out.
type leftOut struct {
	rule   *pattern.Rule
	reason string
	skip   bool // it is one of Options.Skip
	socket bool
}

// leave leaves an entry out, which is not an event unless somebody listens.
func (w *walker) leave(e *entry, why *leftOut) {
	if w.List != nil || why.skip || why.socket {
		e.leftOut = why
		w.met <- e
	}
}

// leaveOut tells of an entry that is left out.
func (p *pipeline) leaveOut(e *entry) {
	if e.leftOut.skip {
		p.Skipped(e.path)
	}
	if e.leftOut.socket && p.Socket != nil {
		p.Socket(e.path)
	}
	if p.List != nil {
		p.List(Listed{Path: e.path, Status: StatusExcluded, Rule: e.leftOut.rule, Reason: e.leftOut.reason})
	}
}

// list tells what became of any other entry.
func (p *pipeline) list(e *entry, s Status) {
	if p.List != nil {
		p.List(Listed{Path: e.path, Status: s})
	}
}

// storedStatus returns the status of an entry that is stored.
func (e *entry) storedStatus() Status {
	switch e.item.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		return StatusDir
	case fsmeta.TypeSymlink:
		return StatusSymlink
	case fsmeta.TypeFIFO:
		return StatusFIFO
	case fsmeta.TypeChar:
		return StatusChar
	case fsmeta.TypeBlock:
		return StatusBlock
	}
	switch {
	case e.item.Source != "":
		return StatusHardlink
	case e.stdin:
		return StatusStdin
	case e.flaw != nil:
		return StatusChanged
	case e.reused:
		return StatusUnchanged
	case e.known:
		return StatusModified
	}
	return StatusAdded
}

// excluded leaves an entry out if a rule says so.
func (w *walker) excluded(e *entry, path string) bool {
	if w.Exclude.Len() == 0 {
		return false
	}
	given := w.root.givenBelow(path)
	excluded, rule := w.Exclude.Decide(given)
	if !excluded {
		return false
	}
	if r := w.pending[path]; r != nil && r.given == given { // it would be no other way
		delete(w.pending, path)
	}
	w.leave(e, &leftOut{rule: rule})
	return true
}

// givenBelow returns what the path given for a root becomes for what is below it, or itself, in the archive.
func (r *root) givenBelow(path string) string {
	switch {
	case path == r.path:
		return r.given
	case r.path != ".":
		if r.given == r.path {
			return path
		}
		return r.given + strings.TrimPrefix(path, r.path)
	case r.given == "/":
		return "/" + path
	}
	return r.given + "/" + path
}

// elsewhere leaves an entry out if it is not on the file system of its root, and has to be.
func (w *walker) elsewhere(e *entry, info *fsmeta.Info) bool {
	if !w.OneFileSystem {
		return false
	}
	if w.device == nil {
		w.device = &info.Dev
	}
	if info.Dev == *w.device {
		return false
	}
	w.leave(e, &leftOut{reason: "on another file system"})
	return true
}

// skipped leaves a directory out if it is one of Options.Skip, which is told once.
func (w *walker) skipped(e *entry, info *fsmeta.Info) bool {
	if !slices.Contains(w.Skip, info.FileID) {
		return false
	}
	w.leave(e, &leftOut{reason: reasonSkip, skip: !slices.Contains(w.told, info.FileID)})
	w.told = append(w.told, info.FileID)
	return true
}

const reasonSkip = "belongs to the repository"

// The tag of a directory whose content can be made again.
const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// isCache leaves a directory out if it has the tag of a cache: a regular file that begins with the signature.
func (w *walker) isCache(e *entry, d *fsmeta.Dir) bool {
	if !w.ExcludeCaches {
		return false
	}
	f, err := d.Open(cacheTag)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := fsmeta.Fstat(f); err != nil || info.Type() != fsmeta.TypeRegular {
		return false
	}
	tag := make([]byte, len(cacheSignature))
	if _, err := io.ReadFull(fsmeta.Reader(f), tag); err != nil || string(tag) != cacheSignature {
		return false
	}
	w.leave(e, &leftOut{reason: "a cache, by its " + cacheTag})
	return true
}

// mayChange reports whether a file may change while it is read: it, or a folder that it is in, is among MayChange.
func (w *walker) mayChange(path string) bool {
	if w.MayChange.Len() == 0 {
		return false
	}
	for given := w.root.givenBelow(path); ; {
		if may, _ := w.MayChange.Decide(given); may {
			return true
		}
		above := filepath.Dir(given)
		if above == given {
			return false
		}
		given = above
	}
}
