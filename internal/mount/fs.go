package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
	"garret/repository"
)

const (
	defaultTreeBytes  = 48 << 20
	defaultChunkBytes = 32 << 20
	// keepTrees is how many archives' trees stay in memory however large they are: whoever compares two archives must not
	// have each read again for every file.
	keepTrees = 3
	// maxLoads is how many archives are read at a time.
	maxLoads = 2
	// forever is how long the kernel may believe what it was told: nothing changes.
	forever = 365 * 24 * time.Hour
	// maxWarnings bounds how much is told, and remembered of what was told.
	maxWarnings = 1000
	// maxTold is how many bytes of a path are told.
	maxTold = 4096
)

// A filesystem answers the kernel. It has no node objects: the number of a node is that of its archive, counted from 1,
// and in the lower 32 bits its index in the archive's tree, which is the same whenever the tree is read. So memory does
// not grow with what the kernel knows, and there is nothing to forget. Node 1 is the root.
type filesystem struct {
	fuse.RawFileSystem // refuses all else
	o                  Options
	catalog            *catalog.Catalog
	ctx                context.Context // ends all reading
	cancel             context.CancelFunc
	mounter            owner
	began              time.Time
	dirs               []string // the folders of the archives
	byDir              map[string]int
	trees              *cache[int, *tree]
	chunks             *cache[repository.ID, []byte]
	loads              chan struct{}
	mistake            sync.Once

	mu     sync.Mutex
	gaps   map[int][]int // by archive that has been read: what could not be, see loader
	open   map[uint64]*reading
	shared map[uint64]*shared
	handle uint64
	warned map[string]bool
}

// shared is the content of a file that is open one or several times.
type shared struct {
	*content
	count int
}

func newFilesystem(ctx context.Context, cat *catalog.Catalog, o Options) *filesystem {
	fs := &filesystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		o:             o,
		catalog:       cat,
		mounter:       owner{uint32(os.Getuid()), uint32(os.Getgid())},
		began:         time.Now(),
		dirs:          dirNames(o.Archives),
		byDir:         map[string]int{},
		loads:         make(chan struct{}, maxLoads),
		gaps:          map[int][]int{},
		open:          map[uint64]*reading{},
		shared:        map[uint64]*shared{},
		warned:        map[string]bool{},
	}
	for k, name := range fs.dirs {
		fs.byDir[name] = k
	}
	if fs.o.TreeBytes <= 0 {
		fs.o.TreeBytes = defaultTreeBytes
	}
	if fs.o.ChunkBytes <= 0 {
		fs.o.ChunkBytes = defaultChunkBytes
	}
	fs.ctx, fs.cancel = context.WithCancel(ctx)
	fs.trees = newCache(fs.ctx, fs.load, (*tree).bytes, fs.o.TreeBytes, keepTrees, 0)
	fs.chunks = newCache(fs.ctx, cat.Get, func(data []byte) int64 { return int64(cap(data)) }, fs.o.ChunkBytes, 1,
		2*max(2, runtime.GOMAXPROCS(0)))
	return fs
}

// close ends all reading, and waits until nothing uses the catalog any more. No request may come after it.
func (fs *filesystem) close() {
	fs.cancel()
	fs.chunks.tasks.Wait()
}

// warn tells of a file of an archive, once, or with an empty path of the archive, once of each error.
func (fs *filesystem) warn(k int, path string, err error) {
	path = path[:min(len(path), maxTold)]
	key := path
	if path == "" {
		key = "\x00" + err.Error()
	}
	if !fs.o.Single {
		path = strings.TrimSuffix(fs.dirs[k]+"/"+path, "/")
		key = fs.dirs[k] + "/" + key
	}
	fs.mu.Lock()
	told := len(fs.warned)
	if fs.ctx.Err() != nil || fs.warned[key] || told > maxWarnings || fs.o.Warn == nil {
		fs.mu.Unlock()
		return
	}
	fs.warned[key] = true
	fs.mu.Unlock()
	if told == maxWarnings {
		path, err = "", errors.New("there are more files with something wrong, of which nothing will be said")
	}
	fs.o.Warn(path, err)
}

// panicked tells of a mistake in this program, once: the request fails, and the mount goes on.
func (fs *filesystem) panicked(v any) fuse.Status {
	fs.mistake.Do(func() {
		if fs.o.Warn != nil {
			fs.o.Warn("", fmt.Errorf("a request has failed by a mistake in garret, please report it: %v\n%s", v, debug.Stack()))
		}
	})
	return fuse.EIO
}

// load reads the tree of an archive.
func (fs *filesystem) load(ctx context.Context, k int) (*tree, error) {
	fs.loads <- struct{}{}
	defer func() { <-fs.loads }()
	warn := func(path string, err error) { fs.warn(k, path, err) }
	l := &loader{catalog: fs.catalog, owner: fs.mounter, warn: warn}
	fs.mu.Lock()
	before, again := fs.gaps[k]
	fs.mu.Unlock()
	if again {
		l.without = before
	}
	t, gaps, err := l.load(ctx, fs.o.Archives[k].Name)
	if err == nil && again && len(gaps) != len(before) {
		err = errors.New("can no longer be read as before; unmount it and mount it again")
	}
	if err != nil {
		warn("", err)
		return nil, err
	}
	fs.mu.Lock()
	fs.gaps[k] = gaps
	fs.mu.Unlock()
	return t, nil
}

// node returns the number of an entry.
func (fs *filesystem) node(k int, i uint32) uint64 {
	if fs.o.Single && i == 0 {
		return fuse.FUSE_ROOT_ID
	}
	return uint64(k+1)<<32 | uint64(i)
}

// entry returns what a node is. top is the folder of all archives, which is in none.
func (fs *filesystem) entry(node uint64) (k int, i uint32, top bool) {
	if node == fuse.FUSE_ROOT_ID {
		return 0, 0, !fs.o.Single
	}
	return int(node>>32) - 1, uint32(node), false
}

// tree returns the tree of a node that is not the top, and its index.
func (fs *filesystem) tree(node uint64) (*tree, uint32, fuse.Status) {
	k, i, _ := fs.entry(node)
	if k < 0 || k >= len(fs.o.Archives) {
		return nil, 0, fuse.Status(syscall.ESTALE)
	}
	t, err := fs.trees.value(k)
	switch {
	case err != nil:
		return nil, 0, fuse.EIO
	case int(i) >= len(t.entries):
		return nil, 0, fuse.Status(syscall.ESTALE)
	}
	return t, i, fuse.OK
}

// item reads the item of a node again.
func (fs *filesystem) item(node uint64) (*archive.Item, *tree, uint32, fuse.Status) {
	t, i, code := fs.tree(node)
	if !code.Ok() {
		return nil, nil, 0, code
	}
	it, err := t.item(i, fs.chunks.value)
	if err != nil {
		k, _, _ := fs.entry(node)
		fs.warn(k, t.path(i), err)
		return nil, nil, 0, fuse.EIO
	}
	return it, t, i, fuse.OK
}

// dirAttr fills in what is shown of a folder that is in no archive.
func (fs *filesystem) dirAttr(node uint64, mtime time.Time, out *fuse.Attr) {
	out.Mode = fsmeta.TypeDir | 0o755
	out.Owner = fuse.Owner{Uid: fs.mounter.uid, Gid: fs.mounter.gid}
	fs.finish(node, archive.NanosOf(mtime), out)
}

// attr fills in what is shown of an entry.
func (fs *filesystem) attr(node uint64, t *tree, i uint32, out *fuse.Attr) {
	e := &t.entries[i]
	switch e.typ() {
	case fsmeta.TypeRegular, fsmeta.TypeSymlink:
		out.Size = e.size
	case fsmeta.TypeChar, fsmeta.TypeBlock:
		out.Rdev = deviceNumber(e.size)
	}
	out.Mode = uint32(e.mode)
	out.Nlink = e.nlink
	o := t.owners[e.owner]
	out.Owner = fuse.Owner{Uid: o.uid, Gid: o.gid}
	fs.finish(node, archive.Nanos{Sec: e.sec, Nsec: e.nsec}, out)
}

// finish fills in what all files have in common.
func (fs *filesystem) finish(node uint64, mtime archive.Nanos, out *fuse.Attr) {
	out.Ino = node
	out.Blocks = (out.Size + 511) / 512
	out.Blksize = 4096
	out.Nlink = max(out.Nlink, 1) // of a folder too: it says that nothing follows from it
	out.Mode &^= fs.o.Umask
	if fs.o.UID != nil {
		out.Uid = *fs.o.UID
	}
	if fs.o.GID != nil {
		out.Gid = *fs.o.GID
	}
	out.Mtime, out.Mtimensec = uint64(mtime.Sec), mtime.Nsec
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
	out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec
}

// deviceNumber returns a device's number in the 32 bits that the kernel wants.
func deviceNumber(rdev uint64) uint32 {
	if runtime.GOOS != "linux" {
		return uint32(rdev)
	}
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// archiveAttr fills in what is shown of the folder of an archive: without the archive being read, and so never what the
// archive has for ".".
func (fs *filesystem) archiveAttr(k int, out *fuse.Attr) {
	fs.dirAttr(fs.node(k, 0), fs.o.Archives[k].Time, out)
}

// isArchive reports whether a node is the folder of an archive.
func (fs *filesystem) isArchive(node uint64) bool {
	k, i, top := fs.entry(node)
	return !top && !fs.o.Single && i == 0 && k >= 0 && k < len(fs.o.Archives)
}

func (fs *filesystem) nodeAttr(node uint64, out *fuse.Attr) fuse.Status {
	k, _, top := fs.entry(node)
	switch {
	case top:
		fs.dirAttr(node, fs.began, out)
		return fuse.OK
	case fs.isArchive(node):
		fs.archiveAttr(k, out)
		return fuse.OK
	}
	t, i, code := fs.tree(node)
	if code.Ok() {
		fs.attr(node, t, i, out)
	}
	return code
}
