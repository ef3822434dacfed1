package catalog

import (
	"errors"
	"fmt"
	"strings"

	"garret/internal/archive"
	"garret/repository"
)

// ErrPatched says why a part of a file is lost for which a repair has put zeros into the archive.
var ErrPatched = errors.New("a repair found it missing, and has put zeros in its place")

// Lost reports whether an error is about one object alone, which is missing, damaged, or made by a newer garret: others may
// still be read.
func Lost(err error) bool {
	return errors.Is(err, repository.ErrNotFound) || errors.Is(err, repository.ErrIntegrity) || errors.Is(err, repository.ErrNewer)
}

// CheckSize returns an error that matches [repository.ErrIntegrity] if the data of a chunk is not as long as an archive
// says.
func CheckSize(data []byte, c archive.Chunk) error {
	if len(data) == int(c.Size) {
		return nil
	}
	return fmt.Errorf("the chunk has %d bytes where the archive says %d: %w", len(data), c.Size, repository.ErrIntegrity)
}

// DamageError says which part of a file is lost.
type DamageError struct {
	Offset, Size int64 // in bytes
	Err          error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("bytes %d to %d are lost: %v", e.Offset, e.Offset+e.Size-1, e.Err)
}

// Unwrap returns why.
func (e *DamageError) Unwrap() error { return e.Err }

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

// AddDamage returns damage, which is nil at first, with one more lost part of the same file in it. Its text names the first
// parts and counts the others.
func AddDamage(damage error, e *DamageError) error {
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
