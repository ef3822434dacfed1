package restore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"garret/internal/fsmeta"
)

// makeDir makes a directory, or makes sure that we may change the one that is there.
func makeDir(parent *fsmeta.Dir, name string) error {
	info, err := parent.Lstat(name)
	if err == nil && info.Type() == fsmeta.TypeDir {
		if mode := info.Mode & fsmeta.PermMask; mode&0o700 != 0o700 && os.Geteuid() != 0 {
			return parent.Chmod(name, mode|0o700)
		}
		return nil
	}
	if err == nil { // a file, of which nothing is kept
		if err := parent.Remove(name, false); err != nil {
			return fmt.Errorf("make room for it: %w", err)
		}
	}
	return parent.Mkdir(name)
}

// replacing calls make, which makes a file of some kind under the name that it is given. A file that has the name
// already is replaced once the new one is there; an empty directory is removed before.
func replacing(d *fsmeta.Dir, name string, make func(name string) error) error {
	temp, err := makeBeside(d, name, make)
	if err == nil && temp != name {
		err = replace(d, temp, name)
	}
	return err
}

// makeBeside calls make with a name or, if a file has it, with another one for replace. It returns which.
func makeBeside(d *fsmeta.Dir, name string, make func(name string) error) (string, error) {
	err := make(name)
	if !errors.Is(err, fs.ErrExist) {
		return name, err
	}
	info, err := d.Lstat(name)
	if err != nil {
		return name, err
	}
	if info.Type() == fsmeta.TypeDir {
		if err := d.Remove(name, true); err != nil {
			return name, fmt.Errorf("make room for it: %w", err)
		}
		return name, make(name)
	}
	temp := ".garret-tmp-" + rand.Text()
	return temp, make(temp)
}

// replace gives a file the name of another one, which is gone then. After an error the other one is still there, and
// the file is gone.
func replace(d *fsmeta.Dir, temp, name string) error {
	err := d.Rename(temp, name)
	// After an error it is of no use. If both were names of one file, it is still there too.
	if removeErr := d.Remove(temp, false); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	if err != nil {
		return fmt.Errorf("take the place of what is there: %w", err)
	}
	return nil
}
