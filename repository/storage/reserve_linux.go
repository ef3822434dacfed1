package storage

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// preallocate makes a file longer by n bytes without writing them.
func preallocate(f *os.File, size, n int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, size, n); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
