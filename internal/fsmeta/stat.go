package fsmeta

import (
	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

func newInfo(st *unix.Stat_t, flags uint64) *Info {
	// The fields have other types on other systems. Device numbers that are signed must not become huge.
	return &Info{
		FileID: FileID{Dev: uint64(st.Dev), Ino: uint64(st.Ino)},
		Mode:   uint32(st.Mode),
		Nlink:  uint64(st.Nlink),
		UID:    st.Uid,
		GID:    st.Gid,
		Rdev:   deviceNumber(st),
		Size:   st.Size,
		MTime:  nanos(st.Mtim),
		CTime:  nanos(st.Ctim),
		Flags:  flags,
	}
}

func nanos(ts unix.Timespec) archive.Nanos {
	return archive.Nanos{Sec: int64(ts.Sec), Nsec: uint32(ts.Nsec)}
}
