package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"garret/repository"
)

// readAhead is how many chunks of a file are fetched at a time. They have 64 KiB or so, at most 10 MiB.
const readAhead = 4

// write writes a regular file. One that is not finished is removed, and one that is damaged renamed.
func (r *run) write(ctx context.Context, j job) (err error) {
	var f *os.File
	err = replacing(j.dir, j.name, func() (err error) {
		f, err = j.dir.Create(j.name)
		return err
	})
	if err != nil {
		r.setBroken(j)
		return err
	}
	damage, err := r.content(ctx, f, j)
	if err == nil {
		err = r.restorer.Restore(j.dir, j.name, f, j.item)
		if closeErr := f.Close(); closeErr != nil { // some file systems say only now that they are full
			err = errors.Join(err, closeErr)
		}
	} else {
		f.Close()
		r.setBroken(j)
		return errors.Join(err, j.dir.Remove(j.name, false))
	}
	if damage != nil {
		r.setBroken(j)
		damage = fmt.Errorf("is damaged, and restored as %q: %w", j.name+DamagedSuffix, damage)
		return errors.Join(damage, err, r.setAside(j))
	}
	return err
}

func (r *run) setBroken(j job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[j.item.Path] = true
}

// setAside gives a damaged file a name that says so.
func (r *run) setAside(j job) error {
	err := j.dir.Rename(j.name, j.name+DamagedSuffix)
	if err != nil { // no room for the longer name, or a directory has it
		err = errors.Join(err, j.dir.Remove(j.name, false))
	}
	return err
}

// content writes the chunks of a file. It returns what is lost of it, and the error that keeps it from going on.
func (r *run) content(ctx context.Context, f *os.File, j job) (damage, err error) {
	chunks := j.item.Chunks
	var offset, end int64 // of the chunk at hand; of the file
	i := 0
	for data, err := range r.catalog.Read(ctx, len(chunks), func(i int) repository.ID { return chunks[i].ID }, readAhead) {
		c := chunks[i]
		i++
		if err == nil && len(data) != int(c.Size) {
			err = fmt.Errorf("the chunk has %d bytes where the archive says %d: %w", len(data), c.Size, repository.ErrIntegrity)
		}
		switch {
		case err == nil:
			if _, err := f.Write(data); err != nil {
				return damage, err
			}
			r.Progress.Bytes.Add(int64(len(data)))
			end = offset + int64(c.Size)
		case lost(err):
			damage = addDamage(damage, &DamageError{Offset: offset, Size: int64(c.Size), Err: err})
			if _, err := f.Seek(int64(c.Size), io.SeekCurrent); err != nil {
				return damage, err
			}
		default:
			r.fail(err)
			return damage, err
		}
		offset += int64(c.Size)
	}
	if offset != end {
		if err := f.Truncate(offset); err != nil {
			return damage, err
		}
	}
	r.mu.Lock()
	r.stats.Bytes += offset
	r.mu.Unlock()
	return damage, nil
}

// maxDamages is how many lost parts of one file are told apart.
const maxDamages = 20

// damages are the lost parts of one file.
type damages struct {
	first []error
	more  int
}

func (d *damages) Error() string {
	var parts []string
	for _, err := range d.first {
		parts = append(parts, err.Error())
	}
	if d.more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more parts", d.more))
	}
	return strings.Join(parts, "; ")
}

func (d *damages) Unwrap() []error { return d.first }

func addDamage(damage error, e *DamageError) error {
	d, ok := damage.(*damages)
	if !ok {
		d = &damages{}
	}
	if len(d.first) < maxDamages {
		d.first = append(d.first, e)
	} else {
		d.more++
	}
	return d
}
