// Package mount shows archives as a read-only file system.
//
// The items of an archive are read when somebody enters it, and of each no more is kept than a listing needs: 48 bytes
// and its name (see tree). The rest is read again from the stream of items when it is asked for. Trees of archives that
// have not been used for long are dropped, and so are opened chunks: both caches are bounded in bytes.
//
// The kernel asks through FUSE. It may believe for a year what it is told, and keep content and folders in its own
// caches: archives do not change, and the repository is locked against writers meanwhile.
//
// An archive is what somebody has written. Paths that lead out, names that cannot be, hard links that lead nowhere or in
// circles are left out and told of; of items with one path the last is shown. What is lost of a file is an error for who
// reads that part, and a message.
package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"garret/internal/catalog"
)

// fsType is the name of the file system, which the system shows as "fuse.garret".
const fsType = "garret"

// A Mount is a mounted file system.
type Mount struct {
	fs     *filesystem
	server *fuse.Server
	point  string
	done   chan struct{}
}

// New mounts archives of a catalog at a folder. When it returns, they can be read there. The catalog is in use until Wait
// returns. The context bounds nothing but the mounting.
func New(ctx context.Context, cat *catalog.Catalog, point string, o Options) (*Mount, error) {
	point, err := check(point, o)
	if err != nil {
		return nil, err
	}
	fs := newFilesystem(context.WithoutCancel(ctx), cat, o)
	server, err := serve(fs, point, o)
	if err != nil {
		fs.close()
		return nil, err
	}
	m := &Mount{fs: fs, server: server, point: point, done: make(chan struct{})}
	go func() {
		server.Serve()
		fs.close()
		close(m.done)
	}()
	if err := server.WaitMount(); err != nil {
		err = fmt.Errorf("mount at %q: %w", point, err)
		return nil, errors.Join(err, m.Unmount())
	}
	return m, nil
}

// Check says what keeps New from mounting at a folder, as far as it can be known before.
func Check(point string, o Options) error {
	_, err := check(point, o)
	return err
}

// check returns the absolute path of the folder.
func check(point string, o Options) (string, error) {
	path, err := checkPoint(point, o.NonEmpty)
	if err == nil {
		err = checkSystem(path, o)
	}
	return path, err
}

func serve(fs *filesystem, point string, o Options) (*fuse.Server, error) {
	options := slices.Concat([]string{"ro"}, o.Flags, helperOptions(o))
	if o.DefaultPermissions || o.AllowOther && !o.IgnorePermissions {
		options = append(options, "default_permissions")
	}
	var server *fuse.Server
	said, err := captureStderr(func() (err error) {
		server, err = fuse.NewServer(fs, point, &fuse.MountOptions{
			AllowOther:           o.AllowOther,
			Options:              options,
			FsName:               o.Source,
			Name:                 fsType,
			MaxBackground:        32,
			EnableSymlinkCaching: true,
			ExtraCapabilities:    fuse.CAP_READDIRPLUS_AUTO,
			// Root needs no help to mount, and gets better messages without.
			DirectMountStrict: os.Geteuid() == 0,
			Logger:            log.New(io.Discard, "", 0),
			PanicHandler:      fs.panicked,
		})
		return err
	})
	if err == nil {
		return server, nil
	}
	if said != "" {
		err = errors.New(said)
	}
	return nil, fmt.Errorf("mount at %q: %w%s", point, err, mountAdvice(err))
}

func mountAdvice(err error) string {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return ": mounting is not permitted here; a container needs the device /dev/fuse and the capability SYS_ADMIN for it"
	}
	return ""
}

// captureStderr calls f and returns what was written to os.Stderr meanwhile, on one line. The program that mounts for
// ordinary users says there what is wrong.
func captureStderr(f func() error) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	said := make(chan string)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(r, 4096))
		io.Copy(io.Discard, r)
		said <- strings.Join(strings.Fields(string(text)), " ")
	}()
	old := os.Stderr
	os.Stderr = w
	err = f()
	os.Stderr = old
	w.Close()
	return <-said, err
}

// Point returns the absolute path of the folder.
func (m *Mount) Point() string { return m.point }

// Wait returns when the file system has been unmounted, by whomever, and nothing uses the catalog any more.
func (m *Mount) Wait() { <-m.done }

// Done returns a channel that is closed when Wait would return.
func (m *Mount) Done() <-chan struct{} { return m.done }

// Unmount ends the mount. A mount that is busy is detached: nobody can enter it any more, and those who are in it can
// stay until they leave. Then busy is true, and Wait returns when they have.
func (m *Mount) Unmount() error {
	err := unmount(m.point, false)
	if errors.Is(err, unix.EBUSY) {
		if detachErr := unmount(m.point, true); detachErr == nil {
			return &BusyError{m.point}
		}
	}
	if err != nil {
		return fmt.Errorf("unmount %q: %w", m.point, err)
	}
	return nil
}

// BusyError says that a mount is in use.
type BusyError struct{ Point string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%q is busy: a program has a file or a folder open in it", e.Point)
}

// Is makes the error match unix.EBUSY.
func (e *BusyError) Is(target error) bool { return target == unix.EBUSY }

// Unmount ends a mount of this program at a folder, whichever process serves it. It fails with a *BusyError if the mount
// is in use, and refuses mounts of others.
func Unmount(point string) error {
	path, err := resolve(point)
	if err != nil {
		return err
	}
	switch ours, known := isMount(path); {
	case known && !ours:
		return fmt.Errorf("nothing is mounted at %q by garret", point)
	case !known:
		if _, err := os.Lstat(path); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return err
		}
	}
	err = unmount(path, false)
	if errors.Is(err, unix.EBUSY) {
		return &BusyError{point}
	}
	if err != nil {
		return fmt.Errorf("unmount %q: %w", point, err)
	}
	return nil
}

// resolve returns the absolute path of a mount point without links on the way. The point itself is not touched: if the
// process that served it is dead, that fails.
func resolve(point string) (string, error) {
	path, err := filepath.Abs(point)
	if err != nil {
		return "", err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return filepath.EvalSymlinks(path)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

// checkPoint returns the absolute path of a folder at which something can be mounted.
func checkPoint(point string, nonEmpty bool) (string, error) {
	path, err := filepath.Abs(point)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the mount point %q does not exist; make the folder first", point)
	case errors.Is(err, unix.ENOTCONN):
		return "", fmt.Errorf(`the mount at %q has lost its server; end it with "garret umount", then mount again`, point)
	case err != nil:
		return "", fmt.Errorf("the mount point %q: %w", point, err)
	case !info.IsDir():
		return "", fmt.Errorf("the mount point %q is no folder; choose one", point)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	if ours, _ := isMount(path); ours {
		return "", fmt.Errorf(`garret has mounted something at %q already; end that with "garret umount", or choose another folder`, point)
	}
	if nonEmpty {
		return path, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the mount point %q: %w", point, err)
	}
	defer f.Close()
	switch _, err := f.Readdirnames(1); {
	case err == nil:
		return "", fmt.Errorf("the mount point %q is not empty; choose an empty folder, or hide what is in it with -o nonempty", point)
	case err != io.EOF:
		return "", fmt.Errorf("the mount point %q: %w", point, err)
	}
	return path, nil
}

// errno returns the error number in what a program said.
func errno(said string) error {
	if strings.Contains(strings.ToLower(said), "busy") {
		return syscall.EBUSY
	}
	return nil
}
