package archive

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// A Chunk is a piece of a file's content.
type Chunk struct {
	ID    repository.ID
	Size  uint32 // of the data, in bytes
	CSize uint32 // of the stored envelope, in bytes
}

// Nanos is a time in nanoseconds since 1970 UTC, whatever the century. Sec is rounded down, so that Nsec is within 0 and
// 999,999,999 always.
type Nanos struct {
	Sec  int64
	Nsec uint32
}

// NanosOf returns the time of t.
func NanosOf(t time.Time) Nanos { return Nanos{t.Unix(), uint32(t.Nanosecond())} }

// Time returns the time in UTC.
func (n Nanos) Time() time.Time { return time.Unix(n.Sec, int64(n.Nsec)).UTC() }

// An Item is one file, directory, link or other thing in an archive. Strings hold the bytes as the system has them,
// UTF-8 or not.
type Item struct {
	Path      string
	Mode      uint32 // st_mode: type and permissions
	UID, GID  uint32
	User      *string // the owner's name; nil where there is none
	Group     *string
	MTime     Nanos
	HasChunks bool // whether the item has content, as regular files do, hard links apart
	Chunks    []Chunk
	// ChunksHealthy is nil, or the chunks as they were before a repair put zeros in the place of lost ones: as many as
	// Chunks, and different from these where something is lost.
	ChunksHealthy []Chunk
	Source        string            // a symbolic link's target, or the path of the item that a hard link is another name of
	Rdev          *uint64           // the number of a device
	Xattrs        map[string][]byte // not written if it is empty
	ACLAccess     *string           // nil where there is no extended ACL
	ACLDefault    *string
	BSDFlags      *uint64
	Unknown       Unknown
}

// Patched reports whether a part of the content is lost, and zeros stand in its place.
func (it *Item) Patched() bool {
	return len(it.ChunksHealthy) == len(it.Chunks) && !slices.Equal(it.ChunksHealthy, it.Chunks)
}

// The keys of an item. They are wire format.
const (
	keyACLAccess  = "acl_access"
	keyACLDefault = "acl_default"
	keyBSDFlags   = "bsdflags"
	keyChunks     = "chunks"
	keyHealthy    = "chunks_healthy"
	keyGID        = "gid"
	keyGroup      = "group"
	keyMode       = "mode"
	keyMTime      = "mtime"
	keyPath       = "path"
	keyRdev       = "rdev"
	keySource     = "source"
	keyUID        = "uid"
	keyUser       = "user"
	keyXattrs     = "xattrs"
)

// AppendItem appends the item's record to dst. Chunks are written if there are any or HasChunks is set, Source if it is not
// empty, and what is a pointer if it is not nil, save for User and Group, which are written always. Unknown comes last.
func AppendItem(dst []byte, it *Item) []byte {
	hasChunks := it.HasChunks || len(it.Chunks) > 0
	n := 7 + it.Unknown.len()
	for _, has := range []bool{
		it.ACLAccess != nil, it.ACLDefault != nil, it.BSDFlags != nil, hasChunks, it.ChunksHealthy != nil, it.Rdev != nil,
		it.Source != "", len(it.Xattrs) > 0,
	} {
		if has {
			n++
		}
	}
	b := rawpack.AppendMapHeader(dst, n)
	if it.ACLAccess != nil {
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, keyACLAccess), *it.ACLAccess)
	}
	if it.ACLDefault != nil {
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, keyACLDefault), *it.ACLDefault)
	}
	if it.BSDFlags != nil {
		b = rawpack.AppendUint(rawpack.AppendRaw(b, keyBSDFlags), *it.BSDFlags)
	}
	if hasChunks {
		b = appendChunks(rawpack.AppendRaw(b, keyChunks), it.Chunks)
	}
	if it.ChunksHealthy != nil {
		b = appendChunks(rawpack.AppendRaw(b, keyHealthy), it.ChunksHealthy)
	}
	b = rawpack.AppendUint(rawpack.AppendRaw(b, keyGID), uint64(it.GID))
	b = appendOptional(rawpack.AppendRaw(b, keyGroup), it.Group)
	b = rawpack.AppendUint(rawpack.AppendRaw(b, keyMode), uint64(it.Mode))
	b = appendNanos(rawpack.AppendRaw(b, keyMTime), it.MTime)
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, keyPath), it.Path)
	if it.Rdev != nil {
		b = rawpack.AppendUint(rawpack.AppendRaw(b, keyRdev), *it.Rdev)
	}
	if it.Source != "" {
		b = rawpack.AppendRaw(rawpack.AppendRaw(b, keySource), it.Source)
	}
	b = rawpack.AppendUint(rawpack.AppendRaw(b, keyUID), uint64(it.UID))
	b = appendOptional(rawpack.AppendRaw(b, keyUser), it.User)
	if len(it.Xattrs) > 0 {
		b = rawpack.AppendRaw(b, keyXattrs)
		b = rawpack.AppendMapHeader(b, len(it.Xattrs))
		for _, name := range slices.Sorted(maps.Keys(it.Xattrs)) {
			b = rawpack.AppendRaw(b, name)
			if value := it.Xattrs[name]; len(value) > 0 {
				b = rawpack.AppendRaw(b, value)
			} else {
				b = rawpack.AppendNil(b)
			}
		}
	}
	return append(b, it.Unknown...)
}

func appendChunks(b []byte, chunks []Chunk) []byte {
	b = rawpack.AppendArrayHeader(b, len(chunks))
	for i := range chunks {
		c := &chunks[i]
		b = rawpack.AppendArrayHeader(b, 3)
		b = rawpack.AppendRaw(b, c.ID[:])
		b = rawpack.AppendUint(b, uint64(c.Size))
		b = rawpack.AppendUint(b, uint64(c.CSize))
	}
	return b
}

func appendOptional(b []byte, s *string) []byte {
	if s == nil {
		return rawpack.AppendNil(b)
	}
	return rawpack.AppendRaw(b, *s)
}

// DecodeItem reads an item's record. Errors match repository.ErrIntegrity, or repository.ErrNewer for one that is whole and
// has something known in a form that is not.
func DecodeItem(data []byte) (*Item, error) {
	it := new(Item)
	var unknown []byte
	var hasPath, hasMode bool
	r := rawpack.NewReader(data)
	for range r.MapLen() {
		key := r.Raw()
		if r.Err() != nil {
			break
		}
		switch string(key) { // which does not allocate
		case keyACLAccess:
			it.ACLAccess = readOptional(r)
		case keyACLDefault:
			it.ACLDefault = readOptional(r)
		case keyBSDFlags:
			it.BSDFlags = new(r.Uint(math.MaxUint64))
		case keyChunks:
			it.HasChunks, it.Chunks = true, readChunks(r)
		case keyHealthy:
			it.ChunksHealthy = readChunks(r)
		case keyGID:
			it.GID = readOwner(r)
		case keyGroup:
			it.Group = readOptional(r)
		case keyMode:
			it.Mode, hasMode = uint32(r.Uint(math.MaxUint32)), true
		case keyMTime:
			it.MTime = readNanos(r)
		case keyPath:
			it.Path, hasPath = r.Text(), true
		case keyRdev:
			it.Rdev = new(r.Uint(math.MaxUint64))
		case keySource:
			it.Source = r.Text()
		case keyUID:
			it.UID = readOwner(r)
		case keyUser:
			it.User = readOptional(r)
		case keyXattrs:
			it.Xattrs = make(map[string][]byte)
			r.Map(func(name string) {
				if !r.Nil() {
					it.Xattrs[name] = bytes.Clone(r.Raw())
				} else {
					it.Xattrs[name] = nil
				}
			})
		default:
			unknown = appendPair(unknown, string(key), r)
		}
	}
	r.End()
	if !hasPath || !hasMode {
		r.Failf("it has no path or no mode")
	}
	if err := r.Err(); err != nil {
		if err := newerItem(data, err); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("decode item: %w: %w", err, repository.ErrIntegrity)
	}
	it.Unknown = Unknown(unknown)
	return it, nil
}

func readOptional(r *rawpack.Reader) *string {
	if r.Nil() {
		return nil
	}
	return new(r.Text())
}

// readOwner reads the number of a user or group. -1 is what some systems call the largest.
func readOwner(r *rawpack.Reader) uint32 { return uint32(r.Int(-1, math.MaxUint32)) }

// minChunkSize is the number of bytes that a chunk takes in an item at least.
const minChunkSize = 1 + minIDSize + 1 + 1

func readChunks(r *rawpack.Reader) []Chunk {
	n := r.ArrayLen()
	if n > r.Len()/minChunkSize {
		r.Failf("%d chunks cannot be there", n)
		return nil
	}
	chunks := make([]Chunk, 0, n)
	for range n {
		if r.ArrayLen() != 3 {
			r.Failf("a chunk has not three parts")
			return nil
		}
		id := readID(r)
		size, csize := r.Uint(math.MaxUint32), r.Uint(math.MaxUint32)
		chunks = append(chunks, Chunk{id, uint32(size), uint32(csize)})
	}
	return chunks
}

const nanosPerSecond = 1_000_000_000

// safeSeconds is a number of seconds whose nanoseconds fit into 63 bits, and so do those of all that are closer to zero.
const safeSeconds = math.MaxInt64/nanosPerSecond - 1

// maxNanosSize is the number of bytes of the longest time that is read. Nanos holds all times of 12.
const maxNanosSize = 16

func appendNanos(b []byte, n Nanos) []byte {
	if -safeSeconds <= n.Sec && n.Sec <= safeSeconds {
		return rawpack.AppendInt(b, n.Sec*nanosPerSecond+int64(n.Nsec))
	}
	v := new(big.Int).Mul(big.NewInt(n.Sec), big.NewInt(nanosPerSecond))
	v.Add(v, big.NewInt(int64(n.Nsec)))
	if v.BitLen() <= 63 {
		return rawpack.AppendInt(b, v.Int64())
	}
	raw := make([]byte, (v.BitLen()+9)/8)
	if v.Sign() < 0 { // two's complement
		v.Add(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	v.FillBytes(raw)
	slices.Reverse(raw)
	return rawpack.AppendRaw(b, raw)
}

func readNanos(r *rawpack.Reader) Nanos {
	if !r.NextIsRaw() {
		v := r.Int(math.MinInt64, math.MaxInt64)
		sec, nsec := v/nanosPerSecond, v%nanosPerSecond
		if nsec < 0 {
			sec, nsec = sec-1, nsec+nanosPerSecond
		}
		return Nanos{sec, uint32(nsec)}
	}
	raw := slices.Clone(r.Raw())
	if len(raw) > maxNanosSize {
		r.Failf("a time has %d bytes", len(raw))
		return Nanos{}
	}
	slices.Reverse(raw)
	v := new(big.Int).SetBytes(raw)
	if len(raw) > 0 && raw[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	// DivMod rounds down, as the divisor is positive.
	sec, nsec := new(big.Int).DivMod(v, big.NewInt(nanosPerSecond), new(big.Int))
	if !sec.IsInt64() {
		r.Failf("a time has more than 64 bits of seconds")
		return Nanos{}
	}
	return Nanos{sec.Int64(), uint32(nsec.Int64())}
}
