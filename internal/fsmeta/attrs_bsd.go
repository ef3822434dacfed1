//go:build darwin || freebsd

package fsmeta

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const errNoAttr = unix.ENOATTR

// An attrHandle is an open file whose attributes are read or set.
type attrHandle struct{ fd int }

// withAttrs calls do with a handle for an entry, which is opened for it. What cannot be opened without effects has no
// attributes. Errors get the operation and the path.
func (d *Dir) withAttrs(op, name string, f *os.File, typ uint32, do func(attrHandle) error) error {
	path, err := d.entry(op, name)
	if err != nil {
		return err
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	switch {
	case f != nil:
		return control(f, op, func(fd int) error { return do(attrHandle{fd}) })
	case typ == TypeRegular || typ == TypeDir:
		flags |= unix.O_NOFOLLOW
	case typ == TypeSymlink && openLink != 0:
		flags |= openLink
	default:
		return do(attrHandle{-1})
	}
	fd, err := unix.Openat(d.fd, name, flags, 0)
	if err == nil {
		err = do(attrHandle{fd})
		unix.Close(fd)
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// setACL fails if there is one to set: these systems are asked for theirs by a C library alone.
func (h attrHandle) setACL(_ string, list acl) error {
	if list == nil {
		return nil
	}
	return unix.ENOTSUP
}

func chmodNode(d *Dir, name string, mode uint32) error {
	return unix.Fchmodat(d.fd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}
