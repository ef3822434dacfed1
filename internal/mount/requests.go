package mount

import (
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/catalog"
	"garret/internal/fsmeta"
)

// This file has what the kernel asks for. All else is refused: the mount is read-only.

func (fs *filesystem) String() string { return "garret" }

func (fs *filesystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(forever)
	return fs.nodeAttr(in.NodeId, &out.Attr)
}

func (fs *filesystem) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	k, _, top := fs.entry(header.NodeId)
	if top {
		k, ok := fs.byDir[name]
		if !ok {
			return fuse.OK // node 0: the kernel may remember that there is none
		}
		out.NodeId = fs.node(k, 0)
		fs.archiveAttr(k, &out.Attr)
		return fuse.OK
	}
	t, i, code := fs.tree(header.NodeId)
	if !code.Ok() {
		return code
	}
	if !t.entries[i].isDir() {
		return fuse.ENOTDIR
	}
	if child, ok := t.child(i, name); ok {
		out.NodeId = fs.node(k, child)
		fs.attr(out.NodeId, t, child, &out.Attr)
	}
	return fuse.OK
}

func (fs *filesystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	if _, _, top := fs.entry(in.NodeId); top {
		return fuse.OK
	}
	t, i, code := fs.tree(in.NodeId)
	if code.Ok() && !t.entries[i].isDir() {
		code = fuse.ENOTDIR
	}
	return code
}

func (fs *filesystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.list(in, func(e fuse.DirEntry, _ func(*fuse.Attr)) bool { return out.AddDirEntry(e) })
}

func (fs *filesystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.list(in, func(e fuse.DirEntry, attr func(*fuse.Attr)) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if e.Name != "." && e.Name != ".." { // else node 0: they count as no lookup
			entry.NodeId = e.Ino
			entry.SetEntryTimeout(forever)
			entry.SetAttrTimeout(forever)
			attr(&entry.Attr)
		}
		return true
	})
}

// list adds the entries of a folder from an offset on until there is no room. Offset 0 is ".", 1 is "..", and then come
// the children.
func (fs *filesystem) list(in *fuse.ReadIn, add func(e fuse.DirEntry, attr func(*fuse.Attr)) bool) fuse.Status {
	k, _, top := fs.entry(in.NodeId)
	var t *tree
	var children []uint32
	parent, n := uint64(fuse.FUSE_ROOT_ID), len(fs.dirs)
	if !top {
		var i uint32
		var code fuse.Status
		if t, i, code = fs.tree(in.NodeId); !code.Ok() {
			return code
		}
		if !t.entries[i].isDir() {
			return fuse.ENOTDIR
		}
		children = t.children(i)
		n = len(children)
		if i != 0 {
			parent = fs.node(k, t.entries[i].parent)
		}
	}
	for at := in.Offset; at < uint64(n)+2; at++ {
		e := fuse.DirEntry{Off: at + 1, Mode: fsmeta.TypeDir}
		var attr func(*fuse.Attr)
		switch {
		case at == 0:
			e.Name, e.Ino = ".", in.NodeId
		case at == 1:
			e.Name, e.Ino = "..", parent
		case top:
			k := int(at - 2)
			e.Name, e.Ino = fs.dirs[k], fs.node(k, 0)
			attr = func(out *fuse.Attr) { fs.archiveAttr(k, out) }
		default:
			child := children[at-2]
			file := t.file(child)
			e.Name, e.Ino, e.Mode = string(t.name(child)), fs.node(k, file), t.entries[file].typ()
			attr = func(out *fuse.Attr) { fs.attr(e.Ino, t, file, out) }
		}
		if !add(e, attr) {
			break
		}
	}
	return fuse.OK
}

func (fs *filesystem) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	it, t, i, code := fs.item(header.NodeId)
	if !code.Ok() {
		return nil, code
	}
	if t.entries[i].typ() != fsmeta.TypeSymlink {
		return nil, fuse.EINVAL
	}
	return []byte(it.Source), fuse.OK
}

func (fs *filesystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, maxName
	return fuse.OK
}

// xattrs returns the extended attributes of a node, nil if there are none.
func (fs *filesystem) xattrs(node uint64) (map[string][]byte, fuse.Status) {
	if _, _, top := fs.entry(node); top || fs.isArchive(node) {
		return nil, fuse.OK
	}
	t, i, code := fs.tree(node)
	if !code.Ok() || !t.entries[i].has(flagXattrs) {
		return nil, code
	}
	it, _, _, code := fs.item(node)
	if !code.Ok() {
		return nil, code
	}
	return it.Xattrs, fuse.OK
}

func (fs *filesystem) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	attrs, code := fs.xattrs(header.NodeId)
	if !code.Ok() {
		return 0, code
	}
	value, ok := attrs[name]
	switch {
	case !ok:
		return 0, fuse.ENOATTR
	case len(value) > math.MaxInt32:
		return 0, fuse.EIO
	case len(dest) < len(value):
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (fs *filesystem) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	attrs, code := fs.xattrs(header.NodeId)
	if !code.Ok() {
		return 0, code
	}
	names := xattrNames(attrs)
	switch {
	case len(names) > math.MaxInt32:
		return 0, fuse.EIO
	case len(dest) < len(names):
		return uint32(len(names)), fuse.ERANGE
	}
	return uint32(copy(dest, names)), fuse.OK
}

func (fs *filesystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&uint32(syscall.O_ACCMODE) != syscall.O_RDONLY {
		return fuse.EROFS
	}
	fs.mu.Lock()
	s := fs.shared[in.NodeId]
	if s != nil {
		s.count++
	}
	fs.mu.Unlock()
	if s == nil {
		it, t, i, code := fs.item(in.NodeId)
		switch {
		case !code.Ok():
			return code
		case t.entries[i].typ() != fsmeta.TypeRegular:
			return fuse.EINVAL
		}
		k, _, _ := fs.entry(in.NodeId)
		c := newContent(k, t.path(i), it.Chunks)
		fs.mu.Lock()
		if s = fs.shared[in.NodeId]; s == nil {
			s = &shared{content: c}
			fs.shared[in.NodeId] = s
		}
		s.count++
		fs.mu.Unlock()
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.handle++
	fs.open[fs.handle] = &reading{content: s.content}
	out.Fh = fs.handle
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (fs *filesystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.open, in.Fh)
	if s := fs.shared[in.NodeId]; s != nil {
		if s.count--; s.count == 0 {
			delete(fs.shared, in.NodeId)
		}
	}
}

// Read fails as a whole if a part of what is asked for is lost: fewer bytes would mean the end of the file to the kernel.
// It asks again for less.
func (fs *filesystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	fs.mu.Lock()
	r := fs.open[in.Fh]
	fs.mu.Unlock()
	if r == nil || in.Offset > math.MaxInt64 {
		return nil, fuse.EBADF
	}
	r.advance(int64(in.Offset), len(buf), fs.chunks.ahead)
	data, err := r.read(buf, int64(in.Offset), fs.chunks.value, func(e *catalog.DamageError) error {
		fs.warn(r.archive, r.path, e)
		if fs.o.AllowDamaged && catalog.Lost(e) {
			return nil
		}
		return e
	})
	if err != nil {
		return nil, fuse.EIO
	}
	return fuse.ReadResultData(data), fuse.OK
}
