// Package fsck finds out whether what archives need is there and whole: the manifest, the archives' records, their items,
// and the chunks of their files. It mends what can be mended, and heals what an earlier repair had to patch.
//
// A check looks at everything before anything is changed:
//
//	objects ──▶ (verify: fetch, open, compare the id) ──▶ manifest, or the archives found ──▶ records ──▶ items ──▶ chunks
//
// What a repair does about it is one transaction, so that it is done as a whole or not at all, and finds nothing to do when
// it is done again:
//
//   - A manifest that is lost is made anew of the archives' records that are found.
//   - An archive whose record is lost is forgotten. Those of its items that are found go to an archive of their own.
//   - Items of which a chunk of the stream is lost are left out, with the hard links to them, and the stream is written
//     anew from those that are sound.
//   - In the place of a chunk of a file that is lost come as many zeros. The item remembers which chunk it was
//     ([archive.Item.ChunksHealthy]) and the manifest that there is something to heal ([archive.Manifest.Lost]): as soon
//     as the chunk is stored once more, a repair or [Heal] puts it back.
//   - A size that differs from that of a chunk whose content is right is corrected.
//   - An object whose content is wrong is set aside in a file beside the log, and forgotten.
//   - Objects that nothing refers to are deleted, unless it is not sure that nothing does.
//   - What a newer garret has made is no damage. It is told, and stays as it is: the object, the archives that need it to be
//     known, and all objects that nothing refers to as far as this program can see.
//
// A check takes 33 bytes of memory for each object of the repository, 49 when it verifies their content, so 100 or 150 MB
// for 3 million, of which the garbage collector may make twice as much; besides it a little for each chunk of the archives'
// items (see piece).
package fsck

import (
	"context"
	"errors"
	"fmt"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// Kind is what has been found.
type Kind string

// The kinds of findings.
const (
	// LostManifest: there is no manifest, or it cannot be opened or read.
	LostManifest Kind = "lost manifest"
	// LostArchive: an archive's record is missing or cannot be read.
	LostArchive Kind = "lost archive"
	// UnknownArchive: an archive's record, or a part of its items, was made by a newer garret. It is no damage: a repair leaves
	// the archive alone, and deletes no object that nothing refers to.
	UnknownArchive Kind = "unknown archive"
	// UnknownChunk: a part of a file was made by a newer garret. It is no damage, and left alone.
	UnknownChunk Kind = "unknown chunk"
	// NotAnArchive: what looks like an archive's record, and was found in search of them, is the content of a file.
	NotAnArchive Kind = "not an archive"
	// LostItems: a part of the stream of items is missing or cannot be read.
	LostItems Kind = "lost items"
	// LostLink: the item is a hard link to an item that is lost.
	LostLink Kind = "lost link"
	// LostChunk: a part of a file is missing, or its content is wrong.
	LostChunk Kind = "lost chunk"
	// DamagedLink: the item is a hard link to a file of which a part is lost.
	DamagedLink Kind = "damaged link"
	// WrongSize: the item states another size of a chunk than it has.
	WrongSize Kind = "wrong size"
	// Healable: what was lost of a file is there again.
	Healable Kind = "healable"
	// Orphans: there are objects that nothing refers to.
	Orphans Kind = "orphans"
)

// A Finding is something that is wrong.
type Finding struct {
	Kind         Kind
	Archive      string         // empty: it is not about an archive
	Path         string         // of the item concerned; empty: the archive as such
	Offset, Size int64          // the part of the file that is concerned, in bytes; no size: the item or the archive as such
	Object       *repository.ID // the first object that is missing or damaged; nil: it is not about one
	Err          error
}

func (f Finding) String() string {
	var s string
	switch {
	case f.Archive == "":
	case f.Path == "":
		s = fmt.Sprintf("archive %q: ", f.Archive)
	default:
		s = fmt.Sprintf("archive %q, %q: ", f.Archive, f.Path)
	}
	if f.Size > 0 {
		s += fmt.Sprintf("bytes %d to %d ", f.Offset, f.Offset+f.Size-1)
		switch f.Kind {
		case Healable:
			s += "can be healed: "
		case WrongSize:
			s += "have another size: "
		case UnknownChunk:
			s += "are not known: "
		default:
			s += "are lost: "
		}
	}
	return s + f.Err.Error()
}

// A Report says what was looked at, what was found, and what a repair is going to do.
type Report struct {
	Objects  int64 // in the repository
	Archives int64 // that were looked at
	Items    int64
	Chunks   int64 // different ones of files, those that are there
	Verified int64 // objects whose content was compared with their id
	Findings int64
	Unknown  int64 // those of them that are about what a newer garret has made: there is nothing to mend

	Rebuilt      bool     // the manifest is lost
	Found        []string // names of the archives found in its place
	Dropped      []string // names of archives that are lost
	Salvaged     int64    // items of archives that are lost
	SalvagedAs   string   // the archive that they go to
	Rewritten    int64    // archives whose items change
	Gaps         int64    // in streams of items
	LostLinks    int64    // hard links to items that are lost
	Patched      int64    // files of which something is lost
	PatchedBytes int64
	Healable     int64 // files of which something that was lost is there again
	Resized      int64 // files of which a size is corrected
	Damaged      int64 // objects whose content is wrong, and that something refers to
	Orphans      int64
	OrphanBytes  int64 // their length as stored
	KeepsOrphans bool  // a repair does not delete them, as it is not sure that nothing refers to them

	// What is no finding:
	Wounded int64 // files that a repair has patched before, and of which something is lost still
	Foreign int64 // objects that nothing refers to and that the key does not open: they are left alone

	Partial bool     // the time was over before all was done
	Next    Position // where to go on, if Partial

	// StoreDamaged says that an object could not be read because the repository itself is damaged. That must be mended
	// before the archives can be.
	StoreDamaged bool
	// NonceEnd is the greatest envelope.NonceEnd of the objects that were looked at.
	NonceEnd uint64
}

// OK reports whether nothing was found.
func (r *Report) OK() bool { return r.Findings == 0 }

// Mends reports whether a repair has anything to do.
func (r *Report) Mends() bool {
	rest := r.Findings - r.Unknown
	if r.KeepsOrphans && r.Orphans > 0 {
		rest--
	}
	return rest > 0
}

// A Position is how far a check has come that is done in parts. Objects and archives that are new or have moved since are
// behind it.
type Position struct {
	Data     repository.Place `json:"data"`     // objects before it are verified
	Object   string           `json:"object"`   // the same by its id, in a store whose objects have no places
	Verified bool             `json:"verified"` // all are
	Time     time.Time        `json:"time"`     // archives up to the one of this time and name have been looked at
	Archive  string           `json:"archive"`
}

// A Store is the repository. It must be safe for concurrent use, and nobody else may change it meanwhile.
//
// One that has the method of placer is verified in the order in which the objects lie there. One that has that of keeper
// keeps what is damaged; without it, it is only forgotten.
type Store interface {
	Has(ctx context.Context, id repository.ID) (bool, error)
	// Get returns an envelope, or an error that matches repository.ErrNotFound or repository.ErrIntegrity if it is lost.
	// With any other error the check ends.
	Get(ctx context.Context, id repository.ID) ([]byte, error)
	// List returns at most limit ids that come behind marker, or the first ones if it is nil.
	List(ctx context.Context, limit int, marker *repository.ID) ([]repository.ID, error)
	Put(ctx context.Context, id repository.ID, env []byte) error
	Delete(ctx context.Context, id repository.ID) error
	Commit(ctx context.Context) error
}

type placer interface {
	Places(ctx context.Context, ids []repository.ID) ([]repository.Place, error)
}

type keeper interface {
	WriteFile(name string, data []byte) error
}

// Options are how a check is done.
type Options struct {
	// VerifyData fetches and opens every object, and compares its content with its id.
	VerifyData bool
	// Lost, if not nil, tells of objects that are to be taken as missing, though the store has them. There is no repair
	// then: it is a look at what will be to repair.
	Lost func(repository.ID) bool
	// Report, if not nil, is called with each finding, by one goroutine at a time.
	Report func(Finding)
	// Progress, if not nil, counts along.
	Progress *Progress
	// Until, if not zero, is when a check ends though it is not at its end, but has done a little. It goes on from
	// Report.Next, if that is given as From. When damage is found, all archives are looked at for what it hits, whatever the time.
	Until time.Time
	From  Position
	// Workers is how many objects are opened at a time; 0: one for each processor.
	Workers int
}

// A Check is one check of a repository's archives, and the repair of what it has found. It is for one goroutine.
type Check struct {
	Options
	store   Store
	key     *envelope.Key
	objects *objects
	report  Report

	heals bool // nothing is mended but what was lost and is there again

	env        []byte // the manifest's; nil: there is none
	manifest   *archive.Manifest
	candidates []candidate // archives' records that were found
	rewrite    map[string]bool
	dangling   map[string]map[string]bool // by archive: what hard links refer to and is lost
	pieces     map[repository.ID]*piece
	salvaged   []repository.ID          // chunks with items of archives that are lost
	wounded    wounds                   // what is lost when the repair is done
	added      map[repository.ID]uint32 // objects that the repair refers to, and their lengths as stored
	whole      bool                     // everything has been looked at, and as it is
}

// New returns a check of the archives of a repository with the key.
func New(store Store, key *envelope.Key, o Options) *Check {
	if o.Report == nil {
		o.Report = func(Finding) {}
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	return &Check{
		Options:  o,
		store:    store,
		key:      key,
		rewrite:  map[string]bool{},
		dangling: map[string]map[string]bool{},
		pieces:   map[repository.ID]*piece{},
		added:    map[repository.ID]uint32{},
	}
}

// Archives is a check without options of the archives in a repository.
func Archives(ctx context.Context, store Store, cat *catalog.Catalog, report func(Finding)) (*Report, error) {
	return New(store, cat.Key, Options{Report: report}).Run(ctx)
}

// Run looks at everything, reports what it finds and changes nothing. It is called once. An error is one that keeps it
// from going on: of the store, or a manifest of a version that is not known.
func (c *Check) Run(ctx context.Context) (*Report, error) {
	var err error
	if c.objects, err = listObjects(ctx, c.store, c.Lost); err != nil {
		return nil, fmt.Errorf("list the objects: %w", err)
	}
	c.report.Objects = int64(len(c.objects.ids))
	if err := c.readManifest(ctx); err != nil {
		return nil, err
	}
	rebuild := c.manifest == nil
	if (c.VerifyData && !c.From.Verified) || rebuild {
		if err := c.verify(ctx, rebuild); err != nil {
			return nil, err
		}
	}
	if rebuild {
		c.rebuildManifest()
	}
	whole := c.From.Archive == ""
	if !c.report.Partial || c.objects.anyDamaged() {
		done, err := c.archives(ctx)
		if err != nil {
			return nil, err
		}
		whole = whole && done && !c.report.Partial
		if rebuild {
			c.dropContent()
		}
	} else {
		whole = false
	}
	if whole && !c.heals && (rebuild || len(c.report.Dropped) > 0) {
		if err := c.salvage(ctx); err != nil {
			return nil, err
		}
	}
	if whole {
		if err := c.orphans(ctx); err != nil {
			return nil, err
		}
		c.whole = c.Lost == nil
	}
	c.report.Rewritten = int64(len(c.rewrite))
	c.report.Chunks, c.report.Damaged = c.objects.count(content), c.objects.count(damaged|wanted)
	return &c.report, nil
}

// find reports a finding.
func (c *Check) find(f Finding) {
	c.report.Findings++
	if f.Kind == UnknownArchive || f.Kind == UnknownChunk {
		c.report.Unknown++
	}
	c.Report(f)
}

// isLate reports whether a check that is done in parts has had its time.
func (c *Check) isLate() bool { return !c.Until.IsZero() && !time.Now().Before(c.Until) }

// read returns the data of an object that something refers to, and takes note if it is lost.
func (c *Check) read(ctx context.Context, id repository.ID) ([]byte, error) {
	if err := c.absent(id); err != nil {
		return nil, err
	}
	data, _, err := c.open(ctx, id)
	return data, c.note(id, err)
}

// absent returns why an object that something refers to is known to be lost, or nil.
func (c *Check) absent(id repository.ID) error {
	i := c.objects.find(id)
	switch {
	case i < 0 || c.objects.marks[i].has(gone):
		return fmt.Errorf("object %v: %w", id, repository.ErrNotFound)
	case c.objects.marks[i].has(damaged):
		c.objects.marks[i] |= wanted
		return fmt.Errorf("object %v: its content is wrong: %w", id, repository.ErrIntegrity)
	}
	return nil
}

// note takes note of what the error of open says about an object that something refers to, and returns it.
func (c *Check) note(id repository.ID, err error) error {
	var wrong *contentError
	switch {
	case isNewer(err):
		c.objects.mark(id, unknown)
	case errors.As(err, &wrong):
		c.objects.mark(id, damaged|wanted)
	case isLost(err):
		c.objects.mark(id, gone)
		c.report.StoreDamaged = true
	}
	return err
}

// isNewer reports whether an error says that something is not damaged, but made by a newer garret.
func isNewer(err error) bool { return errors.Is(err, repository.ErrNewer) }

// isLost reports whether an error is about one object alone, which is missing or damaged.
func isLost(err error) bool { return err != nil && catalog.Lost(err) && !isNewer(err) }

// contentError says that an object was read as it is stored, but is not what its id says. It matches ErrIntegrity.
type contentError struct {
	id  repository.ID
	err error
}

func (e *contentError) Error() string { return fmt.Sprintf("object %v: %v", e.id, e.err) }

func (e *contentError) Unwrap() error { return e.err }

// open fetches and opens an object, twice if it seems damaged: that may have happened on the way. An error of which isNewer
// holds comes with the envelope. It may be called concurrently.
func (c *Check) open(ctx context.Context, id repository.ID) (data, env []byte, err error) {
	for range 2 {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if env, err = c.store.Get(ctx, id); err != nil {
			if !isLost(err) {
				return nil, nil, fmt.Errorf("read object %v: %w", id, err)
			}
			continue
		}
		if data, err = c.key.Open(&id, env); err == nil {
			return data, env, nil
		}
		if isNewer(err) {
			return nil, env, fmt.Errorf("object %v: %w", id, err)
		}
		err = &contentError{id, err}
	}
	return nil, env, err
}
