// Package cache keeps what this client knows of a repository, so that it need not find it out again. All of it can be
// deleted at any time, and costs nothing but time: what is damaged or missing counts as not known.
package cache

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// Files remembers the regular files of former backups and the chunks of their content. A file is taken to be unchanged
// as long as its path, inode, size, time of modification and time of change are; the last of these also changes with
// its extended attributes, its ACLs and its flags, so that they are remembered too.
//
// A file that is changed twice within one tick of the file system's clock looks the same before and after. One whose
// times are not a while ago when it is remembered may be changed once more within its tick, and is not believed next
// time; nor is one with the newest time of all, in case the clock of the file system is not ours. One that was stored with a
// flaw, or with another size than the system says, is never believed to be unchanged.
//
// It takes about 120 bytes of memory and of disk for each file, and 40 for each of its chunks. It is safe for concurrent
// use.
type Files struct {
	path string

	mu     sync.Mutex
	old    []byte   // the records that were read
	slots  []uint64 // hash table of offsets in old, plus one; with the highest bit set when the record was asked for
	fresh  []byte   // records of this run
	newest archive.Nanos
}

// fileKey names a file in the cache.
type fileKey [16]byte

func newFileKey(path string) (k fileKey) {
	sum := sha256.Sum256([]byte(path))
	copy(k[:], sum[:])
	return k
}

// The file is
//
//	"garret files 1\n" | record | record | ... | crc32 u32
//
//	record   length u32 | key [16] | age u8 | inode u64 | size u64 | mtime | ctime | chunks uvarint |
//	         chunks times (id [32] | size uvarint | csize uvarint) | attributes
//	time     seconds i64 | nanoseconds u32
//
// Integers are little-endian. The key is the beginning of the SHA-256 of the file's absolute path; the age counts the
// backups that have not met the file; attributes are nothing, or an item in the form of an archive that has nothing but
// these. The length is that of all that follows it in the record. The CRC-32C is over all before it.
const (
	filesMagic   = "garret files 1\n"
	recordHeader = 4
	recordFixed  = 16 + 1 + 8 + 8 + 12 + 12
	maxAge       = 20
	maxFilesSize = 8 << 30

	asked = 1 << 63 // in a slot
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// OpenFiles reads the cache in a file. One that is missing is empty; so is one that is damaged, and the error says so:
// it is as good as another, and Save replaces the file.
func OpenFiles(path string) (*Files, error) {
	f := &Files{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read what was known of files: %w", err)
	}
	if err := f.index(data); err != nil {
		f.old, f.slots = nil, nil
		return f, fmt.Errorf("%q is damaged, and all files are read again: %w", path, err)
	}
	return f, nil
}

// index takes the content of a file.
func (f *Files) index(data []byte) error {
	if len(data) > maxFilesSize {
		return fmt.Errorf("it has %d bytes", len(data))
	}
	end := len(data) - crc32.Size
	if end < len(filesMagic) || string(data[:len(filesMagic)]) != filesMagic {
		return errors.New("it does not begin as it should")
	}
	if crc32.Checksum(data[:end], crcTable) != binary.LittleEndian.Uint32(data[end:]) {
		return errors.New("its checksum does not match")
	}
	f.old = data[:end:end]
	count := 0
	for at := len(filesMagic); at < end; count++ {
		r, ok := recordAt(f.old, at)
		if !ok {
			return fmt.Errorf("the record at byte %d has no end", at)
		}
		at += recordHeader + len(r)
	}
	size := 16
	for size < 2*count {
		size *= 2
	}
	f.slots = make([]uint64, size)
	for at := len(filesMagic); at < end; {
		r, _ := recordAt(f.old, at)
		if slot := f.find(fileKey(r)); slot != nil && *slot == 0 {
			*slot = uint64(at) + 1
		}
		at += recordHeader + len(r)
	}
	return nil
}

// record is one without its length. Its first bytes are the key.
type record []byte

func recordAt(data []byte, at int) (record, bool) {
	if len(data)-at < recordHeader+recordFixed {
		return nil, false
	}
	n := int(binary.LittleEndian.Uint32(data[at:]))
	if n < recordFixed || n > len(data)-at-recordHeader {
		return nil, false
	}
	return data[at+recordHeader:][:n:n], true
}

// find returns the slot of a key, or the empty one where it would be.
func (f *Files) find(key fileKey) *uint64 {
	if len(f.slots) == 0 {
		return nil
	}
	mask := uint64(len(f.slots) - 1)
	for i := binary.LittleEndian.Uint64(key[:]) & mask; ; i = (i + 1) & mask {
		slot := &f.slots[i]
		if *slot == 0 {
			return slot
		}
		if r, ok := recordAt(f.old, int(*slot&^asked)-1); ok && fileKey(r) == key {
			return slot
		}
	}
}

// Lookup returns whether a file is known, and whether it is unchanged. If so, its chunks and attributes are put into the
// item. The path must be absolute, or else be the same whenever the file is met.
func (f *Files) Lookup(path string, info *fsmeta.Info, it *archive.Item) (known, unchanged bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := newFileKey(path)
	slot := f.find(key)
	if slot == nil || *slot == 0 {
		return false, false
	}
	r, ok := recordAt(f.old, int(*slot&^asked)-1)
	*slot |= asked
	if !ok || string(r[17:recordFixed]) != string(appendIdentity(nil, info)) {
		return true, false
	}
	return true, r.content(info.Size, it) == nil
}

// appendIdentity appends what must be the same for a file to be the same.
func appendIdentity(b []byte, info *fsmeta.Info) []byte {
	b = binary.LittleEndian.AppendUint64(b, info.Ino)
	b = binary.LittleEndian.AppendUint64(b, uint64(info.Size))
	b = appendTime(b, info.MTime)
	return appendTime(b, info.CTime)
}

func appendTime(b []byte, t archive.Nanos) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(b, uint64(t.Sec)), t.Nsec)
}

// changed returns the time of change in a record.
func (r record) changed() archive.Nanos {
	b := r[recordFixed-12:]
	return archive.Nanos{Sec: int64(binary.LittleEndian.Uint64(b)), Nsec: binary.LittleEndian.Uint32(b[8:])}
}

var (
	errRecord = errors.New("the record makes no sense")
	errFlaw   = errors.New("what was read may not be what was in the file")
)

// content reads the chunks and attributes of a record into an item.
func (r record) content(size int64, it *archive.Item) error {
	b := r[recordFixed:]
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)/34) {
		return errRecord
	}
	b = b[used:]
	chunks := make([]archive.Chunk, n)
	var sum int64
	for i := range chunks {
		if len(b) < len(repository.ID{}) {
			return errRecord
		}
		c := &chunks[i]
		copy(c.ID[:], b)
		b = b[len(c.ID):]
		for _, v := range []*uint32{&c.Size, &c.CSize} {
			u, used := binary.Uvarint(b)
			if used <= 0 || u > 1<<32-1 {
				return errRecord
			}
			*v, b = uint32(u), b[used:]
		}
		sum += int64(c.Size)
	}
	if sum != size {
		return errRecord
	}
	if len(b) > 0 {
		attrs, err := archive.DecodeItem(b)
		if err != nil {
			return err
		}
		if attrs.Flaw() != "" {
			return errFlaw
		}
		it.Xattrs, it.ACLAccess, it.ACLDefault, it.BSDFlags = attrs.Xattrs, attrs.ACLAccess, attrs.ACLDefault, attrs.BSDFlags
	}
	it.HasChunks, it.Chunks = true, chunks
	return nil
}

// quiet is how long ago a file must have changed to be believed the next time. File systems count in ticks of up to two
// seconds.
const quiet = 3 * time.Second

// Remember notes what was true of a file before and after it was read.
func (f *Files) Remember(path string, info *fsmeta.Info, it *archive.Item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if later(info.CTime, f.newest) {
		f.newest = info.CTime
	}
	if later(info.CTime, archive.NanosOf(time.Now().Add(-quiet))) {
		return
	}
	start := len(f.fresh)
	b := append(f.fresh, 0, 0, 0, 0)
	key := newFileKey(path)
	b = append(append(b, key[:]...), 0)
	b = appendIdentity(b, info)
	b = binary.AppendUvarint(b, uint64(len(it.Chunks)))
	for i := range it.Chunks {
		c := &it.Chunks[i]
		b = append(b, c.ID[:]...)
		b = binary.AppendUvarint(b, uint64(c.Size))
		b = binary.AppendUvarint(b, uint64(c.CSize))
	}
	if len(it.Xattrs) > 0 || it.ACLAccess != nil || it.ACLDefault != nil || it.BSDFlags != nil {
		b = archive.AppendItem(b, &archive.Item{
			Xattrs: it.Xattrs, ACLAccess: it.ACLAccess, ACLDefault: it.ACLDefault, BSDFlags: it.BSDFlags,
		})
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-recordHeader))
	f.fresh = b
}

func later(a, b archive.Nanos) bool { return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec }

// Save writes the cache: what was remembered, and what is known of files that were not asked for, unless that has been
// so for long. It may be called again as more is remembered. After an error, or a crash, the cache is the former one or
// damaged, which the next to open it notices.
func (f *Files) Save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("remember the files: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return fmt.Errorf("remember the files: %w", err)
	}
	out := &summer{w: bufio.NewWriterSize(temp, 1<<20), sum: crc32.New(crcTable)}
	f.writeLocked(out)
	err = out.finish()
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), f.path)
	}
	if err != nil {
		os.Remove(temp.Name())
		return fmt.Errorf("remember the files: %w", err)
	}
	return nil
}

func (f *Files) writeLocked(out *summer) {
	out.write([]byte(filesMagic))
	// Whose times are younger than a day may be of a clock that is behind ours.
	dayAgo := archive.NanosOf(time.Now().Add(-24 * time.Hour))
	for at := 0; at < len(f.fresh); {
		r, _ := recordAt(f.fresh, at)
		if c := r.changed(); later(f.newest, c) || later(dayAgo, c) {
			out.write(f.fresh[at : at+recordHeader+len(r)])
		}
		at += recordHeader + len(r)
	}
	for _, slot := range f.slots {
		if slot == 0 || slot&asked != 0 {
			continue
		}
		at := int(slot) - 1
		r, _ := recordAt(f.old, at)
		if age := r[16] + 1; age <= maxAge {
			out.write(f.old[at : at+recordHeader+16])
			out.write([]byte{age})
			out.write(r[17:])
		}
	}
}

// A summer writes, and a checksum of all that at the end. The first error stays.
type summer struct {
	w   *bufio.Writer
	sum hash.Hash32
	err error
}

func (s *summer) write(b []byte) {
	if s.err == nil {
		s.sum.Write(b)
		_, s.err = s.w.Write(b)
	}
}

func (s *summer) finish() error {
	if s.err == nil {
		s.err = binary.Write(io.Writer(s.w), binary.LittleEndian, s.sum.Sum32())
	}
	return errors.Join(s.err, s.w.Flush())
}
