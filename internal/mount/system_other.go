//go:build !linux

package mount

import (
	"errors"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSystem says what keeps this system from mounting, as far as it can be known before.
func checkSystem(string, Options) error { return nil }

// helperOptions returns the options that are for the program that mounts.
func helperOptions(Options) []string { return nil }

// unmount ends the mount at a path. If lazy is set, it ends now, whoever uses it.
func unmount(path string, lazy bool) error {
	flags := 0
	if lazy {
		flags = unix.MNT_FORCE
	}
	err := unix.Unmount(path, flags)
	if err == nil || errors.Is(err, unix.EBUSY) {
		return err
	}
	if out, cmdErr := exec.Command("umount", path).CombinedOutput(); cmdErr != nil {
		if number := errno(string(out)); number != nil {
			return number
		}
		return errors.Join(err, errors.New(strings.Join(strings.Fields(string(out)), " ")))
	}
	return nil
}

// isMount reports whether this program has mounted something at a path, and whether that is known.
func isMount(path string) (ours, known bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, false
	}
	return unix.ByteSliceToString(st.Fstypename[:]) == "fuse."+fsType && unix.ByteSliceToString(st.Mntonname[:]) == path, false
}
