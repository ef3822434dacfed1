//go:build unix

package storage

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// mapped is a named file of which reads are copies out of a memory mapping.
type mapped struct {
	*file
	mu   sync.RWMutex
	data []byte // nil once it is closed
}

// mapFile maps f into memory, or returns it as it is where that cannot be. What is behind a mapping of a file that
// somebody replaces is the old file.
func mapFile(f *file) Reader {
	const worthwhile = 4096
	if f.size < worthwhile || int64(int(f.size)) != f.size {
		return f
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(f.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return f
	}
	_ = unix.Madvise(data, unix.MADV_RANDOM)
	return &mapped{file: f, data: data}
}

func (m *mapped) ReadAt(p []byte, off int64) (n int, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if off < 0 || off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	// A file that was cut off, or a disk that cannot read, shows as a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(runtime.Error)
			if !ok {
				panic(r)
			}
			n, err = 0, fmt.Errorf("read %q: %w", m.Name(), fault)
		}
	}()
	if n = copy(p, m.data[off:]); n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (m *mapped) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data != nil {
		_ = unix.Munmap(m.data)
		m.data = nil
	}
	return m.file.Close()
}
