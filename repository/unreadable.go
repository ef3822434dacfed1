package repository

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"

	"garret/repository/storage"
)

// A failingMedium is a storage of which some sectors may not be readable. They are read as zeros, so that they are damaged for
// whoever verifies what he reads, and the rest is not lost with them. It is told once of each file.
type failingMedium struct {
	storage.Storage
	warn func(error)

	mu     sync.Mutex
	told   map[string]bool
	damage error // the first that was told
}

func (m *failingMedium) OpenSegment(n uint32) (storage.Reader, error) {
	r, err := m.Storage.OpenSegment(n)
	if err != nil {
		return nil, err
	}
	return &failingReader{r, m, fmt.Sprintf("segment %d", n)}, nil
}

func (m *failingMedium) OpenFile(name string) (storage.Reader, error) {
	r, err := m.Storage.OpenFile(name)
	if err != nil {
		return nil, err
	}
	return &failingReader{r, m, fmt.Sprintf("file %q", name)}, nil
}

func (m *failingMedium) tell(name string, off int64, err error) {
	err = fmt.Errorf("%w: read %s, byte %d: %w; what cannot be read is taken for damaged", ErrCheckNeeded, name, off, err)
	m.mu.Lock()
	first := !m.told[name]
	m.told[name] = true
	if m.damage == nil {
		m.damage = err
	}
	m.mu.Unlock()
	if first {
		m.warn(err)
	}
}

// firstDamage returns what was told first, or nil. A nil medium has none.
func (m *failingMedium) firstDamage() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.damage
}

type failingReader struct {
	storage.Reader
	m    *failingMedium
	name string
}

// sectorSize is what is given up where a medium cannot be read.
const sectorSize = 4096

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	if !isUnreadable(err) {
		return n, err
	}
	// Once more, sector by sector.
	for n = 0; n < len(p); {
		at := off + int64(n)
		part := p[n:min(len(p), n+int(sectorSize-at%sectorSize))]
		if rest := r.Size() - at; rest < int64(len(part)) {
			part = part[:max(rest, 0)]
		}
		if len(part) == 0 {
			return n, io.EOF
		}
		got, err := r.Reader.ReadAt(part, at)
		if isUnreadable(err) {
			r.m.tell(r.name, at, err)
			clear(part)
			got = len(part)
		}
		if n += got; got < len(part) {
			return n, err
		}
	}
	return n, nil
}

// isUnreadable reports whether an error is one of the medium: a fault is what it is to a file that is mapped.
func isUnreadable(err error) bool {
	var fault runtime.Error
	return errors.Is(err, syscall.EIO) || errors.As(err, &fault)
}
