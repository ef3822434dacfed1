package fsmeta

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// NewItem returns an item with everything in it that an Info tells; links and content are left to the caller.
func NewItem(path string, info *Info, owners *Owners) *archive.Item {
	it := &archive.Item{
		Path:  path,
		Mode:  info.Mode,
		UID:   info.UID,
		GID:   info.GID,
		User:  owners.UserName(info.UID),
		Group: owners.GroupName(info.GID),
		MTime: info.MTime,
	}
	if t := info.Type(); t == TypeChar || t == TypeBlock {
		rdev := info.Rdev
		it.Rdev = &rdev
	}
	return it
}

// A Restorer gives files the owner, the permissions and the times that they have in an archive.
type Restorer struct {
	Owners *Owners
}

// Restore gives an entry of a directory what its item says. It is the last thing done to a file; for a directory
// it comes after everything in it. If f is not nil, it is the entry, open.
//
// Only root can give files away. For others an owner that cannot be restored is no error, but the file then gets
// neither set-user-id nor set-group-id: they would lend the rights of the wrong one.
func (r *Restorer) Restore(d *Dir, name string, f *os.File, it *archive.Item) error {
	// Times come first: neither of the others changes them, and either may take away the right to set them.
	mtime := unix.Timespec{Sec: it.MTime.Sec, Nsec: int64(it.MTime.Nsec)}
	err := d.do("set times of", name, func() error {
		return unix.UtimesNanoAt(d.fd, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
	})
	mode := it.Mode & PermMask
	uid, gid := r.Owners.IDs(it)
	if ownErr := r.chown(d, name, uid, gid); ownErr != nil {
		mode &^= SetIDMask
		if os.Geteuid() == 0 || !errors.Is(ownErr, os.ErrPermission) {
			err = errors.Join(err, ownErr)
		}
	}
	if it.Mode&TypeMask == TypeSymlink {
		return err // whose permissions mean nothing
	}
	return errors.Join(err, d.chmod(name, f, it.Mode&TypeMask, mode))
}

func (r *Restorer) chown(d *Dir, name string, uid, gid uint32) error {
	// All ones means "leave it" to the system: nobody can have that number.
	if uid == ^uint32(0) || gid == ^uint32(0) {
		return d.do("chown", name, func() error { return unix.EINVAL })
	}
	return d.do("chown", name, func() error {
		return unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Chmod changes the permissions of a directory in d.
func (d *Dir) Chmod(name string, mode uint32) error { return d.chmod(name, nil, TypeDir, mode) }

func (d *Dir) chmod(name string, f *os.File, typ, mode uint32) error {
	return d.do("chmod", name, func() error {
		switch {
		case f != nil:
			return unix.Fchmod(int(f.Fd()), mode)
		case typ == TypeRegular || typ == TypeDir:
			// Linux cannot change the permissions of an entry without following a link, so it is opened to be sure.
			fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Fchmod(fd, mode)
		default: // a node that was just made; to open it could have effects
			return unix.Fchmodat(d.fd, name, mode, 0)
		}
	})
}
