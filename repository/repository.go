package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"garret/repository/segment"
	"garret/repository/storage"
)

// Options are how a repository is created or opened. A nil *Options is the same as an empty one.
type Options struct {
	// Exclusive takes the exclusive lock at once. Without it the lock is shared, and made exclusive by the first write:
	// two who do that at a time both fail with ErrLocked, so a program that is going to write should ask for it here.
	Exclusive bool
	// ReadOnly refuses all that would write, and never changes a file. A repository on a medium that cannot be written
	// to is opened so by itself.
	ReadOnly bool
	// Damaged opens for reading a repository that needs a repair too, where Open otherwise fails with ErrCheckNeeded: as
	// much as can be verified is read, Damage says what is wrong, and nothing is written. Whether it is damaged or not, all
	// that would write is refused, as with ReadOnly.
	Damaged bool
	// AppendOnly refuses, with ErrAppendOnly, all that would remove or replace what has been committed, other than the object
	// with the id of 32 zero bytes; nothing is compacted. A repository that is created so stays so for all who open it.
	AppendOnly bool
	// LockWait is how long to wait for a lock that another process holds: 0 is not at all, a negative value without
	// limit.
	LockWait time.Duration
	// CompactThreshold is the fraction of a segment that must be dead for a commit to copy the rest elsewhere and remove
	// it. 0 stands for DefaultCompactThreshold, CompactAlways for compaction of all that has anything dead in it, as the
	// reference does it, and a value above 1 for no compaction at all.
	CompactThreshold float64
	// Warn, if not nil, is called with errors that are no failure of the call in which they happen, such as a compaction
	// after a commit that found no room. It must not call the repository.
	Warn func(error)

	// MaxSegmentSize is the length in bytes beyond which a segment is ended, and SegmentsPerFolder the number of segments
	// in a folder, of a repository that is created. 0 stands for the defaults.
	MaxSegmentSize    int64
	SegmentsPerFolder uint32
	// Reserve is how many bytes a repository that is created keeps free for deletions and compactions on a full disk. 0
	// stands for as much as it takes to delete all objects at once and to copy one segment, a negative value for none. It
	// is written to the config, in which it can be changed later.
	Reserve int64

	tuning tuning
}

// tuning is what tests set smaller than is useful, to have more happen.
type tuning struct {
	tail       tail  // what is not yet worth a table
	layer      int   // entries below which a table is not left as it is
	tombstones int   // DELETE entries from which on they can be a reason for compaction
	base       int64 // bytes that a base may have to be written however little a compaction frees
}

var defaultTuning = tuning{
	tail:       tail{bytes: 4 << 20, segments: 32, entries: 2000}, // what a replay reads in a few milliseconds
	layer:      4000,
	tombstones: 16384,
	base:       1 << 20,
}

// Values of Options.CompactThreshold.
const (
	DefaultCompactThreshold = 0.25
	CompactAlways           = -1
)

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.CompactThreshold == 0 {
		d.CompactThreshold = DefaultCompactThreshold
	}
	if d.Warn == nil {
		d.Warn = func(error) {}
	}
	if d.MaxSegmentSize == 0 {
		d.MaxSegmentSize = DefaultMaxSegmentSize
	}
	if d.tuning == (tuning{}) {
		d.tuning = defaultTuning
	}
	if d.SegmentsPerFolder == 0 {
		d.SegmentsPerFolder = DefaultSegmentsPerFolder
	}
	return d
}

// A Repository is an open repository. Its methods may be called concurrently.
type Repository struct {
	store    storage.Storage
	medium   *failingMedium // the store, if what is damaged is read too
	config   config
	opts     Options
	lock     storage.Lock
	segments *segments
	listing  listing
	reserve  reserve

	// tx is held by Put and Delete, which may run side by side, and exclusively by what needs the transaction to stand
	// still: Commit, Rollback, Check, Compact, Close. Whoever holds it may read what only its exclusive holders, and the
	// one who begins a transaction, change: this group, index.tables and index.tail.
	tx            sync.RWMutex
	beginning     sync.Mutex // held by the one who begins a transaction
	exclusive     bool       // the lock
	committed     int64      // the last committed segment; -1 if there is none
	damagedCommit int64      // the last segment of a transaction whose COMMIT has wrong bits, or -1
	gap           int64      // a segment that is missing behind the tables, or -1
	replayed      int64      // the transaction from which on segments were replayed
	clean         bool       // nothing of an aborted transaction is there
	noted         bool       // garret.history says since when the log is whole
	unsynced      error      // why what was found could not be made durable: a sync that failed is not tried again
	settled       bool       // what was found is durable
	stale         bool       // there is an index of a transaction that does not exist
	tail          tail
	flushed       *state          // what garret.tables was written with last, by this Repository
	indexedAt     int64           // the transaction of the index on disk, if that is the one in use; 0 if it is not
	isWitness     bool            // the index is of use to a check, though a check is needed
	interrupted   bool            // a repair was interrupted, or is going on
	replaced      map[uint32]bool // the segments that it may have replaced; nil: any
	rebuilt       bool            // the index was rebuilt because it was damaged
	broken        error           // why nothing can be written: index and segments are damaged, which matches ErrCheckNeeded

	garbage        map[uint32]garbage
	deaths         []location      // PUT entries that are dead and not yet in garbage
	unmeasured     []uint32        // segments with something dead in them, of which is not known how much
	candidates     map[uint32]bool // segments that may have come to the threshold of compaction
	keptTombstones int             // DELETE entries that the last compaction of everything had to leave

	// mu is held for moments only.
	mu       sync.RWMutex
	index    index
	appender *appender      // nil outside of a transaction
	buried   []location     // PUT entries that the open transaction makes dead
	erased   map[uint32]int // DELETE entries that it has written, by segment
	damage   error          // what needs a repair, and is read all the same
	failed   error          // what ended the open transaction
	closed   bool
}

// tail is what would have to be replayed: the cost of the next open.
type tail struct {
	bytes    int64
	segments int
	entries  int
}

func (t tail) exceeds(budget tail) bool {
	return t.bytes > budget.bytes || t.segments > budget.segments || t.entries > budget.entries
}

// Create makes a new repository in the directory path, which must not exist or be empty (else ErrExists), and opens it
// exclusively. A creation that was interrupted can be done again. After an error there is no repository at path, or it is
// another program's, when the error matches ErrForeign.
func Create(ctx context.Context, path string, o *Options) (*Repository, error) {
	d, err := storage.CreateDir(path)
	if errors.Is(err, fs.ErrExist) {
		if err := recognizeFolder(path); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("create repository %q: %w", path, ErrExists)
	}
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return CreateIn(ctx, d, o)
}

// CreateIn is Create in a storage that has no files yet.
func CreateIn(ctx context.Context, s storage.Storage, o *Options) (*Repository, error) {
	opts := o.withDefaults()
	c, err := newConfig(&opts)
	if err == nil {
		s.SetSegmentsPerFolder(c.segmentsPerFolder)
		err = writeFirstCommit(s)
	}
	if err == nil {
		err = storage.WriteFile(s, readmeName, []byte(storage.ReadmeText))
	}
	if err == nil {
		// The config makes it a repository, so it comes last.
		err = storage.WriteFile(s, configName, []byte(c.String()))
	}
	if err != nil {
		return nil, fmt.Errorf("create repository %q: %w", s, err)
	}
	opts.Exclusive = true
	r, err := OpenIn(ctx, s, &opts)
	if err == nil {
		r.keepReserve(false)
	}
	return r, err
}

// writeFirstCommit writes segment 0, with nothing but a COMMIT, so that a log without any is known to be damaged.
func writeFirstCommit(s storage.Storage) error {
	if err := s.RemoveSegment(0); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an interrupted creation
		return err
	}
	w, err := s.CreateSegment(0)
	if err != nil {
		return err
	}
	_, err = w.Write(append([]byte(segment.Magic), segment.CommitEntry[:]...))
	if err == nil {
		err = w.Seal()
	}
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = s.SyncSegments()
	}
	return err
}

// Open opens the repository in the directory path. It fails with ErrNotExist, ErrInvalid, ErrForeign, ErrNewer, ErrLocked or
// ErrCheckNeeded as these say, and changes nothing but index files that are missing or damaged. On systems other than Linux, a process can
// have a repository open once.
func Open(ctx context.Context, path string, o *Options) (*Repository, error) {
	d, err := openDir(path)
	if err != nil {
		return nil, err
	}
	return OpenIn(ctx, d, o)
}

func openDir(path string) (*storage.Dir, error) {
	d, err := storage.OpenDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open repository %q: %w", path, ErrNotExist)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		err = fmt.Errorf("%w: it is a file, and no folder", ErrInvalid)
	}
	if err != nil { // one that cannot be looked at may be sound
		return nil, fmt.Errorf("open repository %q: %w", path, err)
	}
	return d, nil
}

// OpenIn is Open of the repository in a storage.
func OpenIn(ctx context.Context, s storage.Storage, o *Options) (*Repository, error) {
	r, err := open(ctx, s, o)
	if err != nil {
		return nil, err
	}
	if err := r.loadWanted(ctx); err != nil {
		return nil, errors.Join(openError(s, err), r.Close())
	}
	return r, nil
}

// openError says which repository could not be opened. Before anybody is told to repair it, it is looked at once more whose
// it is.
func openError(s storage.Storage, err error) error {
	if errors.Is(err, ErrCheckNeeded) || errors.Is(err, ErrForeign) {
		if err := foreignLog(s); err != nil {
			return err
		}
	}
	return fmt.Errorf("open repository %q: %w", s, aboutPlaces(err))
}

// aboutPlaces says what to do where a segment is in the wrong place.
func aboutPlaces(err error) error {
	if errors.Is(err, storage.ErrMisplaced) {
		return fmt.Errorf("%w: %w; mend the config, or move the segment", ErrInvalid, err)
	}
	return err
}

// OpenForCheck opens a repository as Open does, but also when its state needs a check: all but Check, ID and Close
// then fail with ErrCheckNeeded.
func OpenForCheck(ctx context.Context, path string, o *Options) (*Repository, error) {
	d, err := openDir(path)
	if err != nil {
		return nil, err
	}
	return OpenForCheckIn(ctx, d, o)
}

// OpenForCheckIn is OpenForCheck of the repository in a storage.
func OpenForCheckIn(ctx context.Context, s storage.Storage, o *Options) (*Repository, error) {
	r, err := open(ctx, s, o)
	if err != nil {
		return nil, err
	}
	if err := r.loadWanted(ctx); err != nil {
		err = openError(s, err)
		if !errors.Is(err, ErrCheckNeeded) {
			return nil, errors.Join(err, r.Close())
		}
		r.failed = err
	}
	return r, nil
}

// open takes the lock and does not look at the segments yet.
func open(ctx context.Context, s storage.Storage, o *Options) (*Repository, error) {
	if err := recognize(s); err != nil {
		return nil, err
	}
	c, err := readConfig(s)
	if errors.Is(err, fs.ErrNotExist) {
		err = noConfig(s)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository %q: %w", s, err)
	}
	s.SetSegmentsPerFolder(c.segmentsPerFolder)
	r := unloaded(s, c, o.withDefaults())
	if r.opts.Damaged {
		r.medium = &failingMedium{Storage: s, warn: r.opts.Warn, told: map[string]bool{}}
		r.store = r.medium
	}
	r.segments = newSegments(r.store)
	r.exclusive = r.opts.Exclusive && !r.opts.ReadOnly && !r.opts.Damaged
	if r.lock, err = s.Lock(ctx, r.exclusive, r.opts.LockWait); err != nil {
		return nil, fmt.Errorf("open repository %q: %w", s, err)
	}
	if !r.lock.Writable() {
		r.opts.ReadOnly = true
	}
	return r, nil
}

// unloaded returns a repository of which nothing is known yet, without a lock and without a cache of segments.
func unloaded(s storage.Storage, c config, o Options) *Repository {
	return &Repository{
		store: s, config: c, opts: o,
		reserve:   reserve{store: s, log: -1},
		committed: -1, damagedCommit: -1, gap: -1, garbage: map[uint32]garbage{}, candidates: map[uint32]bool{},
	}
}

// ID returns the repository's own id, which it got at random when it was created.
func (r *Repository) ID() ID { return r.config.id }

// String returns where the repository is.
func (r *Repository) String() string { return r.store.String() }

// Close rolls back what has not been committed and releases the lock. The repository cannot be used afterwards.
func (r *Repository) Close() error {
	r.tx.Lock()
	defer r.tx.Unlock()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	err := r.rollback()
	r.retakeReserve()
	r.mu.Lock()
	r.index.close()
	r.mu.Unlock()
	r.segments.close()
	return errors.Join(err, r.lock.Unlock())
}

// usable returns why nothing can be done with the repository, if that is so.
func (r *Repository) usable() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.usableLocked()
}

func (r *Repository) usableLocked() error {
	if r.closed {
		return ErrClosed
	}
	if r.failed != nil && errors.Is(r.failed, ErrCheckNeeded) {
		return r.failed
	}
	return nil
}

// upgrade makes the lock exclusive. The caller holds tx in any way.
func (r *Repository) upgrade(ctx context.Context) error {
	if r.opts.ReadOnly || r.opts.Damaged {
		return ErrReadOnly
	}
	if r.exclusive {
		return nil
	}
	if err := r.lock.Upgrade(ctx, r.opts.LockWait); err != nil {
		return err
	}
	r.exclusive = true
	return nil
}

// checkName refuses the names of the store's own files.
func checkName(name string) error {
	taken := !strings.HasPrefix(name, ownPrefix) || name == tablesName || name == repairName || name == wholeName ||
		name == storage.ReserveName ||
		strings.HasPrefix(name, deltaPrefix) || strings.HasPrefix(name, sumsPrefix)
	if taken || strings.ContainsAny(name, "/\\\x00") || strings.HasSuffix(name, ".tmp") {
		return fmt.Errorf("file name %q is not one that begins with %q and is free", name, ownPrefix)
	}
	return nil
}

// ReadFile returns the content of a small named file that lies beside the log, at most 1 MiB, or an error that matches
// [io/fs.ErrNotExist]. Such files are no part of any transaction. Their names begin with "garret.".
func (r *Repository) ReadFile(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return storage.ReadFile(r.store, name, 1<<20)
}

// WriteFile replaces such a file, at once and as a whole. It is durable when WriteFile returns; after an error it has
// the old content or the new. It needs the exclusive lock, and takes it. On a full disk, a file of at most 4 KiB
// is written with the help of the reserve, for there are those that a deletion needs.
func (r *Repository) WriteFile(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	r.tx.Lock()
	defer r.tx.Unlock()
	if err := r.usable(); err != nil {
		return err
	}
	if err := r.upgrade(context.Background()); err != nil {
		return err
	}
	write := func() error { return storage.WriteFile(r.store, name, data) }
	if len(data) > smallFile {
		return write()
	}
	return r.withReserve(write)
}

// settle makes durable what this process has found and not written: another may have been killed before its last sync.
// Nothing may be built on it before. The files of the index need not be: they are not believed if they are torn.
func (r *Repository) settle() error {
	if r.settled || r.committed < 0 {
		return nil
	}
	if r.unsynced != nil {
		return r.unsynced
	}
	numbers, err := r.store.Segments(min(r.replayed, r.committed-1))
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if int64(n) > r.committed {
			break
		}
		if err := r.store.SyncSegment(n); err != nil {
			r.unsynced = fmt.Errorf("sync segment %d: %w", n, err)
			return r.unsynced
		}
	}
	if err := r.store.SyncSegments(); err != nil {
		r.unsynced = fmt.Errorf("sync the folders of the segments: %w", err)
		return r.unsynced
	}
	if r.stale {
		// The number will be given out again, and the index of another history must not be there then, nor come back.
		if err := r.measure(); err != nil {
			return err
		}
		if err := r.flushFull(); err != nil {
			return err
		}
		syncFolder := func() error { return r.writeState(r.flushed) } // after what flush has removed
		if err := r.withReserve(syncFolder); err != nil {
			return err
		}
		r.stale = false
	}
	r.settled = true
	return nil
}
