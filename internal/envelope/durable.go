package envelope

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// replaceFile writes a file that only its owner can read, atomically and durably. After an error the file is the old one
// or the new one.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), tempPrefix+"*") // mode 0600
	if err != nil {
		return err
	}
	return replaceBy(f, name, data)
}

// replaceBy writes data to a new file, and puts that in the place of name. The file is closed on return.
func replaceBy(f *os.File, name string, data []byte) (err error) {
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// replaceKeyfile is replaceFile for a key file that exists: it is replaced where it is and not where a link to it is, and
// keeps its owner and its permissions, whoever replaces it.
func replaceKeyfile(name string, data []byte) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	old, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), tempPrefix+"*")
	if err != nil {
		return err
	}
	if stat, ok := old.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		err = f.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = f.Chmod(old.Mode().Perm())
	}
	if err != nil {
		f.Close()
		os.Remove(f.Name())
		return err
	}
	if err := replaceBy(f, name, data); err != nil {
		return err
	}
	removeLeftovers(filepath.Dir(name))
	return nil
}

// removeLeftovers removes the incomplete files that crashes have left. They hold keys, locked with passphrases that somebody
// may have changed for a reason.
func removeLeftovers(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		// One that is younger may be somebody else's who is about to put it in its place.
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > time.Hour {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// tempPrefix begins the names of files that are not complete.
const tempPrefix = ".garret-tmp-"

// WriteNew writes a new file that only its owner can read, durably. One that exists is left as it is, and the error then
// matches fs.ErrExist.
func WriteNew(name string, data []byte) error { return createFile(name, data) }

// createFile is replaceFile for a file that must not exist; otherwise the error matches fs.ErrExist. After a crash the file
// may be there and empty; after an error it is not there, unless only the sync of its folder failed.
//
// It takes the name and then replaces what it took. A link from the temporary file would do it in one step, but not on
// every file system.
func createFile(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := replaceFile(name, data); err != nil {
		if fi, statErr := os.Stat(name); statErr == nil && fi.Size() == 0 {
			os.Remove(name)
		}
		return err
	}
	return nil
}

// MakeDir makes a folder and those above it that do not exist, for their owner alone and durably.
func MakeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
			return nil // made by somebody else meanwhile
		}
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
