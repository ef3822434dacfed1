package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unicode/utf8"

	"garret/internal/archive"
	"garret/internal/catalog"
)

// readAhead is how many chunks of a file are fetched at a time that was not fetched ahead. They have 64 KiB or so, at most
// 10 MiB.
const readAhead = 4

// do writes a regular file, or only reads it.
func (r *run) do(ctx context.Context, j job) error {
	if r.DryRun {
		damage, err := r.content(ctx, nothing{}, j.item)
		return errors.Join(err, isDamaged(damage))
	}
	return r.writeFile(j, func(f *os.File) (damage, err error) {
		out := r.newOutput(f)
		if damage, err = r.content(ctx, out, j.item); err == nil {
			err = out.finish()
		}
		return damage, err
	})
}

// isDamaged makes an error of what is lost of a file, if anything is.
func isDamaged(damage error) error {
	if damage == nil {
		return nil
	}
	return fmt.Errorf("is damaged: %w", damage)
}

// writeFile makes a regular file, of which content writes the content. One that is not finished is removed, and one that
// is damaged named so; what had its name before is then still there.
func (r *run) writeFile(j job, content func(f *os.File) (damage, err error)) (err error) {
	var f *os.File
	name, err := makeBeside(j.dir, j.name, func(name string) (err error) {
		f, err = j.dir.Create(name)
		return err
	})
	if err != nil {
		r.setBroken(j)
		return err
	}
	damage, err := content(f)
	if err != nil {
		f.Close()
		r.setBroken(j)
		return errors.Join(err, j.dir.Remove(name, false))
	}
	err = r.restorer.Restore(j.dir, name, f, j.item)
	if damage == nil {
		err = errors.Join(err, r.willLock(f, j.item))
	}
	if closeErr := f.Close(); closeErr != nil { // some file systems say only now that they are full
		r.setBroken(j)
		return errors.Join(err, closeErr, j.dir.Remove(name, false))
	}
	if damage != nil {
		r.setBroken(j)
		aside, asideErr := setAside(j, name)
		if asideErr != nil {
			return errors.Join(isDamaged(damage), err, asideErr)
		}
		return errors.Join(fmt.Errorf("is damaged, and restored as %q: %w", aside, damage), err)
	}
	if name != j.name {
		if replaceErr := replace(j.dir, name, j.name); replaceErr != nil {
			r.setBroken(j)
			err = errors.Join(err, replaceErr)
		}
	}
	return err
}

func (r *run) setBroken(j job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[j.item.Path] = true
}

// setAside gives a damaged file, which is called temp now, a name that says so and that no other file has.
func setAside(j job, temp string) (string, error) {
	for i := 1; ; i++ {
		suffix := DamagedSuffix
		if i > 1 {
			suffix = fmt.Sprintf("%s.%d", DamagedSuffix, i)
		}
		aside := shorten(j.name, maxName-len(suffix)) + suffix
		if _, err := j.dir.Lstat(aside); err == nil {
			continue
		}
		err := j.dir.Rename(temp, aside)
		if err != nil {
			err = errors.Join(err, j.dir.Remove(temp, false))
		}
		return aside, err
	}
}

// maxName is the length in bytes of the longest name that most file systems take.
const maxName = 255

// shorten cuts a name, between characters.
func shorten(name string, n int) string {
	if len(name) <= n {
		return name
	}
	for cut := n; cut > n-utf8.UTFMax; cut-- {
		if utf8.RuneStart(name[cut]) {
			return name[:cut]
		}
	}
	return name[:n]
}

// content passes on the chunks of a file. It returns what is lost of it, and the error that keeps it from going on.
func (r *run) content(ctx context.Context, out output, it *archive.Item) (damage, err error) {
	chunks := it.Chunks
	var offset int64 // of the chunk at hand
	i := 0
	for data, err := range r.ahead.content(ctx, it) {
		c := chunks[i]
		i++
		if err == nil {
			err = catalog.CheckSize(data, c)
		}
		switch {
		case err == nil:
			if _, err := out.Write(data); err != nil {
				return damage, err
			}
			r.Progress.Bytes.Add(int64(len(data)))
			if it.Patched() && it.ChunksHealthy[i-1] != c {
				damage = catalog.AddDamage(damage, &catalog.DamageError{Offset: offset, Size: int64(c.Size), Err: catalog.ErrPatched})
			}
		case catalog.Lost(err):
			damage = catalog.AddDamage(damage, &catalog.DamageError{Offset: offset, Size: int64(c.Size), Err: err})
			if err := out.zeros(int64(c.Size)); err != nil {
				return damage, err
			}
		default:
			r.fail(err)
			return damage, err
		}
		offset += int64(c.Size)
	}
	r.mu.Lock()
	r.stats.Bytes += offset
	r.mu.Unlock()
	return damage, nil
}
