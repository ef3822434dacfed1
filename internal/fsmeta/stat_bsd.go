//go:build darwin || freebsd

package fsmeta

import "golang.org/x/sys/unix"

func statAt(dir int, name string) (*Info, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	return newInfo(&st, uint64(st.Flags)), nil
}

func statFD(fd int) (*Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	return newInfo(&st, uint64(st.Flags)), nil
}
