//go:build !linux

package storage

import (
	"errors"
	"os"
)

// preallocate fails: what these systems have for it is not there on all file systems, or does not hold.
func preallocate(*os.File, int64, int64) error { return errors.ErrUnsupported }
