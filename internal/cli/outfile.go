package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeOutput makes a file of what write writes: beside its name, and under it once it is complete and on the medium. A
// file that is there is replaced only if that is wanted. What is no regular file, as a tape, is written into as it is.
// After an error the file is what it was, unless only the sync of its folder failed.
func writeOutput(ctx context.Context, name string, replace bool, write func(io.Writer) error) (err error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%q is a folder; name a file", name)
	case err == nil && !info.Mode().IsRegular():
		return writeInto(ctx, name, write)
	case err == nil && !replace:
		return existsError(name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if real, err := filepath.EvalSymlinks(name); err == nil { // a link stays one
		name = real
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".garret-tmp-*") // mode 0600: it may hold what others may not read
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		os.Remove(f.Name())
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := place(f.Name(), name, replace); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func existsError(name string) error {
	return fmt.Errorf("%q exists already; choose another name, or replace it with --force", name)
}

// place gives a complete file its name.
func place(temp, name string, replace bool) error {
	if replace {
		return os.Rename(temp, name)
	}
	err := os.Link(temp, name) // which never replaces anything
	switch {
	case err == nil:
		return nil // the temporary name is removed by the caller
	case errors.Is(err, fs.ErrExist):
		return existsError(name)
	}
	if _, err := os.Lstat(name); err == nil {
		return existsError(name)
	}
	return os.Rename(temp, name) // on a file system without hard links
}

// writeInto writes into a device or a FIFO.
func writeInto(ctx context.Context, name string, write func(io.Writer) error) error {
	f, err := openFile(ctx, name, os.O_WRONLY)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { f.Close() })() // or else a reader that does not read keeps it forever
	return errors.Join(write(f), f.Close())
}
