package measure

import (
	"syscall"
	"time"
)

// Self calls a function and returns what this process has used meanwhile. Its memory and what it writes are not known.
func Self(do func() error) (Usage, error) {
	before, err := selfCPU()
	if err != nil {
		return Usage{}, err
	}
	begin := time.Now()
	if err := do(); err != nil {
		return Usage{}, err
	}
	u := Usage{Wall: time.Since(begin), Peak: -1, Written: -1}
	after, err := selfCPU()
	u.CPU = after - before
	return u, err
}

func selfCPU() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}

// Each is the usage for each of n things of equal cost.
func (u Usage) Each(n int) Usage {
	u.Wall /= time.Duration(n)
	u.CPU /= time.Duration(n)
	if u.Written >= 0 {
		u.Written /= int64(n)
	}
	return u
}
