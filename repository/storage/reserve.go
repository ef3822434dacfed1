package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ReserveName is the name of the file in which a Dir keeps its reserve. It is none of the named files.
const ReserveName = "garret.reserve"

// IsFull reports whether an error says that there is no room for what was to be written: no free byte, no free inode, or
// no more of somebody's share.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// granule is the least that a reserve is made larger by.
const granule = 4096

// Reserve implements Storage by a file that has its blocks already. What is in it means nothing.
func (d *Dir) Reserve(least, most int64) (kept int64, err error) {
	if most <= 0 {
		_, err := d.Release(math.MaxInt64)
		return 0, err
	}
	f, size, err := openReserve(filepath.Join(d.path, ReserveName))
	if IsFull(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if kept == 0 {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	want := least + (most-least)/2
	switch {
	case size > most:
		return want, f.Truncate(want)
	case size >= least:
		return size, nil
	}
	for {
		err := allocate(f, size, want-size)
		if err == nil {
			return want, nil
		}
		if cutErr := f.Truncate(size); cutErr != nil || !IsFull(err) {
			return size, errors.Join(err, cutErr)
		}
		less := want - max(granule, (want-size)/16)
		if room, err := freeRoom(d.path); err == nil {
			less = min(less, size+room)
		}
		if want = less; want-size < granule {
			return size, nil
		}
	}
}

// openReserve opens the file at path, or makes an empty one, and returns its size. What else may be there, or also goes by
// another name, is not written to. A file with holes takes no room: it counts as empty.
func openReserve(path string) (*os.File, int64, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, 0, err
		}
		if again, err := f.Stat(); err != nil || !os.SameFile(info, again) {
			return nil, 0, errors.Join(fmt.Errorf("file %q is being replaced", path), err, f.Close())
		}
		if holds(info) {
			return f, info.Size(), nil
		}
		if err := f.Truncate(0); err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, 0, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	return f, 0, err
}

// holds reports whether a file has as many blocks as its size needs.
func holds(info fs.FileInfo) bool { return info.Sys().(*syscall.Stat_t).Blocks*512 >= info.Size() }

// allocate makes a file longer by n bytes that have their blocks. After an error it may be longer by some.
func allocate(f *os.File, size, n int64) error {
	if err := preallocate(f, size, n); err == nil {
		// Some file systems only look whether there is room.
		if info, err := f.Stat(); err == nil && holds(info) {
			return nil
		}
	} else if IsFull(err) {
		return err
	}
	return fill(f, size, n)
}

// fill writes n bytes at an offset, which no file system can compress or find a second time, and waits until they have
// their place on the medium: over a network, and where blocks are given out late, a write that succeeded says little.
func fill(f *os.File, offset, n int64) error {
	var seed [32]byte
	copy(seed[:], time.Now().String())
	rng, buf := rand.NewChaCha8(seed), make([]byte, min(n, 1<<20))
	for end := offset + n; offset < end; {
		b := buf[:min(int64(len(buf)), end-offset)]
		_, _ = rng.Read(b) // never fails
		written, err := f.WriteAt(b, offset)
		if err != nil {
			return err
		}
		offset += int64(written)
	}
	return f.Sync()
}

// Release implements Storage.
func (d *Dir) Release(enough int64) (bool, error) {
	path := filepath.Join(d.path, ReserveName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if room, err := freeRoom(d.path); err == nil && room >= enough {
		return false, nil
	}
	// To remove the file frees an inode too. Where blocks are copied on write, that may need what there is none of.
	err = os.Remove(path)
	if IsFull(err) && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 {
		err = os.Truncate(path, 0)
	}
	return err == nil, err
}

// freeRoom returns how many bytes the file system at path has free for everybody.
func freeRoom(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
