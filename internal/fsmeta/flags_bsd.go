//go:build darwin || freebsd

package fsmeta

import "golang.org/x/sys/unix"

// settableFlags are those that can be set without anything else being true of the file. A file that says that it is
// compressed must be.
const settableFlags = FlagNoDump | lockFlags | flagOpaque | flagHidden | flagArchived

const (
	flagOpaque   uint64 = 0x8
	flagHidden   uint64 = 0x8000
	flagArchived uint64 = 0x10000
)

func changeFlags(fd int, flags, mask uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mask &= settableFlags
	now := uint64(st.Flags)
	if now&mask == flags&mask {
		return nil
	}
	return unix.Fchflags(fd, int(now&^mask|flags&mask))
}
