// Package diff finds out what differs between two archives.
//
// Both streams of items are read side by side, always the one that is behind in the order of paths, as a walk gives them.
// So only what differs is kept in memory. Archives of several roots, or of a tar, need not be in order; as soon as that
// turns out, all items of both are read into tables instead, and memory follows the number of files.
package diff

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

// Options say what to compare.
type Options struct {
	Match func(path string) bool // which items; nil: all
	MTime bool                   // whether times of modification are compared too
	// Warn is told of items that are lost. They look as if they were not in the archive.
	Warn func(err error)
}

// Kind says how a path differs.
type Kind string

// The kinds of changes.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// A Change is what differs at one path. Of a path that has changed, Old and New are both set, and a field of Attrs for
// each difference; otherwise one of them.
type Change struct {
	Kind     Kind
	Path     string
	Old, New *archive.Item // without their chunks

	// Content is set if there is another content. The bytes are those of chunks that only one of the archives has in this
	// file; of a file that is only in one of them, all of it.
	Content       bool
	BytesAdded    int64
	BytesRemoved  int64
	Attrs         Attrs
	XattrsChanged []string // names of those that were added, removed or changed
}

// Attrs says which attributes differ.
type Attrs struct {
	Type, Mode, Owner, Target, Device, MTime, ACLAccess, ACLDefault, Flags, Flaw bool
}

// Archives returns what differs from an archive to another one of the same repository, in the order of paths. A hard link
// counts with the content that it stands for: whether it is a link does not matter.
func Archives(ctx context.Context, cat *catalog.Catalog, from, to *archive.Archive, o Options) ([]*Change, error) {
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	d := &differ{Options: o, catalog: cat, archives: [2]*archive.Archive{from, to}}
	ordered, err := d.merge(ctx)
	if err == nil && !ordered {
		d.changes, d.pending, d.links = nil, nil, nil
		err = d.join(ctx)
	}
	if err == nil {
		err = d.resolve(ctx)
	}
	if err != nil {
		return nil, err
	}
	changes := slices.DeleteFunc(d.changes, func(c *Change) bool { return c.Kind == Changed && !c.differs() })
	slices.SortFunc(changes, func(a, b *Change) int { return archive.ComparePaths(a.Path, b.Path) })
	return changes, nil
}

func (c *Change) differs() bool { return c.Content || c.Attrs != Attrs{} || len(c.XattrsChanged) > 0 }

// The two sides.
const (
	older = iota
	newer
)

type differ struct {
	Options
	catalog  *catalog.Catalog
	archives [2]*archive.Archive
	told     [2]int // how many gaps have been warned of
	changes  []*Change
	pending  []*pending
	links    []link
}

// link is a path that is another name of the same path in both archives, and differs in nothing else.
type link struct{ path, source string }

// pending is a change of which the content is not known yet, as a hard link is in it: the chunks are those of another
// item.
type pending struct {
	change *Change
	source [2]string // the path of the item that has the chunks; empty: they are known
	chunks [2][]archive.Chunk
}

func isHardLink(it *archive.Item) bool { return typeOf(it) == fsmeta.TypeRegular && it.Source != "" }

func typeOf(it *archive.Item) uint32 { return it.Mode & fsmeta.TypeMask }

// items returns the items of an archive that are wanted. An error ends it.
func (d *differ) items(ctx context.Context, side int) iter.Seq2[*archive.Item, error] {
	return func(yield func(*archive.Item, error) bool) {
		gaps := 0
		for it, err := range d.catalog.Items(ctx, d.archives[side]) {
			if catalog.Lost(err) {
				if gaps++; gaps > d.told[side] {
					d.told[side] = gaps
					d.Warn(err)
				}
				continue
			}
			if (err != nil || d.Match == nil || d.Match(it.Path)) && !yield(it, err) {
				return
			}
		}
	}
}

// merge compares archives whose items are in the order of paths, each path once. It reports whether they are; if not, what
// it has found is of no use.
func (d *differ) merge(ctx context.Context) (bool, error) {
	var next [2]func() (*archive.Item, error, bool)
	var items [2]*archive.Item // those at hand; nil at the end
	ordered := true
	advance := func(side int) error {
		it, err, _ := next[side]()
		if last := items[side]; it != nil && last != nil && archive.ComparePaths(last.Path, it.Path) >= 0 {
			ordered = false
		}
		items[side] = it
		return err
	}
	for side := range next {
		var stop func()
		next[side], stop = iter.Pull2(d.items(ctx, side))
		defer stop()
		if err := advance(side); err != nil {
			return false, err
		}
	}
	for ordered && (items[older] != nil || items[newer] != nil) {
		a, b := items[older], items[newer]
		behind := 0
		switch {
		case a == nil:
			behind = 1
		case b == nil:
			behind = -1
		default:
			behind = archive.ComparePaths(a.Path, b.Path)
		}
		switch {
		case behind < 0:
			d.alone(older, Removed, a)
		case behind > 0:
			d.alone(newer, Added, b)
		default:
			d.compare(a, b)
		}
		if behind <= 0 {
			if err := advance(older); err != nil {
				return false, err
			}
		}
		if behind >= 0 {
			if err := advance(newer); err != nil {
				return false, err
			}
		}
	}
	return ordered, nil
}

// join compares archives whose items are in any order. Of items with the same path in one archive the last one counts.
func (d *differ) join(ctx context.Context) error {
	var tables [2]map[string]*archive.Item
	for side := range tables {
		tables[side] = map[string]*archive.Item{}
		for it, err := range d.items(ctx, side) {
			if err != nil {
				return err
			}
			tables[side][it.Path] = it
		}
	}
	for path, a := range tables[older] {
		if b, ok := tables[newer][path]; ok {
			d.compare(a, b)
		} else {
			d.alone(older, Removed, a)
		}
	}
	for path, b := range tables[newer] {
		if _, ok := tables[older][path]; !ok {
			d.alone(newer, Added, b)
		}
	}
	return nil
}

// alone takes an item that is in one of the archives only.
func (d *differ) alone(side int, kind Kind, it *archive.Item) {
	c := &Change{Kind: kind, Path: it.Path}
	if side == older {
		c.Old = it
	} else {
		c.New = it
	}
	d.changes = append(d.changes, c)
	if typeOf(it) != fsmeta.TypeRegular {
		return
	}
	p := &pending{change: c}
	p.set(side, it)
	d.content(p)
}

// compare takes the two items of a path.
func (d *differ) compare(a, b *archive.Item) {
	c := &Change{Kind: Changed, Path: a.Path, Old: a, New: b}
	regularA, regularB := typeOf(a) == fsmeta.TypeRegular, typeOf(b) == fsmeta.TypeRegular
	c.Attrs = Attrs{
		Type:       typeOf(a) != typeOf(b),
		Mode:       (a.Mode^b.Mode)&fsmeta.PermMask != 0,
		Owner:      a.UID != b.UID || a.GID != b.GID || !equal(a.User, b.User) || !equal(a.Group, b.Group),
		Target:     !regularA && !regularB && a.Source != b.Source,
		Device:     !equal(a.Rdev, b.Rdev),
		MTime:      d.MTime && a.MTime != b.MTime,
		ACLAccess:  !equal(a.ACLAccess, b.ACLAccess),
		ACLDefault: !equal(a.ACLDefault, b.ACLDefault),
		Flags:      !equal(a.BSDFlags, b.BSDFlags),
		Flaw:       a.Flaw() != b.Flaw(),
	}
	c.XattrsChanged = changedXattrs(a.Xattrs, b.Xattrs)
	p := &pending{change: c}
	if regularA {
		p.set(older, a)
	}
	if regularB {
		p.set(newer, b)
	}
	if !c.differs() && regularA && regularB && isHardLink(a) == isHardLink(b) {
		switch {
		case isHardLink(a) && a.Source == b.Source:
			d.links = append(d.links, link{a.Path, a.Source})
			return
		case !isHardLink(a) && slices.Equal(a.Chunks, b.Chunks):
			return
		}
	}
	d.changes = append(d.changes, c)
	if regularA || regularB {
		d.content(p)
	}
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func changedXattrs(a, b map[string][]byte) []string {
	var names []string
	for name, value := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(value, other) {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return name == archive.FlawXattr })
}

func (p *pending) set(side int, it *archive.Item) {
	if isHardLink(it) {
		p.source[side] = it.Source
		return
	}
	p.chunks[side] = it.Chunks
}

// content compares contents, at once if they are known. The items then need their chunks no more.
func (d *differ) content(p *pending) {
	if p.source[older] != "" || p.source[newer] != "" {
		d.pending = append(d.pending, p)
	} else {
		p.compare()
	}
	for _, it := range []*archive.Item{p.change.Old, p.change.New} {
		if it != nil {
			it.Chunks = nil
		}
	}
}

// compare tells what the chunks of both sides have not in common.
func (p *pending) compare() {
	c := p.change
	c.Content = c.Kind == Changed && !slices.EqualFunc(p.chunks[older], p.chunks[newer], func(a, b archive.Chunk) bool {
		return a.ID == b.ID
	})
	if c.Kind == Changed && !c.Content {
		return
	}
	uses := map[repository.ID]int{}
	for _, chunk := range p.chunks[newer] {
		uses[chunk.ID]++
	}
	for _, chunk := range p.chunks[older] {
		if uses[chunk.ID]--; uses[chunk.ID] < 0 {
			c.BytesRemoved += int64(chunk.Size)
		}
	}
	for _, chunk := range p.chunks[newer] {
		if uses[chunk.ID] > 0 {
			uses[chunk.ID]--
			c.BytesAdded += int64(chunk.Size)
		}
	}
}

// resolve finds the content that hard links stand for, which may take another look at the items.
func (d *differ) resolve(ctx context.Context) error {
	d.resolveLinks()
	var found [2]map[string][]archive.Chunk
	for side := range found {
		found[side] = map[string][]archive.Chunk{}
		for _, p := range d.pending {
			if p.source[side] != "" {
				found[side][p.source[side]] = nil
			}
		}
		if err := d.find(ctx, d.archives[side], found[side]); err != nil {
			return err
		}
	}
	for _, p := range d.pending {
		for side := range found {
			if p.source[side] != "" {
				p.chunks[side] = found[side][p.source[side]]
			}
		}
		p.compare()
	}
	return nil
}

// resolveLinks looks at links that lead to the same path in both archives: what is there has been compared, if it is
// wanted.
func (d *differ) resolveLinks() {
	changes := map[string]*Change{}
	if len(d.links) > 0 {
		for _, c := range d.changes {
			changes[c.Path] = c
		}
	}
	for _, l := range d.links {
		source := changes[l.source]
		wanted := d.Match == nil || d.Match(l.source)
		if wanted && (source == nil || source.Kind == Changed && !source.Content) {
			continue
		}
		it := &archive.Item{Path: l.path, Mode: fsmeta.TypeRegular}
		c := &Change{Kind: Changed, Path: l.path, Old: it, New: it}
		d.changes = append(d.changes, c)
		if wanted && source.Kind == Changed {
			c.Content, c.BytesAdded, c.BytesRemoved = true, source.BytesAdded, source.BytesRemoved
		} else {
			d.pending = append(d.pending, &pending{change: c, source: [2]string{l.source, l.source}})
		}
	}
}

// find fills in the chunks of the items whose paths are the keys.
func (d *differ) find(ctx context.Context, a *archive.Archive, chunks map[string][]archive.Chunk) error {
	if len(chunks) == 0 {
		return nil
	}
	for it, err := range d.catalog.Items(ctx, a) {
		if catalog.Lost(err) {
			continue // which has been told
		}
		if err != nil {
			return fmt.Errorf("look for the files that hard links are names of: %w", err)
		}
		if _, ok := chunks[it.Path]; ok {
			chunks[it.Path] = it.Chunks
		}
	}
	return nil
}
