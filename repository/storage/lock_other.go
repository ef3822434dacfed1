//go:build !linux

package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// held has the lock files that this process has open. The process locks of these systems do not exclude two opens within
// one process, and closing one would drop the other's lock; so there is only ever one.
var held = struct {
	sync.Mutex
	files []*os.File
}{}

// tryLock takes or converts a process lock on the whole file.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	held.Lock()
	defer held.Unlock()
	mine := false
	open := held.files[:0]
	for _, other := range held.files {
		otherInfo, err := other.Stat()
		if err != nil {
			continue // closed since
		}
		open = append(open, other)
		if other == f {
			mine = true
		} else if os.SameFile(info, otherInfo) {
			return false, nil
		}
	}
	held.files = open
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if exclusive {
		l.Type = unix.F_WRLCK
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	if err == nil && !mine {
		held.files = append(held.files, f)
	}
	return err == nil, err
}

// lockHolder names the process that stands in the way of a lock on f, if that can be known.
func lockHolder(f *os.File, _ bool) string {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l) == nil && l.Type != unix.F_UNLCK && l.Pid > 0 {
		return fmt.Sprintf("process %d", l.Pid)
	}
	return ""
}
