package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkSystem says what keeps this system from mounting, as far as it can be known before.
func checkSystem(point string, o Options) error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		return errors.New("this system has no /dev/fuse; load the kernel's module with \"modprobe fuse\", " +
			"or start the container with the device")
	case err != nil:
		return fmt.Errorf("%w; mounting takes the right to read and write it, which most systems give to all", err)
	}
	f.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := fusermount(); err != nil {
		return err
	}
	if err := unix.Access(point, unix.W_OK); err != nil {
		return fmt.Errorf("the mount point %q: only root may mount where it has no right to write; choose another folder", point)
	}
	if o.AllowOther && !userAllowOther() {
		return errors.New("mount option \"allow_other\": /etc/fuse.conf does not permit it; " +
			"root can add a line \"user_allow_other\" there")
	}
	return nil
}

// userAllowOther reports whether ordinary users may let others in. What cannot be read is for fusermount to tell.
func userAllowOther() bool {
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	for line := range strings.Lines(string(conf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// fusermount returns the path of the program that mounts for ordinary users.
func fusermount() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no fusermount3, by which ordinary users mount; install the package fuse3")
}

// helperOptions returns the options that are for fusermount: version 2 looks for itself whether a mount point is empty,
// and version 3 knows no option about it.
func helperOptions(o Options) []string {
	if program, err := fusermount(); err == nil && os.Geteuid() != 0 && o.NonEmpty && filepath.Base(program) == "fusermount" {
		return []string{"nonempty"}
	}
	return nil
}

// unmount ends the mount at a path. If lazy is set, it disappears at once and ends when nobody uses it any more.
func unmount(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(path, flags)
	if err == nil || os.Geteuid() == 0 {
		return err
	}
	program, err := fusermount()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.Command(program, append(args, "--", path)...).CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.Join(strings.Fields(string(out)), " ")
	if number := errno(said); number != nil {
		return number
	}
	return fmt.Errorf("%w: %s", err, said)
}

// isMount reports whether this program has mounted something at a path, and whether that is known.
func isMount(path string) (ours, known bool) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, false
	}
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	want := []byte(escape.Replace(path))
	for line := range bytes.Lines(mounts) {
		// ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS; the last at a point is on top
		before, after, _ := bytes.Cut(line, []byte(" - "))
		if f := bytes.Fields(before); len(f) > 4 && bytes.Equal(f[4], want) {
			typ, _, _ := bytes.Cut(after, []byte(" "))
			ours = string(typ) == "fuse."+fsType
		}
	}
	return ours, true
}
