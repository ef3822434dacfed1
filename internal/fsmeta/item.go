package fsmeta

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// NewItem returns an item with everything in it that an Info tells. ReadAttrs adds what else there is to a file; links and
// content are left to the caller.
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
	if flags := info.Flags; flags != 0 {
		it.BSDFlags = &flags
	}
	return it
}

// A Restorer gives files all that they have in an archive beside their content.
type Restorer struct {
	Owners *Owners
}

// Restore gives an entry of a directory what its item says, but for the flags that forbid changes; see [Restorer.Lock].
// It comes after the content of a file, and after everything in a directory. If f is not nil, it is the entry, open.
//
// Only root can give files away. For others an owner that cannot be restored is no error, but the file then gets
// neither set-user-id nor set-group-id: they would lend the rights of the wrong one. Nor are attributes an error that
// only root can set. What else goes wrong with one thing does not keep the others from being restored.
func (r *Restorer) Restore(d *Dir, name string, f *os.File, it *archive.Item) error {
	typ, mode := it.Mode&TypeMask, it.Mode&PermMask
	if f == nil && (typ == TypeRegular || typ == TypeDir) {
		// Opened once, so that all goes to one file. Whatever else has taken its name is not touched.
		var err error
		if f, err = d.openAs(name, typ); err != nil {
			return err
		}
		defer f.Close()
	}
	var errs []error
	uid, gid := r.Owners.IDs(it)
	if err := d.chown(name, f, uid, gid); err != nil {
		mode &^= SetIDMask
		if os.Geteuid() == 0 || !errors.Is(err, os.ErrPermission) {
			errs = append(errs, err)
		}
	}
	// After the owner, as a change of that takes away capabilities, which are an attribute; before the permissions, which
	// may take away our right to set it.
	errs = append(errs, d.setXattrs(name, f, it))
	if typ != TypeSymlink { // whose permissions mean nothing
		lists := r.itemACLs(it)
		errs = append(errs, d.chmod(name, f, lists.mode(mode)), d.setACLs(name, f, typ, lists))
	}
	errs = append(errs, d.setTime(name, it.MTime))
	if f != nil && it.BSDFlags != nil {
		errs = append(errs, setHints(f, *it.BSDFlags))
	}
	return errors.Join(errs...)
}

// openAs opens an entry if it is of a type.
func (d *Dir) openAs(name string, typ uint32) (*os.File, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := Fstat(f)
	if err == nil && info.Type() != typ {
		err = &os.PathError{Op: "restore", Path: f.Name(), Err: errors.New("something else has its name")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Dir) chown(name string, f *os.File, uid, gid uint32) error {
	// All ones means "leave it" to the system: nobody can have that number.
	if uid == noID || gid == noID {
		return d.do("chown", name, func() error { return unix.EINVAL })
	}
	if f != nil {
		return control(f, "chown", func(fd int) error { return unix.Fchown(fd, int(uid), int(gid)) })
	}
	return d.do("chown", name, func() error {
		return unix.Fchownat(d.fd, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Times in between are what every file system holds, if not to the nanosecond: FAT begins with 1980, and 32 bits of
// seconds end in 2038.
const (
	firstSureSecond = 315532800
	lastSureSecond  = 1<<31 - 1
)

// setTime sets the time of the last change, and tells if the file system cannot hold it: it then takes the closest one
// without a word.
func (d *Dir) setTime(name string, t archive.Nanos) error {
	ts := unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
	err := d.do("set times of", name, func() error {
		return unix.UtimesNanoAt(d.fd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil || t.Sec >= firstSureSecond && t.Sec <= lastSureSecond {
		return err
	}
	info, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if away := info.MTime.Sec - t.Sec; away < -2 || away > 2 {
		const layout = "2006-01-02 15:04:05 UTC"
		return &os.PathError{Op: "set times of", Path: d.Path(name), Err: fmt.Errorf(
			"the file system cannot hold %s, and made it %s", t.Time().Format(layout), info.MTime.Time().Format(layout))}
	}
	return nil
}

// Chmod changes the permissions of a directory in d.
func (d *Dir) Chmod(name string, mode uint32) error {
	// Linux cannot change the permissions of an entry without following a link, so it is opened to be sure.
	f, err := d.openAs(name, TypeDir)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.chmod(name, f, mode)
}

func (d *Dir) chmod(name string, f *os.File, mode uint32) error {
	if f != nil {
		return control(f, "chmod", func(fd int) error { return unix.Fchmod(fd, mode) })
	}
	return d.do("chmod", name, func() error { return chmodNode(d, name, mode) })
}
