package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryLock takes or converts an open file description lock on the whole file. Such a lock conflicts with the process
// locks that Attic takes, and belongs to the open file, so that two opens within one process exclude each other too.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	l := wholeFile(exclusive)
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// claimLock has nothing to do where locks belong to open files: see lock_other.go.
func claimLock(string) (opened func(*os.File), release func(), ok bool, err error) {
	return func(*os.File) {}, func() {}, true, nil
}

// heldLock returns nothing where a file that is locked can be opened and closed like any other: see lock_other.go.
func heldLock(string) *os.File { return nil }

func wholeFile(exclusive bool) unix.Flock_t {
	l := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if exclusive {
		l.Type = unix.F_WRLCK
	}
	return l
}

// lockHolder names the process that stands in the way of a lock on f, if that can be known: the kernel tells for a
// process lock, and for others the ones that have the file open are looked for.
func lockHolder(f *os.File, exclusive bool) string {
	l := wholeFile(exclusive)
	if unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK && l.Pid > 0 {
		return process(int(l.Pid))
	}
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		parts := strings.Split(fd, "/")
		pid, err := strconv.Atoi(parts[2])
		if err != nil || pid == os.Getpid() && parts[4] == strconv.Itoa(int(f.Fd())) {
			continue
		}
		if other, err := os.Stat(fd); err == nil && os.SameFile(info, other) {
			return process(pid)
		}
	}
	return ""
}

func process(pid int) string {
	if pid == os.Getpid() {
		return fmt.Sprintf("this process (%d)", pid)
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Fields(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if len(words) == 0 {
		return fmt.Sprintf("process %d", pid)
	}
	words[0] = filepath.Base(words[0])
	return fmt.Sprintf("process %d (%s)", pid, strings.Join(words[:min(len(words), 3)], " "))
}
