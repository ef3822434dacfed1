package fsmeta

import "golang.org/x/sys/unix"

// openSearch, as a flag of open, opens a directory that may be searched, readable or not.
const openSearch = unix.O_SEARCH

// mknodat always fails: the system can make nodes by path alone, and a path may lead elsewhere by then.
func mknodat(int, string, uint32, uint64) error { return unix.ENOTSUP }

// deviceNumber keeps the 32 bits as they are, rather than their sign.
func deviceNumber(st *unix.Stat_t) uint64 { return uint64(uint32(st.Rdev)) }
