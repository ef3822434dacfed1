package mount

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unsafe"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

const (
	// maxName is the length in bytes of the longest name that the kernel takes from a file system like this.
	maxName = 1024
	// maxPath is the length in bytes of the longest path, sixteen times what a system call takes.
	maxPath = 64 << 10
	// maxEntries is how many files and folders an archive may have.
	maxEntries = 1 << 26
	// freeFolders is how many folders may have no items of their own, besides one for each item: few items could name very
	// many.
	freeFolders = 1 << 16
	// maxNames is the number of bytes that all names may have together.
	maxNames = math.MaxUint32
	// maxHops is how many hard links may lead one to the other before the last leads to a file.
	maxHops = 16
)

var (
	errTooMany    = errors.New("the archive has more files than can be mounted")
	errLeavesTree = errors.New("is not a path that stays in the archive")
	errFolders    = errors.New("is below folders that are not in the archive, as too many others are")
)

// flags of an entry, beside the length of its name
const (
	nameMask   = 1<<11 - 1
	flagXattrs = 1 << 11 // there are extended attributes
	flagLink   = 1 << 12 // a hard link: size is the index of the file
	flagGone   = 1 << 13 // not shown: a hard link that leads nowhere
	flagParent = 1 << 14 // a folder with something in it
	flagMade   = 1 << 15 // a folder without an item of its own
)

// An entry is what is kept in memory of a file. It has 48 bytes, besides its name and 4 bytes in the list of children.
type entry struct {
	// size is of a regular file and a symbolic link the length in bytes; of a device its number; of a hard link the index
	// of the file; of a folder where its children are in the list (<< 32) and how many.
	size   uint64
	sec    int64  // mtime
	item   uint64 // where the item begins in the stream of items
	nsec   uint32
	name   uint32 // where the name begins in tree.names
	parent uint32
	owner  uint32 // index in tree.owners
	nlink  uint32 // 0 stands for 1
	mode   uint16 // type and permissions
	meta   uint16 // length of the name, and flags
}

func (e *entry) typ() uint32             { return uint32(e.mode) & fsmeta.TypeMask }
func (e *entry) isDir() bool             { return e.typ() == fsmeta.TypeDir }
func (e *entry) has(flag uint16) bool    { return e.meta&flag != 0 }
func (e *entry) children() (from, n int) { return int(e.size >> 32), int(e.size & math.MaxUint32) }

type owner struct{ uid, gid uint32 }

// A tree is the directory of an archive, as small as it can be kept: what else there is to know of a file is read again
// from the stream of items when somebody asks. Entries have the order of the stream, so that whoever reads the archive
// again gives each the same index; entry 0 is the root. A tree is never changed.
type tree struct {
	entries []entry
	names   []byte
	list    []uint32 // the children of each folder, sorted by name
	owners  []owner
	pieces  []piece // of the stream of items
}

// A piece is a chunk of the stream of items.
type piece struct {
	id    repository.ID
	start int64 // in the part of the stream that is not lost
}

// bytes returns how much memory the tree takes.
func (t *tree) bytes() int64 {
	return int64(cap(t.entries))*int64(unsafe.Sizeof(entry{})) + int64(cap(t.names)) + 4*int64(cap(t.list)) +
		int64(cap(t.owners))*int64(unsafe.Sizeof(owner{})) + int64(cap(t.pieces))*int64(unsafe.Sizeof(piece{}))
}

func (t *tree) name(i uint32) []byte {
	e := &t.entries[i]
	return t.names[e.name:][:e.meta&nameMask]
}

// children returns the indices of what is in a folder, sorted by name.
func (t *tree) children(dir uint32) []uint32 {
	from, n := t.entries[dir].children()
	return t.list[from:][:n]
}

// child returns what has a name in a folder.
func (t *tree) child(dir uint32, name string) (uint32, bool) {
	children := t.children(dir)
	at, ok := slices.BinarySearchFunc(children, name, func(i uint32, name string) int {
		return strings.Compare(unsafe.String(unsafe.SliceData(t.name(i)), len(t.name(i))), name)
	})
	if !ok {
		return 0, false
	}
	return t.file(children[at]), true
}

// file returns the index of the file that a child is a name of.
func (t *tree) file(child uint32) uint32 {
	if e := &t.entries[child]; e.has(flagLink) {
		return uint32(e.size)
	}
	return child
}

// path returns the path of an entry in the archive.
func (t *tree) path(i uint32) string {
	var names [][]byte
	for ; i != 0; i = t.entries[i].parent {
		names = append(names, t.name(i))
	}
	slices.Reverse(names)
	return string(bytes.Join(names, []byte("/")))
}

// A builder makes a tree of the items of an archive.
type builder struct {
	tree
	seed    maphash.Seed
	table   []uint32 // of indices, by parent and name; 0 is free. Its length is a power of two
	sources map[uint32]string
	ids     map[owner]uint32
	dir     string // the folder of the item before, and its index
	dirAt   uint32
	free    int // how many folders without items there may be yet
}

// newBuilder returns a builder of a tree whose folders, where they have no items, have this owner and time.
func newBuilder(o owner, mtime archive.Nanos) *builder {
	b := &builder{
		seed:    maphash.MakeSeed(),
		table:   make([]uint32, 64),
		sources: map[uint32]string{},
		ids:     map[owner]uint32{},
		free:    freeFolders,
	}
	b.entries = []entry{{
		mode: uint16(fsmeta.TypeDir | 0o755), meta: flagMade, owner: b.owner(o), sec: mtime.Sec, nsec: mtime.Nsec,
	}}
	return b
}

func (b *builder) owner(o owner) uint32 {
	i, ok := b.ids[o]
	if !ok {
		i = uint32(len(b.owners))
		b.owners = append(b.owners, o)
		b.ids[o] = i
	}
	return i
}

// slot returns the place in the table where what has a name in a folder is, or where it belongs.
func (b *builder) slot(parent uint32, name string) *uint32 {
	mask := uint64(len(b.table) - 1)
	h := maphash.String(b.seed, name) ^ uint64(parent)*0x9e3779b97f4a7c15
	for at := (h ^ h>>32) & mask; ; at = (at + 1) & mask {
		i := b.table[at]
		if i == 0 || b.entries[i].parent == parent && string(b.name(i)) == name {
			return &b.table[at]
		}
	}
}

// grow makes room in the table for another entry.
func (b *builder) grow() {
	if len(b.entries)*2 < len(b.table) {
		return
	}
	b.table = make([]uint32, 2*len(b.table))
	for i := 1; i < len(b.entries); i++ {
		*b.slot(b.entries[i].parent, string(b.name(uint32(i)))) = uint32(i)
	}
}

// insert adds an empty entry.
func (b *builder) insert(parent uint32, name string) (uint32, error) {
	if len(b.entries) >= maxEntries || len(b.names)+len(name) > maxNames {
		return 0, errTooMany
	}
	b.grow()
	i := uint32(len(b.entries))
	*b.slot(parent, name) = i
	b.entries = append(b.entries, entry{parent: parent, name: uint32(len(b.names)), meta: uint16(len(name))})
	b.names = append(b.names, name...)
	b.entries[parent].meta |= flagParent
	return i, nil
}

// checkName returns what is wrong with a name in a path.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0:
		return errLeavesTree
	case len(name) > maxName:
		return errors.New("has a name that is too long")
	}
	return nil
}

// folder returns the index of the folder with a path. If make is set, those that are not there are made.
func (b *builder) folder(path string, make bool) (uint32, error) {
	if path == "" {
		return 0, nil
	}
	if path == b.dir && b.entries[b.dirAt].isDir() {
		return b.dirAt, nil
	}
	at := uint32(0)
	for done := 0; done < len(path); {
		name, _, _ := strings.Cut(path[done:], "/")
		if err := checkName(name); err != nil {
			return 0, err
		}
		if done += len(name) + 1; done == len(path) { // it ends in a slash
			return 0, errLeavesTree
		}
		next := *b.slot(at, name)
		switch {
		case next == 0 && !make:
			return 0, errNoEntry
		case next == 0 && b.free == 0:
			return 0, errFolders
		case next == 0:
			b.free--
			var err error
			if next, err = b.insert(at, name); err != nil {
				return 0, err
			}
			root, e := &b.entries[0], &b.entries[next]
			e.mode, e.sec, e.nsec, e.owner = uint16(fsmeta.TypeDir|0o755), root.sec, root.nsec, root.owner
			e.meta |= flagMade
		case !b.entries[next].isDir():
			return 0, fmt.Errorf("is below %q, which is not a folder", path[:done-1])
		}
		at = next
	}
	b.dir, b.dirAt = path, at
	return at, nil
}

var errNoEntry = errors.New("is not in the archive")

// find returns what has a path.
func (b *builder) find(path string) (uint32, error) {
	dir, name := split(path)
	parent, err := b.folder(dir, false)
	if err != nil {
		return 0, err
	}
	if i := *b.slot(parent, name); i != 0 {
		return i, nil
	}
	return 0, errNoEntry
}

func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i], path[i+1:]
	} else if i == 0 { // an absolute path
		return "/", path[1:]
	}
	return "", path
}

// add takes an item in. It says what is wrong with one that cannot be shown; errTooMany is final.
func (b *builder) add(it *archive.Item, offset int64, o owner) error {
	if len(it.Path) > maxPath || len(it.Source) > maxPath {
		return errors.New("has a path that is too long")
	}
	e, err := newEntry(it)
	if err != nil {
		return err
	}
	b.free++
	e.item, e.owner = uint64(offset), b.owner(o)
	if it.Path == "." {
		if !e.isDir() {
			return errors.New("is not a folder, and cannot take the place of the root")
		}
		e.meta |= b.entries[0].meta & flagParent
		b.entries[0] = e
		return nil
	}
	dir, name := split(it.Path)
	if err := checkName(name); err != nil {
		return err
	}
	if dir != b.dir && dir != "" { // before any folder is made for it
		for name := range strings.SplitSeq(dir, "/") {
			if err := checkName(name); err != nil {
				return err
			}
		}
	}
	parent, err := b.folder(dir, true)
	if err != nil {
		return err
	}
	i := *b.slot(parent, name)
	if i == 0 {
		if i, err = b.insert(parent, name); err != nil {
			return err
		}
	}
	// Where several items have one path, the last is shown.
	old := &b.entries[i]
	if old.has(flagParent) && !e.isDir() {
		return errors.New("is a folder with something in it, too")
	}
	e.parent, e.name = old.parent, old.name
	e.meta |= old.meta & (nameMask | flagParent)
	delete(b.sources, i)
	if e.has(flagLink) {
		b.sources[i] = it.Source
	}
	*old = e
	return nil
}

// newEntry returns what is kept of an item.
func newEntry(it *archive.Item) (entry, error) {
	e := entry{mode: uint16(it.Mode), sec: it.MTime.Sec, nsec: it.MTime.Nsec}
	if it.Mode > math.MaxUint16 {
		return e, fmt.Errorf("is of an unknown type (mode %o)", it.Mode)
	}
	switch e.typ() {
	case fsmeta.TypeDir, fsmeta.TypeFIFO:
	case fsmeta.TypeRegular:
		switch {
		case it.Source != "":
			e.meta |= flagLink
		case !it.HasChunks:
			return e, errors.New("has neither content nor the name of another file in the archive")
		}
		for i := range it.Chunks {
			e.size += uint64(it.Chunks[i].Size)
		}
	case fsmeta.TypeSymlink:
		if it.Source == "" || strings.IndexByte(it.Source, 0) >= 0 {
			return e, errors.New("is a link without a target that can be")
		}
		e.size = uint64(len(it.Source))
	case fsmeta.TypeChar, fsmeta.TypeBlock:
		if it.Rdev == nil {
			return e, errors.New("is a device without a number in the archive")
		}
		e.size = *it.Rdev
	default:
		return e, fmt.Errorf("is of an unknown type (mode %o)", it.Mode)
	}
	if len(it.Xattrs) > 0 {
		e.meta |= flagXattrs
	}
	return e, nil
}

// finish returns the tree. It tells of each hard link that leads nowhere.
func (b *builder) finish(pieces []piece, warn func(path string, err error)) *tree {
	for i := 1; i < len(b.entries); i++ { // in the order of the stream, so that messages come in one order
		source, ok := b.sources[uint32(i)]
		if !ok {
			continue
		}
		if file, err := b.resolve(source); err == nil {
			b.entries[i].size = uint64(file)
			b.entries[file].nlink = max(b.entries[file].nlink, 1) + 1
		} else {
			b.entries[i].meta |= flagGone
			warn(b.path(uint32(i)), fmt.Errorf("is another name of %q, which %w", source, err))
		}
	}
	b.gather()
	return &tree{
		entries: slices.Clone(b.entries),
		names:   slices.Clone(b.names),
		list:    b.list,
		owners:  slices.Clone(b.owners),
		pieces:  slices.Clone(pieces),
	}
}

// resolve returns the file that a hard link is another name of.
func (b *builder) resolve(source string) (uint32, error) {
	for range maxHops {
		i, err := b.find(source)
		if err != nil {
			return 0, err
		}
		e := &b.entries[i]
		switch {
		case e.isDir():
			return 0, errors.New("is a folder")
		case !e.has(flagLink):
			return i, nil
		}
		source = b.sources[i]
	}
	return 0, errors.New("leads to no file")
}

// gather makes the lists of children.
func (b *builder) gather() {
	shown := func(e *entry) bool { return !e.has(flagGone) }
	for i := range b.entries {
		if e := &b.entries[i]; e.isDir() {
			e.size = 0
		}
	}
	for i := 1; i < len(b.entries); i++ {
		if e := &b.entries[i]; shown(e) {
			b.entries[e.parent].size++
		}
	}
	total := uint64(0)
	for i := range b.entries {
		if e := &b.entries[i]; e.isDir() {
			n := e.size
			e.size = total << 32 // how many are there already is counted below
			total += n
		}
	}
	b.list = make([]uint32, total)
	for i := 1; i < len(b.entries); i++ {
		if e := &b.entries[i]; shown(e) {
			from, n := b.entries[e.parent].children()
			b.list[from+n] = uint32(i)
			b.entries[e.parent].size++
		}
	}
	byName := func(i, j uint32) int { return bytes.Compare(b.name(i), b.name(j)) }
	for i := range b.entries {
		if e := &b.entries[i]; e.isDir() {
			if children := b.children(uint32(i)); !slices.IsSortedFunc(children, byName) { // they are, most often
				slices.SortFunc(children, byName)
			}
		}
	}
}
