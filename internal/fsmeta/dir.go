// Package fsmeta reads and restores what a file system keeps of a file beside its content: owner, permissions and times,
// extended attributes, access control lists, flags, device numbers.
//
// All of it works on the entries of an open directory, and a symbolic link in the name of an entry is never followed:
// whoever walks down from one [Dir] to the next cannot be led out of the tree, whatever is exchanged under it
// meanwhile. os.Root gives the first half of that, but it follows links that stay inside, walks each path from the
// top, and has neither device nodes nor times of symbolic links.
package fsmeta

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Dir is an open directory. Its methods take the name of one entry, without a slash, or "." for the directory
// itself. Errors are *fs.PathError or *os.LinkError with the whole path.
//
// It is safe for concurrent use, and is closed when as many have released it as have retained it; who opened it
// counts as one.
type Dir struct {
	file   *os.File
	fd     int
	search bool // it was not opened for reading
	refs   atomic.Int32
}

// OpenDir opens the directory at a path, of which symbolic links are followed.
func OpenDir(path string) (*Dir, error) {
	return openDir(unix.AT_FDCWD, path, path, 0)
}

// OpenParent is OpenDir for a directory of which only entries with known names are wanted: it need not be readable, so
// Names may fail.
func OpenParent(path string) (*Dir, error) {
	d, err := OpenDir(path)
	if errors.Is(err, fs.ErrPermission) {
		if d, searchErr := openDir(unix.AT_FDCWD, path, path, openSearch); searchErr == nil {
			return d, nil
		}
	}
	return d, err
}

func openDir(at int, name, path string, flags int) (*Dir, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Dir{file: os.NewFile(uintptr(fd), path), fd: fd, search: flags&openSearch != 0}
	d.refs.Store(1)
	return d, nil
}

// OpenDir opens a directory in d. It fails on a symbolic link.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	path, err := d.entry("open", name)
	if err != nil {
		return nil, err
	}
	return openDir(d.fd, name, path, unix.O_NOFOLLOW)
}

// Retain makes one more Release necessary, and returns d.
func (d *Dir) Retain() *Dir {
	d.refs.Add(1)
	return d
}

// Release closes d if nobody else holds it.
func (d *Dir) Release() {
	if d.refs.Add(-1) == 0 {
		d.file.Close()
	}
}

// Path returns the path of an entry, for messages.
func (d *Dir) Path(name string) string {
	switch dir := d.file.Name(); {
	case name == ".":
		return dir
	case strings.HasSuffix(dir, "/"):
		return dir + name
	case dir == ".":
		return name
	default:
		return dir + "/" + name
	}
}

// entry returns the path of an entry after a look at its name, which may come from an archive.
func (d *Dir) entry(op, name string) (string, error) {
	path := d.Path(name)
	if name == "" || name == ".." || strings.ContainsAny(name, "/\x00") {
		return path, &fs.PathError{Op: op, Path: path, Err: errors.New("not the name of a file")}
	}
	return path, nil
}

// do runs a system call on an entry.
func (d *Dir) do(op, name string, call func() error) error {
	path, err := d.entry(op, name)
	if err != nil {
		return err
	}
	if err := retry(call); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Names returns the names of the entries, in no order, without "." and "..". It may be called once.
func (d *Dir) Names() ([]string, error) { return d.file.Readdirnames(-1) }

// Lstat returns what there is to know about an entry.
func (d *Dir) Lstat(name string) (*Info, error) {
	var info *Info
	err := d.do("lstat", name, func() (err error) {
		info, err = statAt(d.fd, name)
		return err
	})
	return info, err
}

// Open opens an entry for reading. It does not wait for the writer of a FIFO.
func (d *Dir) Open(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// Reader returns the content of a file that Open has opened. Where a file of the kind that a system makes up, as
// /proc/kmsg, has nothing to give for now, that is an error: to wait for it could take forever.
func Reader(f *os.File) io.Reader { return reader{f} }

type reader struct{ f *os.File }

func (r reader) Read(p []byte) (n int, err error) {
	conn, err := r.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var readErr error
	err = conn.Read(func(fd uintptr) bool {
		readErr = retry(func() (err error) {
			n, err = unix.Read(int(fd), p)
			return err
		})
		return true // and do not wait
	})
	switch err = cmp.Or(err, readErr); {
	case err != nil:
		return 0, &fs.PathError{Op: "read", Path: r.f.Name(), Err: err}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Create makes a new regular file for its owner alone, open for writing.
func (d *Dir) Create(name string) (*os.File, error) {
	return d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
}

func (d *Dir) open(name string, flags int) (*os.File, error) {
	var fd int
	err := d.do("open", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.Path(name)), nil
}

// Readlink returns the target of a symbolic link.
func (d *Dir) Readlink(name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		var n int
		err := d.do("readlink", name, func() (err error) {
			n, err = unix.Readlinkat(d.fd, name, buf)
			return err
		})
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// Mkdir makes a directory for its owner alone.
func (d *Dir) Mkdir(name string) error {
	return d.do("mkdir", name, func() error { return unix.Mkdirat(d.fd, name, 0o700) })
}

// Symlink makes a symbolic link.
func (d *Dir) Symlink(target, name string) error {
	return d.do("symlink", name, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// Link makes name another name of what is called oldname in the directory old.
func (d *Dir) Link(old *Dir, oldname, name string) error {
	oldpath, err := old.entry("link", oldname)
	if err != nil {
		return err
	}
	path, err := d.entry("link", name)
	if err != nil {
		return err
	}
	if err := retry(func() error { return unix.Linkat(old.fd, oldname, d.fd, name, 0) }); err != nil {
		return &os.LinkError{Op: "link", Old: oldpath, New: path, Err: err}
	}
	return nil
}

// Mknod makes a device node, or a FIFO, of the type and the permissions in mode.
func (d *Dir) Mknod(name string, mode uint32, rdev uint64) error {
	return d.do("mknod", name, func() error { return mknodat(d.fd, name, mode, rdev) })
}

// Rename gives an entry another name in the same directory, and replaces a file that has it.
func (d *Dir) Rename(from, to string) error {
	if _, err := d.entry("rename", to); err != nil {
		return err
	}
	return d.do("rename", from, func() error { return unix.Renameat(d.fd, from, d.fd, to) })
}

// Remove removes an entry: a file or link of any kind, or an empty directory.
func (d *Dir) Remove(name string, isDir bool) error {
	flags := 0
	if isDir {
		flags = unix.AT_REMOVEDIR
	}
	return d.do("remove", name, func() error { return unix.Unlinkat(d.fd, name, flags) })
}
