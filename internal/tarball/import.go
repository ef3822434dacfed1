package tarball

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/fsmeta"
)

var (
	// ErrEmpty is returned for a tar without a byte: whoever should have written it has failed, most likely.
	ErrEmpty = errors.New("it is empty, and no tar")
	// ErrNoTar is matched by the error about something else than a tar.
	ErrNoTar = errors.New("it is no tar")
	// ErrNoEnd is reported of a tar that ends between two entries, without the zeros that end a tar.
	ErrNoEnd = errors.New("the tar has no end: if it was cut off, files are missing")
	// ErrTrailingData is reported of a tar after which something follows.
	ErrTrailingData = errors.New("something follows the end of the tar, and is left out; tars that were joined are imported one by one")
	// ErrTooLarge is reported of a file with holes that no file system could hold.
	ErrTooLarge = errors.New("claims to be larger than any file, and is not stored")
)

// A Sink takes the items of an archive, as backup.Writer does.
type Sink interface {
	// Add stores an item with its content, if it has any.
	Add(it *archive.Item, content io.Reader) error
}

// ImportOptions say who is told what.
type ImportOptions struct {
	// Warn is told of each entry that is not stored, or not all of it, and with an empty path of the tar as such.
	Warn func(path string, err error)
	// Stored, if not nil, is told the path of each item.
	Stored func(path string)
}

// Import makes an item of each entry of a tar, which may be packed with gzip, zstd or bzip2, in its order. Paths are made
// relative as those of a backup are. An entry comes again in a tar where a newer version was appended; it then becomes two
// items, of which the later one replaces the earlier one when they are restored.
//
// What an entry cannot be stored for is reported, and the rest goes on. An error is one of reading the tar or of the
// sink: the archive should then not be finished. Memory is bounded by the number of entries, about 40 bytes for each, and
// not by what the tar says.
func Import(in io.Reader, sink Sink, o ImportOptions) (*Stats, error) {
	r, release, err := unpack(in)
	if err != nil {
		return nil, err
	}
	defer release()
	im := &importer{
		ImportOptions: o,
		in:            &source{r: r},
		sink:          sink,
		met:           map[pathSum]state{},
		others:        map[string]*archive.Item{},
		links:         map[string]string{},
	}
	if im.Warn == nil {
		im.Warn = func(string, error) {}
	}
	if im.Stored == nil {
		im.Stored = func(string) {}
	}
	if err := im.run(); err != nil {
		return nil, err
	}
	return &im.stats, nil
}

// source is the tar, unpacked.
type source struct {
	r     io.Reader
	ended bool
	err   error // other than io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	switch {
	case err == io.EOF:
		s.ended = n == 0
	case err != nil:
		s.err = err
	}
	return n, err
}

// pathSum stands for a path, with fewer bytes.
type pathSum [16]byte

func sumPath(path string) pathSum {
	sum := sha256.Sum256([]byte(path))
	return pathSum(sum[:])
}

// state is what is known of the latest item with a path.
type state uint8

const (
	isFile   state = iota + 1
	isLinked       // a file of which another name came
	isOther        // directories too
)

type importer struct {
	ImportOptions
	in     *source
	sink   Sink
	owners fsmeta.Owners
	stats  Stats

	met    map[pathSum]state
	others map[string]*archive.Item // symbolic links, devices and FIFOs: another name of one is stored as a copy
	links  map[string]string        // other names of files, and the first
}

func (im *importer) run() error {
	tr := tar.NewReader(im.in)
	last := ""
	for first := true; ; first = false {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return im.broken(first, last, err)
		}
		last = h.Name
		if err := im.entry(h, tr); err != nil {
			return err
		}
	}
	if im.in.ended {
		im.warn("", ErrNoEnd)
	}
	return im.drain()
}

// broken returns the error about a tar that cannot be read on.
func (im *importer) broken(first bool, last string, err error) error {
	switch {
	case im.in.err != nil: // it is none of the tar as such
		err = fmt.Errorf("read the tar: %w", im.in.err)
	case first && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
		return ErrNoTar
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the tar is cut off")
	case errors.Is(err, tar.ErrHeader):
		err = errors.New("the tar is damaged: an entry has a header that is none")
	}
	if first {
		return err
	}
	return fmt.Errorf("at or after %.200q: %w", last, err)
}

func (im *importer) warn(path string, err error) {
	im.stats.Warnings++
	im.Warn(path, err)
}

// maxTrailer is how much is read after the end of a tar.
const maxTrailer = 64 << 20

// drain reads what follows the end of the tar: zeros, as the last record is a full one. What packs it has its sum there,
// and who writes into a pipe must be able to.
func (im *importer) drain() error {
	buf := make([]byte, 1<<15)
	follows := false
	for total := 0; total < maxTrailer; {
		n, err := im.in.Read(buf)
		for _, c := range buf[:n] {
			follows = follows || c != 0
		}
		total += n
		if errors.Is(err, gzip.ErrHeader) || errors.Is(err, zstd.ErrMagicMismatch) {
			follows = true // which is not packed, while what is packed was right to its end
			break
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the end of the tar: %w", err)
		}
	}
	if follows {
		im.warn("", ErrTrailingData)
	}
	return nil
}

// entry stores an entry, or reports why not. An error is one that ends the import.
func (im *importer) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == gnuVolume {
		return nil // they are about no file
	}
	it, err := im.item(h)
	if err != nil {
		im.warn(h.Name, err)
		return nil
	}
	if h.Typeflag == tar.TypeLink || it.Mode&fsmeta.TypeMask != fsmeta.TypeRegular {
		content = nil
	}
	if err := im.sink.Add(it, content); err != nil {
		if im.in.err != nil || errors.Is(err, io.ErrUnexpectedEOF) {
			err = im.broken(false, h.Name, err)
		}
		return err
	}
	im.remember(it, h)
	im.Stored(it.Path)
	return nil
}

// remember keeps what later entries may need to know of an item.
func (im *importer) remember(it *archive.Item, h *tar.Header) {
	typ := it.Mode & fsmeta.TypeMask
	im.stats.count(typ)
	im.stats.Bytes += h.Size
	sum := sumPath(it.Path)
	if im.met[sum] == isLinked {
		im.warn(it.Path, errors.New("comes again in the tar, after other names of it; they will be names of the later one"))
	}
	delete(im.links, it.Path)
	delete(im.others, it.Path)
	switch typ {
	case fsmeta.TypeRegular:
		im.met[sum] = isFile
		if it.Source != "" {
			im.links[it.Path] = it.Source
			im.met[sumPath(it.Source)] = isLinked
		}
	case fsmeta.TypeDir:
		im.met[sum] = isOther
	default:
		im.met[sum] = isOther
		im.others[it.Path] = it
	}
}

// item returns the item of an entry, without content.
func (im *importer) item(h *tar.Header) (*archive.Item, error) {
	typ, known := typeOf(h.Typeflag)
	if !known {
		return nil, fmt.Errorf("is of the unknown type %q, and is not stored", h.Typeflag)
	}
	if typ == fsmeta.TypeRegular && h.Typeflag != tar.TypeLink && strings.HasSuffix(h.Name, "/") {
		typ = fsmeta.TypeDir // as very old tars say it
	}
	path := backup.SafePath(h.Name)
	if path == "." && typ != fsmeta.TypeDir {
		return nil, errors.New("has no name, and is not stored")
	}
	if h.Size > maxSparseSize && isSparse(h) {
		return nil, ErrTooLarge
	}
	if !isOwner(h.Uid) || !isOwner(h.Gid) {
		return nil, fmt.Errorf("has owner %d:%d, which are no numbers of owners, and is not stored", h.Uid, h.Gid)
	}
	it := &archive.Item{
		Path:  path,
		Mode:  typ | uint32(h.Mode)&fsmeta.PermMask,
		UID:   uint32(h.Uid),
		GID:   uint32(h.Gid),
		User:  nameOrNil(h.Uname),
		Group: nameOrNil(h.Gname),
		MTime: archive.NanosOf(h.ModTime),
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return nil, errors.New("is a symbolic link to nothing, and is not stored")
		}
		it.Source = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		if !isDevice(h.Devmajor) || !isDevice(h.Devminor) {
			return nil, fmt.Errorf("is device %d:%d, which cannot be, and is not stored", h.Devmajor, h.Devminor)
		}
		it.Rdev = new(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	case tar.TypeLink:
		if err := im.link(it, h.Linkname); err != nil {
			return nil, err
		}
	}
	im.attributes(it, h)
	return it, nil
}

// link makes an item another name of an earlier one.
func (im *importer) link(it *archive.Item, linkname string) error {
	source := backup.SafePath(linkname)
	if first, ok := im.links[source]; ok {
		source = first
	}
	if source == it.Path {
		return errors.New("is another name of itself, and is not stored")
	}
	if other, ok := im.others[source]; ok {
		it.Mode, it.Source, it.Rdev = other.Mode, other.Source, other.Rdev
		return nil
	}
	if s := im.met[sumPath(source)]; s != isFile && s != isLinked {
		return fmt.Errorf("is another name of %.200q, which does not come before it, and is not stored", source)
	}
	it.Source = source
	return nil
}

// attributes adds the extended attributes and the ACLs.
func (im *importer) attributes(it *archive.Item, h *tar.Header) {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		name = decodeXattrName(name)
		switch {
		case strings.HasPrefix(name, "system.posix_acl_"): // only the text is told from system to system
			if h.PAXRecords[aclAccessKey] == "" && h.PAXRecords[aclDefaultKey] == "" {
				im.warn(h.Name, fmt.Errorf("has an ACL only as the extended attribute %s, which is not stored; "+
					"GNU tar writes it in full with --acls", name))
			}
		case name == "" || strings.ContainsRune(name, 0):
			im.warn(h.Name, errors.New("has an extended attribute without a name, which is not stored"))
		default:
			if it.Xattrs == nil {
				it.Xattrs = map[string][]byte{}
			}
			it.Xattrs[name] = []byte(value)
		}
	}
	im.acls(it, h)
}

// acls adds the ACLs, where they say more than the mode, and then both of a directory's.
func (im *importer) acls(it *archive.Item, h *tar.Header) {
	access, extended := im.acl(h, aclAccessKey)
	it.ACLDefault, _ = im.acl(h, aclDefaultKey)
	switch {
	case !extended && it.ACLDefault == nil:
		return
	case access == nil:
		access = new(minimalACL(it.Mode))
	}
	it.ACLAccess = access
	if mask, ok := aclMask(*access); ok { // systems show it as the permissions of the group, bsdtar writes these instead
		it.Mode = it.Mode&^0o070 | mask<<3
	}
}

func (im *importer) acl(h *tar.Header, key string) (acl *string, extended bool) {
	text, extended, err := itemACL(h.PAXRecords[key], &im.owners)
	if err != nil {
		im.warn(h.Name, fmt.Errorf("%w, and its ACL is not stored", err))
		return nil, false
	}
	if text == "" {
		return nil, false
	}
	return &text, extended
}

// maxSparseSize is how large a file with holes may be, which a tar can state without having the bytes: as large as ext4
// can hold. To read more zeros would take days.
const maxSparseSize = 16 << 40

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, gnuSparsePrefix) {
			return true
		}
	}
	return false
}

func isOwner(id int) bool { return id >= 0 && int64(id) <= math.MaxUint32 }

func isDevice(n int64) bool { return n >= 0 && n <= math.MaxUint32 }

func nameOrNil(name string) *string {
	if name == "" {
		return nil
	}
	return &name
}
