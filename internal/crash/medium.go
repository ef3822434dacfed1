// Package crash knows what a power failure can leave of the files that a process wrote. It follows a recorded run of the
// real program (strace), call by call, and builds the folders that could exist then.
//
// The model is a strict one: nothing is on the medium but what fsync has put there, and all else may be there or not.
//
//   - What was written to a file and not synced is lost, kept, cut off, or, sector by sector of 512 bytes, old, new or zero;
//     behind the end that was synced also garbage.
//   - A name that was made, replaced or removed is so only when its folder has been synced after that. Until then each change
//     is kept or lost by itself, but for those of the same name, which keep their order. A rename within a folder is one
//     change. That a file was synced does not mean that it has a name.
//   - What was synced stays.
package crash

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// sector is what a disk writes as a whole, in bytes.
const sector = 512

// A Medium is a folder as processes see it, and what of it is on the medium. It is not safe for concurrent use.
type Medium struct {
	path string // of the folder
	root *node
	seq  int // calls so far
}

// node is a file or a folder.
type node struct {
	data, durable []byte
	edits         []edit // of data, since durable

	entries, durableEntries map[string]*node // nil for a file
	changes                 []change         // of entries, since durableEntries
}

// edit is a write at an offset, or, without data, a change of the size to it.
type edit struct {
	seq    int
	offset int64
	data   []byte
}

// change is a change of names in a folder: each gets a node, or is removed if that is nil.
type change struct {
	seq   int
	names []string
	to    []*node
}

func newFolder() *node { return &node{entries: map[string]*node{}, durableEntries: map[string]*node{}} }

// New returns a medium that has the folder at path as it is now, with all in it synced.
func New(path string) (*Medium, error) {
	root, err := load(path)
	return &Medium{path: filepath.Clean(path), root: root}, err
}

func load(path string) (*node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		data, err := os.ReadFile(path)
		return &node{data: data, durable: bytes.Clone(data)}, err
	}
	n := newFolder()
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if n.entries[e.Name()], err = load(filepath.Join(path, e.Name())); err != nil {
			return nil, err
		}
	}
	n.durableEntries = maps.Clone(n.entries)
	return n, nil
}

// resized returns data with another length, made longer by zeros.
func resized(data []byte, size int64) []byte {
	if int64(len(data)) >= size {
		return data[:size]
	}
	return append(data, make([]byte, size-int64(len(data)))...)
}

func (e edit) apply(data []byte) []byte {
	if e.data == nil {
		return resized(data, e.offset)
	}
	if end := e.offset + int64(len(e.data)); end > int64(len(data)) {
		data = resized(data, end)
	}
	copy(data[e.offset:], e.data)
	return data
}

func (n *node) edit(e edit) {
	n.data = e.apply(n.data)
	n.edits = append(n.edits, e)
}

func apply(c change, entries map[string]*node) {
	for i, name := range c.names {
		if c.to[i] == nil {
			delete(entries, name)
		} else {
			entries[name] = c.to[i]
		}
	}
}

func (n *node) change(c change) {
	apply(c, n.entries)
	n.changes = append(n.changes, c)
}

// sync makes durable what was done up to a call.
func (n *node) sync(seq int) {
	for len(n.edits) > 0 && n.edits[0].seq <= seq {
		n.durable = n.edits[0].apply(n.durable)
		n.edits = n.edits[1:]
	}
	for len(n.changes) > 0 && n.changes[0].seq <= seq {
		apply(n.changes[0], n.durableEntries)
		n.changes = n.changes[1:]
	}
}

// A Fate is what becomes of all that was not synced.
type Fate int

// The fates.
const (
	Lost           Fate = iota // names and data
	Kept                       // both
	NamesAlone                 // names are kept and data is lost
	DataAlone                  // the other way round
	NamesWithZeros             // names are kept, and zeros stand for data
	Mixed                      // all of that, and torn, by chance
	Fates          = int(iota)
)

// Crash returns what is left after a power failure now. The rng is for Mixed.
func (m *Medium) Crash(fate Fate, rng *rand.Rand) *Tree {
	c := crashing{fate: fate, rng: rng, left: &Tree{Files: map[string][]byte{}}, done: map[*node][]byte{}}
	if fate == Mixed {
		c.odds = []int{1, 5, 9}[rng.IntN(3)]
	}
	c.folder("", m.root)
	return c.left
}

type crashing struct {
	fate Fate
	rng  *rand.Rand
	odds int // of ten, that a change of names is kept
	left *Tree
	done map[*node][]byte // a file with two names has one content
}

func (c *crashing) folder(path string, n *node) {
	entries := maps.Clone(n.durableEntries)
	blocked := map[string]bool{}
	for _, change := range n.changes {
		keep := c.fate != Lost && c.fate != DataAlone
		if c.fate == Mixed {
			keep = c.rng.IntN(10) < c.odds
		}
		for _, name := range change.names {
			keep = keep && !blocked[name]
		}
		if keep {
			apply(change, entries)
			continue
		}
		for _, name := range change.names {
			blocked[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		at, n := filepath.Join(path, name), entries[name]
		if n.entries != nil {
			c.left.Folders = append(c.left.Folders, at)
			c.folder(at, n)
			continue
		}
		content, ok := c.done[n]
		if !ok {
			content = c.content(n)
			c.done[n] = content
		}
		c.left.Files[at] = content
	}
}

func (c *crashing) content(n *node) []byte {
	if len(n.edits) == 0 || c.fate == Kept || c.fate == DataAlone {
		return n.data
	}
	switch c.fate {
	case Lost, NamesAlone:
		return n.durable
	case NamesWithZeros:
		return resized(bytes.Clone(n.durable), int64(len(n.data)))
	}
	switch c.rng.IntN(5) {
	case 0:
		return n.durable
	case 1:
		return n.data
	case 2:
		return c.cut(n)
	default:
		return c.sectors(n)
	}
}

// cut returns the content after some of the edits, the last one torn.
func (c *crashing) cut(n *node) []byte {
	data := bytes.Clone(n.durable)
	whole := c.rng.IntN(len(n.edits))
	for _, e := range n.edits[:whole] {
		data = e.apply(data)
	}
	e := n.edits[whole]
	// Sectors lie at multiples of their size in the file, whatever the offset of the write.
	if last := (e.offset + int64(len(e.data))) / sector; last > e.offset/sector {
		end := sector * (e.offset/sector + 1 + c.rng.Int64N(last-e.offset/sector))
		e.data = e.data[:min(int64(len(e.data)), end-e.offset)]
		data = e.apply(data)
	}
	return data
}

// sectors returns a content in which each sector that was written to is as it was, or as it should be, or what was not yet
// there of it is zero or garbage.
func (c *crashing) sectors(n *node) []byte {
	data := resized(bytes.Clone(n.data), int64(max(len(n.data), len(n.durable))))
	if len(n.data) < len(n.durable) && c.rng.IntN(2) == 0 {
		data = data[:len(n.data)]
	}
	garbage := c.rng.IntN(4) == 0
	for from := 0; from < len(data); from += sector {
		to := min(from+sector, len(data))
		known := data[from:max(from, min(to, len(n.durable)))]
		fresh := data[from+len(known) : to]
		if bytes.Equal(data[from:to], n.durable[min(from, len(n.durable)):min(to, len(n.durable))]) {
			continue
		}
		switch c.rng.IntN(4) {
		case 0: // as it was
			copy(known, n.durable[min(from, len(n.durable)):])
			clear(fresh)
		case 1:
			if len(known) == 0 && garbage {
				for i := range fresh {
					fresh[i] = byte(c.rng.Uint32())
				}
			}
		}
	}
	if size := len(n.durable); size < len(data) && c.rng.IntN(3) == 0 {
		return data[:min(len(data), (size+c.rng.IntN(len(data)-size)+sector-1)/sector*sector)]
	}
	return data
}

// A Tree is the content of a folder.
type Tree struct {
	Folders []string // before what is in them
	Files   map[string][]byte
}

// Sum returns what tells it from others.
func (t *Tree) Sum() [sha256.Size]byte {
	h := sha256.New()
	add := func(b []byte) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, path := range t.Folders {
		add([]byte(path))
	}
	for _, path := range slices.Sorted(maps.Keys(t.Files)) {
		add([]byte(path))
		add(t.Files[path])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Write makes the folder dir, which must not exist, with the content of the tree.
func (t *Tree) Write(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, path := range t.Folders {
		if err := os.Mkdir(filepath.Join(dir, path), 0o700); err != nil {
			return err
		}
	}
	for path, data := range t.Files {
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
