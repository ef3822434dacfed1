package fsmeta

import "golang.org/x/sys/unix"

// linuxFlags are the flags that Linux has too: as statx tells them, and as they are set.
var linuxFlags = []struct {
	bsd   uint64
	statx uint64
	inode uint32
}{
	{FlagNoDump, unix.STATX_ATTR_NODUMP, 0x40},
	{FlagImmutable, unix.STATX_ATTR_IMMUTABLE, 0x10},
	{FlagAppend, unix.STATX_ATTR_APPEND, 0x20},
	{FlagCompressed, unix.STATX_ATTR_COMPRESSED, 0x4},
	// Those of the system are what Linux means by these. They are never read, as the first that match are.
	{flagSystemImmutable, 0, 0x10},
	{flagSystemAppend, 0, 0x20},
}

func flagsOfStatx(attributes uint64) (flags uint64) {
	const all = unix.STATX_ATTR_NODUMP | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_COMPRESSED
	if attributes&all == 0 {
		return 0
	}
	for _, f := range linuxFlags {
		if attributes&f.statx != 0 {
			flags |= f.bsd
		}
	}
	return flags
}

func changeFlags(fd int, flags, mask uint64) error {
	var set, known uint32
	for _, f := range linuxFlags {
		if mask&f.bsd != 0 {
			known |= f.inode
			if flags&f.bsd != 0 {
				set |= f.inode
			}
		}
	}
	now, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == unix.ENOTTY {
		err = unix.ENOTSUP
	}
	if err == unix.ENOTSUP && set == 0 {
		return nil
	}
	if err != nil || now&known == set {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(now&^known|set))
}
