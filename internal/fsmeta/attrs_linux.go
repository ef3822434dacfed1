package fsmeta

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxAttrs is how many bytes the extended attributes of one item have at most. Linux allows 64 KiB for each.
const MaxAttrs = 1 << 20

const errNoAttr = unix.ENODATA

// An attrHandle is a file whose attributes are read or set: an open one, or one in the directory behind /proc/self/fd,
// which the kernel does not open, and whose last name it does not follow.
type attrHandle struct {
	fd   int
	path string // if not empty, it is this
}

// withAttrs calls do with a handle for an entry. Its errors get the operation and the path.
func (d *Dir) withAttrs(op, name string, f *os.File, _ uint32, do func(attrHandle) error) error {
	path, err := d.entry(op, name)
	if err != nil {
		return err
	}
	switch {
	case f != nil:
		return control(f, op, func(fd int) error { return do(attrHandle{fd: fd}) })
	case name == "." && !d.search:
		err = do(attrHandle{fd: d.fd})
	default:
		h := attrHandle{path: "/proc/self/fd/" + strconv.Itoa(d.fd) + "/" + name}
		if err = do(h); errors.Is(err, unix.ENOENT) {
			if _, procErr := os.Lstat("/proc/self/fd"); procErr != nil {
				err = errors.New("/proc is not mounted")
			}
		}
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

func (h attrHandle) list(buf []byte) (int, error) {
	if h.path != "" {
		return unix.Llistxattr(h.path, buf)
	}
	return unix.Flistxattr(h.fd, buf)
}

func (h attrHandle) get(name string, buf []byte) (int, error) {
	if h.path != "" {
		return unix.Lgetxattr(h.path, name, buf)
	}
	return unix.Fgetxattr(h.fd, name, buf)
}

func (h attrHandle) set(name string, value []byte) error {
	if h.path != "" {
		return unix.Lsetxattr(h.path, name, value, 0)
	}
	return unix.Fsetxattr(h.fd, name, value, 0)
}

func (h attrHandle) remove(name string) error {
	if h.path != "" {
		return unix.Lremovexattr(h.path, name)
	}
	return unix.Fremovexattr(h.fd, name)
}

// setACL sets an access control list, or removes the one that is there.
func (h attrHandle) setACL(attr string, list acl) error {
	if list != nil {
		return retry(func() error { return h.set(attr, list.raw()) })
	}
	// To ask is cheaper than to remove what is not there.
	err := retry(func() error {
		_, err := h.get(attr, nil)
		return err
	})
	if err == nil {
		err = retry(func() error { return h.remove(attr) })
	}
	if err == errNoAttr || err == unix.ENOTSUP || err == unix.ENOSYS {
		return nil
	}
	return err
}

// splitNames reads a list of names that end in zero bytes.
func splitNames(list []byte) []string {
	if len(list) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
}

// chmodNode changes the permissions of what is not to be opened, as that could have effects.
func chmodNode(d *Dir, name string, mode uint32) error {
	err := unix.Fchmodat(d.fd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.ENOTSUP && err != unix.EPERM {
		return err
	}
	// A kernel that cannot do that changes what a descriptor stands for that is good for nothing else.
	fd, err := unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}
