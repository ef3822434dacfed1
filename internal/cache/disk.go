package cache

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"garret/repository"
)

// The files of the table. See Chunks. Attic has a file chunks of its own in such a folder, which may be the same.
const (
	rootName  = "garret.chunks"
	lockName  = "garret.chunks.lock"
	magic     = "garret chunks 1\n"
	blockRows = 1 << 16

	headerSize = len(magic) + 32 + 8 + 4 + 4
	entrySize  = 32 + 3*8 + 4
)

// onDisk is what of the table is on disk.
type onDisk struct {
	root       [sha256.Size]byte // the checksum in the file garret.chunks; zero: there was none
	generation uint64            // of the file with the rows; 0: there is none that can be added to
	rows       int               // in it
	sums       []uint32          // of its blocks
}

func rowsName(generation uint64) string { return fmt.Sprintf("%s.%016x", rootName, generation) }

// errDamaged is what is wrong with a file that cannot be believed.
var errDamaged = errors.New("it is damaged")

// load reads the table. A table that is not there is empty.
func (c *Chunks) load() error {
	for again := 3; ; again-- {
		c.reset()
		c.dirty = false
		c.disk = onDisk{}
		err := c.tryLoad()
		if err == nil || again == 0 || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The rows went to another file after their root was read.
	}
}

func (c *Chunks) tryLoad() error {
	path := filepath.Join(c.dir, rootName)
	root, err := readBounded(path, maxRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(root) >= sha256.Size {
		copy(c.disk.root[:], root[len(root)-sha256.Size:])
	}
	if err := c.parseRoot(root); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	path = filepath.Join(c.dir, rowsName(c.disk.generation))
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// The size is believed only once it is clear that the file has it.
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() < int64(c.disk.rows)*rowSize {
		return fmt.Errorf("%q: %w: it is too short", path, errDamaged)
	}
	c.rows.loaded = make([]byte, c.disk.rows*rowSize)
	if _, err := io.ReadFull(f, c.rows.loaded); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if !slices.Equal(blockSums(nil, 0, c.rows.loaded), c.disk.sums) {
		return fmt.Errorf("%q: %w", path, errDamaged)
	}
	return nil
}

// maxRoot bounds what is read of a file that may hold anything. An archive takes a few kilobytes.
const maxRoot = 8 << 30

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.Size() > most {
		return nil, fmt.Errorf("%q: %w: it is too long", path, errDamaged)
	}
	return io.ReadAll(io.LimitReader(f, most))
}

// parseRoot reads the file garret.chunks, which may hold anything.
func (c *Chunks) parseRoot(root []byte) error {
	if len(root) < headerSize+sha256.Size || string(root[:len(magic)]) != magic {
		return errDamaged
	}
	body := root[:len(root)-sha256.Size]
	if sha256.Sum256(body) != c.disk.root {
		return errDamaged
	}
	body = body[len(magic):]
	if repository.ID(body[:32]) != c.repo {
		return errors.New("it is about another repository")
	}
	c.disk.generation = binary.LittleEndian.Uint64(body[32:])
	rows, archives := binary.LittleEndian.Uint32(body[40:]), binary.LittleEndian.Uint32(body[44:])
	body = body[48:]
	blocks := (uint64(rows) + blockRows - 1) / blockRows
	if blocks*4 > uint64(len(body)) {
		return errDamaged
	}
	c.disk.rows = int(rows)
	for ; blocks > 0; blocks-- {
		c.disk.sums = append(c.disk.sums, binary.LittleEndian.Uint32(body))
		body = body[4:]
	}
	for ; archives > 0; archives-- {
		if len(body) < entrySize {
			return errDamaged
		}
		e := &entry{
			files:      int64(binary.LittleEndian.Uint64(body[32:])),
			original:   int64(binary.LittleEndian.Uint64(body[40:])),
			compressed: int64(binary.LittleEndian.Uint64(body[48:])),
		}
		id, n := repository.ID(body[:32]), binary.LittleEndian.Uint32(body[56:])
		body = body[entrySize:]
		if uint64(n) > uint64(len(body)) {
			return errDamaged
		}
		e.runs, body = body[:n:n], body[n:]
		if c.archives[id] != nil || !validRuns(e.runs, rows) {
			return errDamaged
		}
		c.archives[id] = e
	}
	if len(body) > 0 {
		return errDamaged
	}
	return nil
}

// validRuns reports whether all runs are of rows that there are.
func validRuns(runs []byte, rows uint32) bool {
	for at := uint64(0); len(runs) > 0; {
		for i := range 2 { // the gap, and the length, which is not 0
			v, n := binary.Uvarint(runs)
			if n <= 0 || v > uint64(rows) || i == 1 && v == 0 {
				return false
			}
			at += v
			runs = runs[n:]
		}
		if at > uint64(rows) {
			return false
		}
	}
	return true
}

// blockSums extends the checksums of a file with n rows by those that follow.
func blockSums(sums []uint32, n int, rows []byte) []uint32 {
	for len(rows) > 0 {
		if n%blockRows == 0 {
			sums = append(sums, 0)
		}
		some := min(blockRows-n%blockRows, len(rows)/rowSize)
		last := &sums[len(sums)-1]
		*last = crc32.Update(*last, crcTable, rows[:some*rowSize])
		rows, n = rows[some*rowSize:], n+some
	}
	return sums
}

// Save writes down what has changed. After an error the table on disk is the old one, or will be found to be damaged. If
// another process has written a table since this one was loaded, that one stays.
func (c *Chunks) Save() error {
	if !c.dirty {
		return nil
	}
	if err := c.save(); err != nil {
		return fmt.Errorf("write down what is known of the repository's chunks: %w", err)
	}
	return nil
}

func (c *Chunks) save() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := c.rootNow(); err != nil || now != c.disk.root {
		return err // somebody else was faster
	}
	d := c.disk
	if d.generation == 0 || c.appendRows(d) != nil {
		if d, err = c.writeRows(); err != nil {
			return err
		}
	}
	d.sums = blockSums(slices.Clone(d.sums), d.rows, c.rows.from(d.rows))
	d.rows = c.rows.len()
	root := c.encodeRoot(d)
	d.root = sha256.Sum256(root)
	if err := c.replaceRoot(append(root, d.root[:]...)); err != nil {
		return err
	}
	c.disk = d
	c.dirty = false
	c.removeStrays()
	return nil
}

// lock keeps others from writing. It is held for moments only, so that to wait long means that something is wrong.
func (c *Chunks) lock() (unlock func(), err error) {
	path := filepath.Join(c.dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch err {
		case nil, unix.ENOLCK, unix.ENOTSUP, unix.ENOSYS:
			// Some file systems have no locks. The checksums tell then if two have written at a time.
			return func() { f.Close() }, nil
		}
		if (err != unix.EWOULDBLOCK && err != unix.EINTR) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// rootNow returns the checksum in the file garret.chunks as it is now.
func (c *Chunks) rootNow() (sum [sha256.Size]byte, err error) {
	f, err := os.Open(filepath.Join(c.dir, rootName))
	if errors.Is(err, fs.ErrNotExist) {
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < sha256.Size {
		return sum, err
	}
	_, err = f.ReadAt(sum[:], info.Size()-sha256.Size)
	return sum, err
}

// appendRows adds the new rows to the file that there is.
func (c *Chunks) appendRows(d onDisk) error {
	f, err := os.OpenFile(filepath.Join(c.dir, rowsName(d.generation)), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < int64(d.rows)*rowSize {
		err = errDamaged
	}
	if err == nil {
		_, err = f.WriteAt(c.rows.from(d.rows), int64(d.rows)*rowSize)
	}
	return errors.Join(err, f.Close())
}

// writeRows begins a new file of rows, with those that were loaded.
func (c *Chunks) writeRows() (onDisk, error) {
	var random [8]byte
	rand.Read(random[:])
	d := onDisk{generation: binary.LittleEndian.Uint64(random[:]) | 1, rows: c.rows.len()}
	f, err := os.OpenFile(filepath.Join(c.dir, rowsName(d.generation)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return d, err
	}
	for _, part := range [][]byte{c.rows.loaded, c.rows.added} {
		if err == nil {
			_, err = f.Write(part)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return d, err
	}
	d.sums = blockSums(blockSums(nil, 0, c.rows.loaded), len(c.rows.loaded)/rowSize, c.rows.added)
	return d, nil
}

func (c *Chunks) encodeRoot(d onDisk) []byte {
	root := append([]byte(magic), c.repo[:]...)
	root = binary.LittleEndian.AppendUint64(root, d.generation)
	root = binary.LittleEndian.AppendUint32(root, uint32(d.rows))
	archives := len(root)
	root = binary.LittleEndian.AppendUint32(root, 0)
	for _, sum := range d.sums {
		root = binary.LittleEndian.AppendUint32(root, sum)
	}
	n := uint32(0)
	for id, e := range c.archives {
		if e.damage != nil {
			continue
		}
		n++
		root = append(root, id[:]...)
		for _, v := range []int64{e.files, e.original, e.compressed} {
			root = binary.LittleEndian.AppendUint64(root, uint64(v))
		}
		root = binary.LittleEndian.AppendUint32(root, uint32(len(e.runs)))
		root = append(root, e.runs...)
	}
	binary.LittleEndian.PutUint32(root[archives:], n)
	return root
}

func (c *Chunks) replaceRoot(root []byte) error {
	f, err := os.CreateTemp(c.dir, rootName+".new.*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(root))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, rootName))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// removeStrays removes what saves before have left.
func (c *Chunks) removeStrays() {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range names {
		name := e.Name()
		if strings.HasPrefix(name, rootName+".") && name != lockName && name != rowsName(c.disk.generation) {
			os.Remove(filepath.Join(c.dir, name))
		}
	}
}
