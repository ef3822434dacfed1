package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"garret/internal/archive"
	"garret/repository"
)

// ErrIncomplete is matched by errors that say that an archive is not known in full, so that nothing can be said of what is
// unused.
var ErrIncomplete = errors.New("the archive is not known in full")

// Chunks is the table of the chunks that archives use. It belongs to one goroutine, beside which any number of others may
// call Lookup, except while the table is synced.
//
// It tells which archives use which chunks: what becomes free when archives are deleted, and how much they take. It
// is a list of rows, one for every chunk, and for every archive the runs of rows that it uses. How many archives use a row is
// counted when the table is loaded and written down nowhere, so that no count can be wrong.
//
//	garret.chunks    magic "garret chunks 1\n" | repository's id [32] | generation u64 | rows u32 | archives u32 |
//	                 sums [ceil(rows / 65536)] u32 | archives | SHA-256 of all before
//	  sum            CRC-32C of 65,536 rows, the last one of the rest
//	  archive        id [32] | files u64 | original u64 | compressed u64 | length of the runs in bytes u32 | runs
//	  run            gap uvarint | length uvarint: so many rows not in use, then so many that are
//	garret.chunks.<generation, 16 hex digits>
//	                 rows: id [32] | size u32 | csize u32
//	garret.chunks.lock
//	                 locked while the two are written
//
// All integers are little-endian. Rows are appended, behind those that garret.chunks speaks of; then that file is replaced
// as a whole. So a reader needs no lock, and a crash leaves the table as it was, or with rows at its end that nothing speaks
// of. Nothing is synced: what a power failure tears is noticed by the checksums. Two processes that change the table at a time
// do not mix: who comes second finds another table than the one it began with, and leaves it.
//
// # Why deletion can rely on it
//
// A chunk that is deleted while an archive needs it is lost, so what the table says of archives must never be out of date:
//
//   - An archive goes by the id of its record, which is the hash of the record, in which there are the hashes of its items, in
//     which there are those of its chunks. So what an archive with some id uses is the same for ever, in every copy of a
//     repository, and cannot become wrong because of what other clients do.
//   - [Chunks.Unused] asks for the manifest, and answers only if every archive that will be left in it is known in full. What
//     another client has added is read by [Chunks.Sync]. The manifest must have been read under the repository's exclusive
//     lock, so that nobody adds an archive meanwhile.
//   - An archive of which something cannot be read may use any chunk. As long as it is not deleted itself, nothing is unused.
//   - Nothing is ever called unused that was not used by an archive being deleted.
type Chunks struct {
	dir  string
	repo repository.ID
	warn func(error)

	archives map[repository.ID]*entry

	mu     sync.RWMutex // held to change these, and by Lookup
	rows   rowList
	index  rowIndex // made when it is first needed
	counts []int32  // for every row, how many archives use it
	scans  int      // how often all rows were looked through for want of an index

	disk  onDisk
	dirty bool // not all of it is on disk
}

// An entry is what is known of an archive.
type entry struct {
	files, original, compressed int64
	runs                        []byte // as on disk
	// damage says why not all that the archive uses is in runs, and lost which of its own objects could not be read. Such
	// an entry is not written to disk: what is lost may be brought back by a later backup.
	damage error
	lost   []repository.ID
}

// Stats are the sizes of archives, in bytes, as Attic counts them.
type Stats struct {
	Files        int64 // regular files, those apart that are a further name of another
	Original     int64 // all that the archives use, each use counted
	Compressed   int64 // the same as it is stored
	Deduplicated int64 // of all archives: each chunk once as it is stored; of some: each that no other archive uses
	Chunks       int64 // how many these are
}

// OpenChunks loads the table of a repository from a folder, which need not exist. If what is there cannot be used, warn is
// told, and the table is empty.
func OpenChunks(dir string, repo repository.ID, warn func(error)) *Chunks {
	c := &Chunks{dir: dir, repo: repo, warn: warn}
	if err := c.load(); err != nil {
		c.reset()
		warn(fmt.Errorf("what was known of the repository's chunks cannot be used, and is made anew: %w", err))
	}
	c.count()
	return c
}

// reset empties the table in memory. It keeps what says whether somebody else has written to the disk.
func (c *Chunks) reset() {
	c.archives = map[repository.ID]*entry{}
	c.rows, c.index, c.counts = rowList{}, rowIndex{}, nil
	c.disk = onDisk{root: c.disk.root}
	c.dirty = true
}

// count counts how many archives use each row.
func (c *Chunks) count() {
	c.counts = make([]int32, c.rows.len()+1)
	for _, e := range c.archives {
		for from, to := range e.rows() {
			c.counts[from]++
			c.counts[to]--
		}
	}
	sum := int32(0)
	for i, d := range c.counts {
		sum += d
		c.counts[i] = sum
	}
	c.counts = c.counts[:c.rows.len()]
}

// rows returns the runs of rows that an archive uses: from, and up to but not including to.
func (e *entry) rows() iter.Seq2[uint32, uint32] {
	return func(yield func(uint32, uint32) bool) {
		at := uint32(0)
		for runs := e.runs; len(runs) > 0; {
			gap, n := binary.Uvarint(runs)
			length, m := binary.Uvarint(runs[n:])
			runs = runs[n+m:]
			from := at + uint32(gap)
			at = from + uint32(length)
			if !yield(from, at) {
				return
			}
		}
	}
}

// Lookup returns a chunk that a known archive uses, with its sizes. Whether it is in the repository is for the repository
// to say.
func (c *Chunks) Lookup(id repository.ID) (archive.Chunk, bool) {
	c.mu.RLock()
	if c.index.isEmpty() {
		c.mu.RUnlock()
		c.mu.Lock()
		c.makeIndexLocked()
		c.mu.Unlock()
		c.mu.RLock()
	}
	defer c.mu.RUnlock()
	row, ok := c.index.find(&c.rows, id)
	if !ok || int(row) >= len(c.counts) || c.counts[row] == 0 {
		return archive.Chunk{}, false
	}
	return c.rows.chunk(row), true
}

func (c *Chunks) makeIndexLocked() {
	if c.index.isEmpty() {
		c.index = newRowIndex(&c.rows)
	}
}

// Add adds an archive, with the object of its record, whose id is the archive's. The uses can be added to afterwards, and
// be those of another archive too.
func (c *Chunks) Add(record archive.Chunk, u *Uses) { c.add(record, u, nil, nil) }

func (c *Chunks) add(record archive.Chunk, u *Uses, damage error, lost []repository.ID) {
	all := u.clone()
	if record.CSize > 0 { // it could be read
		all.Add(record)
	}
	all.settle()
	c.drop(record.ID)
	e := &entry{
		files: all.Files, original: all.original, compressed: all.compressed,
		runs: encodeRuns(all.used), damage: damage, lost: lost,
	}
	c.tally(e, 1)
	c.archives[record.ID] = e
	c.dirty = true
}

// tally adds to the counts of the rows that an archive uses.
func (c *Chunks) tally(e *entry, n int32) {
	c.grow()
	c.mu.Lock()
	defer c.mu.Unlock()
	for from, to := range e.rows() {
		for row := from; row < to; row++ {
			c.counts[row] += n
		}
	}
}

// grow gives counts to rows that are new.
func (c *Chunks) grow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.rows.len() - len(c.counts); n > 0 {
		c.counts = append(c.counts, make([]int32, n)...)
	}
}

// encodeRuns writes a set of rows as runs.
func encodeRuns(set []uint64) (runs []byte) {
	end := uint64(0)
	for at := uint64(0); ; {
		from, ok := nextBit(set, at, 1)
		if !ok {
			return runs
		}
		to, ok := nextBit(set, from, 0)
		if !ok {
			to = uint64(len(set)) * 64
		}
		runs = binary.AppendUvarint(runs, from-end)
		runs = binary.AppendUvarint(runs, to-from)
		at, end = to, to
	}
}

// nextBit returns the first bit from at on that has a value.
func nextBit(set []uint64, at uint64, value int) (uint64, bool) {
	for i := at / 64; i < uint64(len(set)); i++ {
		word := set[i]
		if value == 0 {
			word = ^word
		}
		if i == at/64 {
			word &= ^uint64(0) << (at % 64)
		}
		if word != 0 {
			return i*64 + uint64(bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// Drop forgets archives, once their deletion has been committed.
func (c *Chunks) Drop(ids ...repository.ID) {
	for _, id := range ids {
		c.drop(id)
	}
}

func (c *Chunks) drop(id repository.ID) {
	e, ok := c.archives[id]
	if !ok {
		return
	}
	c.tally(e, -1)
	delete(c.archives, id)
	c.dirty = true
}

// Retain forgets the archives that are not in a manifest. Nothing is read for that. The rows that are in no use then are
// dropped when they are more than half of all.
func (c *Chunks) Retain(m *archive.Manifest) {
	here := make(map[repository.ID]bool, len(m.Archives))
	for _, ref := range m.Archives {
		here[ref.ID] = true
	}
	for id := range c.archives {
		if !here[id] {
			c.drop(id)
		}
	}
	c.grow()
	unused := 0
	for _, n := range c.counts {
		if n == 0 {
			unused++
		}
	}
	if unused > minUnused && unused > len(c.counts)/2 {
		c.renumber()
	}
}

// minUnused is how many unused rows are no burden.
const minUnused = 1024

// renumber drops the rows that are not in use. The table then needs a file of its own.
func (c *Chunks) renumber() {
	var kept rowList
	number := make([]uint32, len(c.counts))
	for row, n := range c.counts {
		if n > 0 {
			number[row] = kept.append(c.rows.chunk(uint32(row)))
		}
	}
	for _, e := range c.archives {
		var runs []byte
		end := uint32(0)
		for from, to := range e.rows() {
			start, length := number[from], to-from // all rows of a run are kept, and stay next to each other
			runs = binary.AppendUvarint(runs, uint64(start-end))
			runs = binary.AppendUvarint(runs, uint64(length))
			end = start + length
		}
		e.runs = runs
	}
	c.rows, c.index = kept, rowIndex{}
	c.disk = onDisk{root: c.disk.root}
	c.dirty = true
	c.count()
}

// Unseen returns the names of the archives in a manifest of which nothing is known yet, sorted.
func (c *Chunks) Unseen(m *archive.Manifest) (names []string) {
	for name, ref := range m.Archives {
		if c.archives[ref.ID] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

var errUnseen = errors.New("it has not been read")

// Damage returns why an archive is not known in full, or nil if it is.
func (c *Chunks) Damage(id repository.ID) error {
	e := c.archives[id]
	if e == nil {
		return errUnseen
	}
	return e.damage
}

// IncompleteError says which archive is not known in full, and why. It matches ErrIncomplete.
type IncompleteError struct {
	Archive string
	Err     error
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("what archive %q uses is not known in full: %v", e.Archive, e.Err)
}

// Is makes the error match ErrIncomplete.
func (e *IncompleteError) Is(target error) bool { return target == ErrIncomplete }

func (e *IncompleteError) Unwrap() error { return e.Err }

// Unused returns the objects that no archive will need once those with the given names are deleted from a manifest, and what
// these archives hold. An object of an archive that is damaged may not be in the repository.
//
// If an archive that will be left is not known in full, or nothing is known of one that goes, the objects are none, and the
// error is an IncompleteError. The statistics are then those of what is known, without what is unused.
func (c *Chunks) Unused(m *archive.Manifest, names []string) ([]repository.ID, Stats, error) {
	left := maps.Clone(m.Archives)
	gone := map[repository.ID]bool{}
	var incomplete error
	for _, name := range names {
		ref, ok := left[name]
		if !ok {
			return nil, Stats{}, fmt.Errorf("archive %q is not in the manifest", name)
		}
		delete(left, name)
		gone[ref.ID] = true
		if c.archives[ref.ID] == nil {
			incomplete = &IncompleteError{Archive: name, Err: errUnseen}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		delete(gone, left[name].ID) // it has another name, by which it stays
	}
	var stats Stats
	c.grow()
	uses := make([]int32, len(c.counts)) // by what goes
	for id := range gone {
		e := c.archives[id]
		if e == nil {
			continue
		}
		stats.Files += e.files
		stats.Original += e.original
		stats.Compressed += e.compressed
		for from, to := range e.rows() {
			for row := from; row < to; row++ {
				uses[row]++
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if err := c.Damage(left[name].ID); err != nil {
			incomplete = &IncompleteError{Archive: name, Err: err}
			break
		}
	}
	if incomplete != nil {
		return nil, stats, incomplete
	}
	var ids []repository.ID
	for row, n := range uses {
		if n == 0 || n != c.counts[row] {
			continue
		}
		chunk := c.rows.chunk(uint32(row))
		stats.Chunks++
		stats.Deduplicated += int64(chunk.CSize)
		if chunk.ID != archive.ManifestID { // which no honest archive uses
			ids = append(ids, chunk.ID)
		}
	}
	return append(ids, c.unusedLost(gone, uses)...), stats, nil
}

// unusedLost returns which of the archives' own objects that could not be read no other archive uses.
func (c *Chunks) unusedLost(gone map[repository.ID]bool, uses []int32) (ids []repository.ID) {
	seen := map[repository.ID]bool{archive.ManifestID: true}
	for id := range gone {
		e := c.archives[id]
		if e == nil {
			continue
		}
		for _, lost := range e.lost {
			c.mu.Lock()
			c.makeIndexLocked()
			row, known := c.index.find(&c.rows, lost)
			c.mu.Unlock()
			if seen[lost] || known && (uses[row] > 0 || c.counts[row] > 0) {
				continue // it is told already, or needed
			}
			seen[lost] = true
			ids = append(ids, lost)
		}
	}
	return ids
}

// Replace gives an archive another record, with the same items. It does nothing if the archive is not known in full.
func (c *Chunks) Replace(id repository.ID, record archive.Chunk) {
	e := c.archives[id]
	if e == nil || e.damage != nil {
		return
	}
	u := c.NewUses()
	u.Files, u.original, u.compressed = e.files, e.original, e.compressed
	for from, to := range e.rows() {
		for row := from; row < to; row++ {
			chunk := c.rows.chunk(row)
			if chunk.ID == id {
				u.original -= int64(chunk.Size)
				u.compressed -= int64(chunk.CSize)
				continue
			}
			u.use(chunk)
		}
	}
	c.drop(id)
	c.Add(record, u)
}

// Users returns how many of the known archives use an object.
func (c *Chunks) Users(id repository.ID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.makeIndexLocked()
	row, ok := c.index.find(&c.rows, id)
	if !ok || int(row) >= len(c.counts) {
		return 0
	}
	return int(c.counts[row])
}

// Archive returns the sizes of an archive, and false if nothing is known of it.
func (c *Chunks) Archive(id repository.ID) (Stats, bool) {
	e := c.archives[id]
	if e == nil {
		return Stats{}, false
	}
	s := Stats{Files: e.files, Original: e.original, Compressed: e.compressed}
	for from, to := range e.rows() {
		for row := from; row < to; row++ {
			if c.counts[row] == 1 {
				s.Chunks++
				s.Deduplicated += int64(c.rows.csize(row))
			}
		}
	}
	return s, true
}

// Total returns the sizes of all archives.
func (c *Chunks) Total() (s Stats) {
	for _, e := range c.archives {
		s.Files += e.files
		s.Original += e.original
		s.Compressed += e.compressed
	}
	for row, n := range c.counts {
		if n > 0 {
			s.Chunks++
			s.Deduplicated += int64(c.rows.csize(uint32(row)))
		}
	}
	return s
}

// hashSeed keeps whoever chooses ids from choosing where they go in the index.
var hashSeed = maphash.MakeSeed()
