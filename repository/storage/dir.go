package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"garret/repository/segment"
)

// A Dir is a Storage in a directory of a file system, laid out as Attic does:
//
//	README, config, index.N, hints.N ...     the named files
//	data/<N / segments per folder>/<N>       segment N
//
// Names under data that are not decimal numbers are left alone. A segment in another's folder is an ErrMisplaced wherever
// all segments are asked for.
type Dir struct {
	path      string
	perFolder uint32

	mu    sync.Mutex
	dirty map[string]bool // folders whose entries have changed since they were last synced
}

// ReadmeText is the content of the file README.
const ReadmeText = "This is an Attic repository\n"

// firstSegment is what a new repository begins with: an empty segment that is committed.
var firstSegment = segment.Magic + string(segment.CommitEntry[:])

const (
	lockName   = "config"
	dataFolder = "data"
	tempSuffix = ".tmp"
)

// OpenDir returns the Storage in an existing directory. Nothing in it is looked at yet.
func OpenDir(path string) (*Dir, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return &Dir{path: path, perFolder: 10000, dirty: map[string]bool{}}, nil
}

// CreateDir makes a directory for a new repository, readable by its owner alone, and returns the Storage in it. What
// exists must be an empty directory, or the rest of a creation that was interrupted; else the error matches fs.ErrExist.
func CreateDir(path string) (*Dir, error) {
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	exists := &fs.PathError{Op: "create repository", Path: path, Err: fs.ErrExist}
	d, err := OpenDir(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, exists
	}
	if err != nil {
		return nil, err
	}
	if ok, err := isUnfinished(path); err != nil {
		return nil, err
	} else if !ok {
		return nil, exists
	}
	if err := os.Mkdir(filepath.Join(path, dataFolder), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	for _, p := range []string{path, filepath.Dir(filepath.Clean(path))} {
		if err := syncFolder(p); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// isUnfinished reports whether a directory holds no more than a creation that was interrupted can leave: no config, and of
// the README and the first segment the beginning, at most, of what they are to be.
func isUnfinished(path string) (bool, error) {
	first := filepath.Join(dataFolder, "0", "0")
	beginnings := map[string]string{
		first: firstSegment, "README": ReadmeText, "README" + tempSuffix: ReadmeText, lockName + tempSuffix: "",
	}
	folders := []string{".", dataFolder, filepath.Dir(first)}
	ok := true
	err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		whole, isFile := beginnings[name]
		switch {
		case name == "." || e.IsDir() && slices.Contains(folders, name):
			return nil
		case isFile && e.Type().IsRegular():
			if ok, err = isBeginning(p, whole); ok || name == lockName+tempSuffix {
				ok = true
				return err
			}
		}
		ok = false
		return fs.SkipAll
	})
	return ok, err
}

// isBeginning reports whether a file holds the beginning of a text, where zeros may stand for what was not written.
func isBeginning(path, text string) (bool, error) {
	f, err := open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, min(f.size, int64(len(text))))
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	return f.size <= int64(len(text)) && strings.HasPrefix(text, strings.TrimRight(string(b), "\x00")), nil
}

func (d *Dir) String() string { return d.path }

// SetSegmentsPerFolder implements Storage.
func (d *Dir) SetSegmentsPerFolder(n uint32) { d.perFolder = n }

func (d *Dir) folder(n uint32) string {
	return filepath.Join(d.path, dataFolder, strconv.FormatUint(uint64(n/d.perFolder), 10))
}

func (d *Dir) segment(n uint32) string {
	return filepath.Join(d.folder(n), strconv.FormatUint(uint64(n), 10))
}

// numbers returns the entries of a folder that are decimal numbers of at least from, ascending.
func numbers(folder string, from int64) ([]uint32, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ns []uint32
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 32)
		if err == nil && n <= MaxSegment && int64(n) >= from && (name[0] != '0' || name == "0") {
			ns = append(ns, uint32(n))
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// Segments implements Storage.
func (d *Dir) Segments(after int64) ([]uint32, error) {
	data := filepath.Join(d.path, dataFolder)
	folders, err := numbers(data, (after+1)/int64(d.perFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []uint32
	for _, folder := range folders {
		ns, err := numbers(filepath.Join(data, strconv.FormatUint(uint64(folder), 10)), after+1)
		if err != nil {
			return nil, err
		}
		for _, n := range ns {
			// It would not be found by its number. As if it were not there is how nobody must go on: what it holds would be
			// missing, and its number be given to another.
			if n/d.perFolder != folder {
				return nil, fmt.Errorf("%w: segment %d lies in %q, where the config, with segments_per_dir = %d, has it in %q",
					ErrMisplaced, n, filepath.Join(dataFolder, strconv.FormatUint(uint64(folder), 10)), d.perFolder,
					filepath.Join(dataFolder, strconv.FormatUint(uint64(n/d.perFolder), 10)))
			}
			all = append(all, n)
		}
	}
	return all, nil
}

func (d *Dir) markDirty(folder string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dirty[folder] = true
}

// file is an open segment or named file.
type file struct {
	*os.File
	size int64
}

func (f *file) Size() int64 { return f.size }

// Write also keeps the size right.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *file) Sync() error { return f.File.Sync() }
func (f *file) Seal() error { return f.File.Sync() }

// lockedFile is a file that stays open for the sake of its lock.
type lockedFile struct{ *file }

func (lockedFile) Close() error { return nil }

// open opens a regular file for reading; anything else in its place, a symbolic link too, is an error and not waited for.
func open(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &file{f, info.Size()}, nil
}

// CreateSegment implements Storage.
func (d *Dir) CreateSegment(n uint32) (Writer, error) {
	folder := d.folder(n)
	f, err := os.OpenFile(d.segment(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
		d.markDirty(filepath.Dir(folder))
		d.markDirty(d.path)
		f, err = os.OpenFile(d.segment(n), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	d.markDirty(folder)
	return &file{File: f}, nil
}

// OpenSegment implements Storage.
func (d *Dir) OpenSegment(n uint32) (Reader, error) {
	f, err := open(d.segment(n))
	if err != nil {
		return nil, err
	}
	return f, nil
}

// SegmentTime implements Storage by the time of the file's last change.
func (d *Dir) SegmentTime(n uint32) (time.Time, error) {
	info, err := os.Lstat(d.segment(n))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// SyncSegment implements Storage.
func (d *Dir) SyncSegment(n uint32) error {
	f, err := open(d.segment(n))
	if err != nil {
		return err
	}
	defer f.Close()
	folder := d.folder(n)
	d.markDirty(folder)
	d.markDirty(filepath.Dir(folder))
	d.markDirty(d.path)
	return f.File.Sync()
}

// RemoveSegment implements Storage.
func (d *Dir) RemoveSegment(n uint32) error {
	d.markDirty(d.folder(n))
	return os.Remove(d.segment(n))
}

// ReplaceSegment implements Storage.
func (d *Dir) ReplaceSegment(n uint32, write func(io.Writer) error) error {
	path := d.segment(n)
	if err := writeTemp(path+tempSuffix, write); err != nil {
		return err
	}
	// The old content gets its second name before it loses the first, so that there is no moment without it.
	aside := path + ".beforerecover"
	for i := 2; ; i++ {
		err := os.Link(path, aside)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return errors.Join(err, os.Remove(path+tempSuffix))
		}
		aside = fmt.Sprintf("%s.beforerecover.%d", path, i)
	}
	if err := syncFolder(d.folder(n)); err != nil {
		return err
	}
	if err := os.Rename(path+tempSuffix, path); err != nil {
		return err
	}
	return syncFolder(d.folder(n))
}

// SyncSegments implements Storage.
func (d *Dir) SyncSegments() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for folder := range d.dirty {
		if err := syncFolder(folder); err != nil {
			return err
		}
		delete(d.dirty, folder)
	}
	return nil
}

// syncFolder makes a folder's entries durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems sync no folders
		return err
	}
	return nil
}

// writeTemp writes and syncs a file; after an error there is none.
func writeTemp(path string, write func(io.Writer) error) (err error) {
	// What a crash has left, or somebody has put there, is not written through, nor waited for.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && setAside(path) != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = os.Remove(path)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	return f.Sync()
}

// setAside gives what is in the way of a file, and is none of ours, a name that nobody takes for a file of a repository.
func setAside(path string) error {
	aside := filepath.Join(filepath.Dir(path), "garret.aside."+filepath.Base(path))
	for i := 1; ; i++ {
		to := aside
		if i > 1 {
			to = fmt.Sprintf("%s.%d", aside, i)
		}
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(path, to)
		} else if err != nil {
			return err
		}
	}
}

// Files implements Storage.
func (d *Dir) Files() ([]string, error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return name == dataFolder || name == ReserveName || strings.HasSuffix(name, tempSuffix)
	}), nil
}

// OpenFile implements Storage. The file is mapped into memory where that can be, so that reading of it costs no system
// call.
func (d *Dir) OpenFile(name string) (Reader, error) {
	if f := heldLock(filepath.Join(d.path, name)); f != nil {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return lockedFile{&file{f, info.Size()}}, nil
	}
	f, err := open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	return mapFile(f), nil
}

// WriteFile implements Storage.
func (d *Dir) WriteFile(name string, write func(io.Writer) error) error {
	path := filepath.Join(d.path, name)
	if err := writeTemp(path+tempSuffix, write); err != nil {
		return err
	}
	err := os.Rename(path+tempSuffix, path)
	if info, statErr := os.Lstat(path); err != nil && statErr == nil && info.IsDir() && setAside(path) == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err != nil {
		_ = os.Remove(path + tempSuffix)
		return err
	}
	return syncFolder(d.path)
}

// RemoveFile implements Storage.
func (d *Dir) RemoveFile(name string) error { return os.Remove(filepath.Join(d.path, name)) }

// Lock implements Storage by a record lock on the whole of the config file, as Attic does: each excludes the other.
func (d *Dir) Lock(ctx context.Context, exclusive bool, wait time.Duration) (Lock, error) {
	path := filepath.Join(d.path, lockName)
	var opened func(*os.File)
	var release func()
	ok, err := poll(ctx, wait, func() (ok bool, err error) {
		opened, release, ok, err = claimLock(path)
		return ok, err
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &LockedError{Place: d.path, Holder: fmt.Sprintf("this process (%d)", os.Getpid())}
	}
	l := &dirLock{d: d, release: release}
	l.f, err = os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		errors.As(err, &l.readOnly)
		l.f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		release()
		return nil, err
	}
	opened(l.f)
	if exclusive && l.readOnly != 0 {
		err = &fs.PathError{Op: "lock", Path: path, Err: l.readOnly}
	} else {
		err = l.take(ctx, exclusive, wait)
	}
	if err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return l, nil
}

type dirLock struct {
	d        *Dir
	f        *os.File
	readOnly syscall.Errno // why f is not open for writing; 0: it is
	release  func()
}

func (l *dirLock) take(ctx context.Context, exclusive bool, wait time.Duration) error {
	ok, err := poll(ctx, wait, func() (bool, error) { return tryLock(l.f, exclusive) })
	if err != nil {
		return fmt.Errorf("lock %q: %w", l.d.path, err)
	}
	if !ok {
		return &LockedError{Place: l.d.path, Holder: lockHolder(l.f, exclusive)}
	}
	return nil
}

func (l *dirLock) Upgrade(ctx context.Context, wait time.Duration) error {
	if l.readOnly != 0 {
		return &fs.PathError{Op: "lock", Path: l.f.Name(), Err: l.readOnly}
	}
	return l.take(ctx, true, wait)
}

func (l *dirLock) Downgrade() error {
	if ok, err := tryLock(l.f, false); err != nil || !ok {
		return fmt.Errorf("downgrade the lock of %q: %w", l.d.path, err)
	}
	return nil
}

func (l *dirLock) Writable() bool { return l.readOnly == 0 }

func (l *dirLock) Unlock() error {
	defer l.release()
	return l.f.Close()
}
