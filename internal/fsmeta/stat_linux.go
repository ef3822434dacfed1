package fsmeta

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// noStatx is set once the kernel, or a filter before it, has turned out not to have statx.
var noStatx atomic.Bool

// statAt looks at an entry. It does not mount what would be mounted there on use.
func statAt(dir int, name string) (*Info, error) {
	return stat(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

func statFD(fd int) (*Info, error) { return stat(fd, "", unix.AT_EMPTY_PATH) }

// stat prefers statx, as it tells the flags along with the rest: else every file would have to be opened for them.
func stat(fd int, name string, how int) (*Info, error) {
	if !noStatx.Load() {
		var st unix.Statx_t
		err := unix.Statx(fd, name, how, unix.STATX_BASIC_STATS, &st)
		if err == nil {
			return infoOfStatx(&st), nil
		}
		if err != unix.ENOSYS && err != unix.EPERM { // which filters answer that do not know it
			return nil, err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, how); err != nil {
		return nil, err
	}
	noStatx.Store(true)
	return newInfo(&st, 0), nil
}

func infoOfStatx(st *unix.Statx_t) *Info {
	return &Info{
		FileID: FileID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino},
		Mode:   uint32(st.Mode),
		Nlink:  uint64(st.Nlink),
		UID:    st.Uid,
		GID:    st.Gid,
		Rdev:   unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		Size:   int64(st.Size),
		MTime:  archive.Nanos{Sec: st.Mtime.Sec, Nsec: st.Mtime.Nsec},
		CTime:  archive.Nanos{Sec: st.Ctime.Sec, Nsec: st.Ctime.Nsec},
		Flags:  flagsOfStatx(st.Attributes),
	}
}

func deviceNumber(st *unix.Stat_t) uint64 { return st.Rdev }
