package fsmeta

import "golang.org/x/sys/unix"

// deviceNumber keeps the 32 bits as they are, rather than their sign.
func deviceNumber(st *unix.Stat_t) uint64 { return uint64(uint32(st.Rdev)) }
