package fsmeta

import "golang.org/x/sys/unix"

// openSearch, as a flag of open, opens a directory that may be searched, readable or not.
const openSearch = unix.O_SEARCH

func mknodat(fd int, name string, mode uint32, rdev uint64) error {
	return unix.Mknodat(fd, name, mode, rdev)
}

func deviceNumber(st *unix.Stat_t) uint64 { return st.Rdev }
