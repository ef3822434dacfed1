package repository

import (
	"errors"

	"garret/repository/segment"
	"garret/repository/storage"
)

// ID is the key of an object: 32 bytes that the store does not interpret.
type ID = segment.ID

// ParseID reads a key from 64 hexadecimal digits.
func ParseID(s string) (ID, error) { return segment.ParseID(s) }

// MaxObjectSize is the length in bytes of the largest value that can be stored: the format's limit of 20 MiB for an
// entry, less the entry's header and key.
const MaxObjectSize = 20<<20 - 41

// The errors that a caller may want to tell apart with [errors.Is].
var (
	// ErrNotExist is returned by Open when there is no repository at the path.
	ErrNotExist = errors.New("repository does not exist")
	// ErrExists is returned by Create when the target is not empty.
	ErrExists = errors.New("target exists and is not empty")
	// ErrInvalid is returned by Open when what is at the path is not a repository, or has a setting that makes no sense.
	ErrInvalid = errors.New("not a valid repository")
	// ErrForeign is matched by the error of Open, Create and Check about another program's repository, as a rule a
	// *ForeignError. Nothing in it has been changed.
	ErrForeign = segment.ErrForeign
	// ErrNewer is matched by every error about something that is sound, as far as that can be told, and not known: a later
	// version of this program has made it. It is not damage. Nothing about it has been changed.
	ErrNewer = segment.ErrNewer
	// ErrCheckNeeded is returned when the repository contradicts itself in a way that only a check with repair can
	// mend. Nothing has been changed. Options.Damaged reads what is sound all the same.
	ErrCheckNeeded = errors.New("repository is inconsistent and needs a check")
	// ErrNotFound is returned by Get and Delete when no object has the key.
	ErrNotFound = errors.New("object not found")
	// ErrIntegrity is matched by every error that reports damaged data: a checksum that differs, an entry that
	// cannot be, a file that ends too early.
	ErrIntegrity = errors.New("data is damaged")
	// ErrLocked is returned when another process holds the repository's lock and the time to wait for it is over.
	ErrLocked = storage.ErrLocked
	// ErrAppendOnly is returned by Put, Delete, Compact and a repair for what would remove something from a repository that
	// is append-only. Nothing has been changed, and a transaction goes on without it.
	ErrAppendOnly = errors.New("repository is append-only")
	// ErrNoTransaction is returned for a number that is not that of the last segment of a committed transaction that is
	// still in the log.
	ErrNoTransaction = errors.New("there is no such transaction")
	// ErrCompacted is returned where a compaction has removed what would have to be known of an earlier state.
	ErrCompacted = errors.New("a compaction has removed what was there before")
	// ErrReadOnly is returned by the methods that write when the repository was opened read-only.
	ErrReadOnly = errors.New("repository is open read-only")
	// ErrTooLarge is returned by Put for a value longer than MaxObjectSize. The transaction goes on without it.
	ErrTooLarge = errors.New("object is too large")
	// ErrFailed is matched by what Put, Delete and Commit return after an earlier call of the transaction has failed
	// to write: the transaction can only be rolled back.
	ErrFailed = errors.New("transaction has failed and must be rolled back")
	// ErrClosed is returned by every method once the repository has been closed.
	ErrClosed = errors.New("repository is closed")
)
