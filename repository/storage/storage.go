// Package storage is where the files of a repository lie. A repository is numbered segments, which are written once from
// front to end and then only read, and small named files, which are replaced as a whole.
//
// The interface has no rename, no append after sealing and no seek, so that an object store can stand behind it.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrLocked is matched by the error of Lock and Upgrade when somebody else holds the lock.
var ErrLocked = errors.New("repository is locked")

// ErrTooLong is matched by the error of ReadFile for a file that is longer than it may be.
var ErrTooLong = errors.New("file is too long")

// ErrMisplaced is matched by the error of Segments where a segment does not lie where its number is looked for.
var ErrMisplaced = errors.New("a segment is in the wrong place")

// MaxSegment is the largest number that a segment can have.
const MaxSegment = 0xffffff00

// A Storage holds the files of one repository. Its methods may be called concurrently, but not two that write to the
// same segment or the same named file.
//
// An error that is about a missing file or segment matches [io/fs.ErrNotExist].
type Storage interface {
	// Segments returns the numbers above after of the segments there are, ascending. -1 asks for all. The cost is that
	// of the numbers from after on, not of all.
	Segments(after int64) ([]uint32, error)
	// CreateSegment begins a segment, which must not exist. What is written to it is durable after Sync; that the segment
	// exists is durable after SyncSegments.
	CreateSegment(n uint32) (Writer, error)
	// OpenSegment opens a segment for reading.
	OpenSegment(n uint32) (Reader, error)
	// SegmentTime returns when a segment was written to last, or the zero time where that is not known. It is for people:
	// clocks are wrong, and copies lose it.
	SegmentTime(n uint32) (time.Time, error)
	// ReplaceSegment replaces the content of a segment by what write writes and keeps the old content beside it, under a
	// name that ends in ".beforerecover", or the same and a number. After an error the segment has either content, whole.
	// A success is durable.
	ReplaceSegment(n uint32, write func(io.Writer) error) error
	// SyncSegment makes the content of a segment durable that this process did not write, and, after SyncSegments, its name.
	SyncSegment(n uint32) error
	// RemoveSegment removes a segment. It is gone for good after SyncSegments; until then a power failure can bring it
	// back.
	RemoveSegment(n uint32) error
	// SyncSegments makes durable which segments there are.
	SyncSegments() error

	// Files returns the names of the named files.
	Files() ([]string, error)
	// OpenFile opens a named file for reading.
	OpenFile(name string) (Reader, error)
	// WriteFile creates or replaces a named file by what write writes. After an error the file is as it was before, or
	// as it should be, whole. A success is durable. A folder that is in its place is set aside.
	WriteFile(name string, write func(io.Writer) error) error
	// RemoveFile removes a named file. It need not be durable.
	RemoveFile(name string) error

	// Reserve keeps room that nobody else can take until Release gives it up: at least least and at most most bytes, or, if
	// there is not so much, what there is. It returns how much. Room that is kept already stays as it is if it is so
	// large. None of this is durable, or counts among the named files: a crash may lose it, and nothing but room with it.
	// A storage that knows no end may keep nothing, and report least.
	Reserve(least, most int64) (kept int64, err error)
	// Release gives the reserve up, unless enough bytes are free without it, and reports whether it did. There are never
	// math.MaxInt64. It may be called when nothing is kept.
	Release(enough int64) (bool, error)

	// Lock takes the repository's lock: shared, or exclusive. When somebody else holds it in a way that conflicts, Lock
	// tries again until wait is over (at once if it is 0, never if it is negative) or ctx is done, and then fails with an
	// error that matches ErrLocked and names the holder if it can be known.
	Lock(ctx context.Context, exclusive bool, wait time.Duration) (Lock, error)

	// SetSegmentsPerFolder tells how many segments a folder has, where there are folders. It is called once, before the
	// first call that has to do with segments.
	SetSegmentsPerFolder(n uint32)

	// String returns the place as a person would name it.
	String() string
}

// A Lock is held until Unlock, or until the process ends.
type Lock interface {
	// Upgrade makes a shared lock exclusive, with the rules of Storage.Lock. The shared lock is kept meanwhile and after
	// an error, so that two who upgrade at a time both fail when their waiting is over.
	Upgrade(ctx context.Context, wait time.Duration) error
	// Downgrade makes an exclusive lock shared.
	Downgrade() error
	// Writable reports whether the lock can be exclusive at all: it cannot on a read-only medium.
	Writable() bool
	Unlock() error
}

// A Reader reads a segment or a named file.
type Reader interface {
	io.ReaderAt
	io.Closer
	// Size is the length in bytes when it was opened.
	Size() int64
}

// A Writer appends to a new segment. What has been written can be read at once, also after Seal.
type Writer interface {
	io.Writer
	// Sync makes what was written so far durable. After an error nothing more may be expected of the segment.
	Sync() error
	// Seal is Sync, and the segment is not written to again. The Writer stays open for reading.
	Seal() error
	Reader
}

// ReadFile returns the content of a named file, which must not be longer than limit bytes.
func ReadFile(s Storage, name string, limit int64) ([]byte, error) {
	r, err := s.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fmt.Errorf("file %q: %w: %d bytes, more than %d", name, ErrTooLong, r.Size(), limit)
	}
	b := make([]byte, r.Size())
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read file %q: %w", name, err)
	}
	return b, nil
}

// WriteFile is s.WriteFile of the given content.
func WriteFile(s Storage, name string, data []byte) error {
	return s.WriteFile(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// LockedError tells who holds the lock.
type LockedError struct {
	Place  string // of the repository
	Holder string // as a person would name it; empty if it cannot be known
}

func (e *LockedError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("repository %q is locked by %s", e.Place, holder)
}

// Is makes the error match ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// poll calls try until it reports true, wait is over (see Storage.Lock) or ctx is done.
func poll(ctx context.Context, wait time.Duration, try func() (bool, error)) (bool, error) {
	deadline := time.Now().Add(wait)
	pause := 5 * time.Millisecond
	for {
		if ok, err := try(); ok || err != nil {
			return ok, err
		}
		left := time.Until(deadline)
		if wait >= 0 && left <= 0 {
			return false, nil
		}
		if wait >= 0 {
			pause = min(pause, left)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 200*time.Millisecond)
	}
}
