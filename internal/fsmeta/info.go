package fsmeta

import (
	"os"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// The type of a file in the bits TypeMask of its mode. They are wire format, and every system has the same.
const (
	TypeMask    uint32 = 0o170000
	TypeDir     uint32 = 0o040000
	TypeRegular uint32 = 0o100000
	TypeSymlink uint32 = 0o120000
	TypeChar    uint32 = 0o020000
	TypeBlock   uint32 = 0o060000
	TypeFIFO    uint32 = 0o010000
	TypeSocket  uint32 = 0o140000

	// PermMask are the bits of a mode that can be changed: permissions, set-user-id, set-group-id and sticky.
	PermMask uint32 = 0o7777
	// SetIDMask are the two that give whoever runs the file the rights of its owner or its group.
	SetIDMask uint32 = 0o6000
)

// FileID tells files apart that exist at the same time: two names with the same FileID are one file.
type FileID struct{ Dev, Ino uint64 }

// Info is what the system says of a file.
type Info struct {
	FileID
	Mode     uint32 // st_mode: type and permissions
	Nlink    uint64
	UID, GID uint32
	Rdev     uint64
	Size     int64
	MTime    archive.Nanos
	CTime    archive.Nanos
}

func newInfo(st *unix.Stat_t) *Info {
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
	}
}

func nanos(ts unix.Timespec) archive.Nanos {
	return archive.Nanos{Sec: int64(ts.Sec), Nsec: uint32(ts.Nsec)}
}

// Fstat returns what there is to know about an open file.
func Fstat(f *os.File) (*Info, error) {
	fi, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	var statErr error
	err = fi.Control(func(fd uintptr) {
		statErr = retry(func() error { return unix.Fstat(int(fd), &st) })
	})
	if err == nil {
		err = statErr
	}
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return newInfo(&st), nil
}

// Type returns the type bits of the mode.
func (i *Info) Type() uint32 { return i.Mode & TypeMask }

// SameContent reports whether a file that had the one and has the other Info can be taken to be unchanged. A change
// that leaves the size alone is not seen within one tick of the file system's clock, a few milliseconds on most.
func (i *Info) SameContent(o *Info) bool {
	return i.FileID == o.FileID && i.Size == o.Size && i.MTime == o.MTime && i.CTime == o.CTime
}
