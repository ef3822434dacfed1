//go:build !linux

package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The process locks of these systems do not exclude two opens within one process, and are gone as soon as the process
// closes any descriptor of the file. So only one lock is held on a file at a time, and while it is, the file is not opened
// again.
var claims struct {
	sync.Mutex
	held []*claim
}

// claim is a lock file that this process has a lock on, or is about to.
type claim struct {
	info os.FileInfo
	f    *os.File // nil before it is open
}

func findClaimLocked(path string) (*claim, os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range claims.held {
		if os.SameFile(c.info, info) {
			return c, info, nil
		}
	}
	return nil, info, nil
}

// claimLock reserves the lock on the file at path for this process's next holder, or reports that there is one. Opened
// must be called with the file once it is open, and release when it has been closed.
func claimLock(path string) (opened func(*os.File), release func(), ok bool, err error) {
	claims.Lock()
	defer claims.Unlock()
	c, info, err := findClaimLocked(path)
	if err != nil || c != nil {
		return nil, nil, false, err
	}
	c = &claim{info: info}
	claims.held = append(claims.held, c)
	opened = func(f *os.File) {
		claims.Lock()
		defer claims.Unlock()
		c.f = f
	}
	release = func() {
		claims.Lock()
		defer claims.Unlock()
		claims.held = slices.DeleteFunc(claims.held, func(other *claim) bool { return other == c })
	}
	return opened, release, true, nil
}

// heldLock returns the open file of the lock that this process holds on the file at path, if it holds one.
func heldLock(path string) *os.File {
	claims.Lock()
	defer claims.Unlock()
	if c, _, err := findClaimLocked(path); err == nil && c != nil {
		return c.f
	}
	return nil
}

// tryLock takes or converts a process lock on the whole file.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if exclusive {
		l.Type = unix.F_WRLCK
	}
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &l)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
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
