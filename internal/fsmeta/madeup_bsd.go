//go:build darwin || freebsd

package fsmeta

import (
	"os"

	"golang.org/x/sys/unix"
)

// MadeUp reports whether an open file is one that the system makes up as it is read, whose size says nothing.
func MadeUp(f *os.File) bool {
	var st unix.Statfs_t
	if err := control(f, "statfs", func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return false
	}
	switch unix.ByteSliceToString(st.Fstypename[:]) {
	case "procfs", "linprocfs", "linsysfs":
		return true
	}
	return false
}
