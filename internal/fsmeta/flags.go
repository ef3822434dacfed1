package fsmeta

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// The flags of a file that more than one system knows, in the bits that BSD gives them. They are wire format: archives
// hold the flags of BSD and macOS as these have them, and those of Linux translated, as Borg does it.
const (
	FlagNoDump     uint64 = 0x1
	FlagImmutable  uint64 = 0x2
	FlagAppend     uint64 = 0x4
	FlagCompressed uint64 = 0x20

	flagSystemImmutable uint64 = 0x20000
	flagSystemAppend    uint64 = 0x40000
	flagSystemNoUnlink  uint64 = 0x100000
	flagNoUnlink        uint64 = 0x10

	// lockFlags forbid to change, rename, link or remove a file.
	lockFlags = FlagImmutable | FlagAppend | flagNoUnlink | flagSystemImmutable | flagSystemAppend | flagSystemNoUnlink
)

// Locks reports whether an item has flags that forbid changes, which Lock sets.
func Locks(it *archive.Item) bool { return it.BSDFlags != nil && *it.BSDFlags&lockFlags != 0 }

// Lock sets the flags of an item that Restore does not set, as they forbid changes: it is for when nothing more is to be
// done to the file, to its names, and to what is in it. It does so only if the entry is still the file with that id.
//
// Who may not set them is not told: as with owners, that is no error.
func (r *Restorer) Lock(d *Dir, name string, id FileID, it *archive.Item) error {
	f, err := d.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := Fstat(f)
	if err != nil {
		return err
	}
	if info.FileID != id {
		return &os.PathError{Op: "set flags of", Path: f.Name(), Err: errors.New("it was replaced meanwhile")}
	}
	return setFlags(f, *it.BSDFlags, lockFlags)
}

// setHints sets the flags that forbid nothing. A file system that does not have them is no error: nothing is lost that
// the file needs. What it has been told to compress stays so.
func setHints(f *os.File, flags uint64) error {
	err := setFlags(f, flags, ^(lockFlags | FlagCompressed))
	if flags&FlagCompressed != 0 {
		err = cmp.Or(err, setFlags(f, flags, FlagCompressed))
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// setFlags sets the flags in mask that this system knows, and leaves the others alone.
func setFlags(f *os.File, flags, mask uint64) error {
	err := control(f, "set flags of", func(fd int) error { return changeFlags(fd, flags, mask) })
	if os.Geteuid() != 0 && errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}
