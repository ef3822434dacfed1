package fsmeta

import (
	"cmp"
	"os"

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
	Flags    uint64 // those of BSD, whatever the system; 0 where it does not tell them
}

// Fstat returns what there is to know about an open file.
func Fstat(f *os.File) (*Info, error) {
	var info *Info
	err := control(f, "stat", func(fd int) (err error) {
		info, err = statFD(fd)
		return err
	})
	return info, err
}

// control runs a system call on an open file.
func control(f *os.File, op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		callErr = retry(func() error { return call(int(fd)) })
	})
	if err = cmp.Or(err, callErr); err != nil {
		return &os.PathError{Op: op, Path: f.Name(), Err: err}
	}
	return nil
}

// Type returns the type bits of the mode.
func (i *Info) Type() uint32 { return i.Mode & TypeMask }

// SameContent reports whether a file that had the one and has the other Info can be taken to be unchanged. A change
// that leaves the size alone is not seen within one tick of the file system's clock, a few milliseconds on most.
func (i *Info) SameContent(o *Info) bool {
	return i.FileID == o.FileID && i.Size == o.Size && i.MTime == o.MTime && i.CTime == o.CTime
}
