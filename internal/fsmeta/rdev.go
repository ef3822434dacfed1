//go:build !darwin

package fsmeta

import "golang.org/x/sys/unix"

func deviceNumber(st *unix.Stat_t) uint64 { return st.Rdev }
