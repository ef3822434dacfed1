package envelope

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"garret/repository"
)

// NonceFile is the name of the file in a repository that says which counter values are taken.
const NonceFile = "garret.nonce"

// The measures of a reservation, in counter values of 16 bytes each.
const (
	reserveBlocks = 1 << 28 // how many are reserved at once: 4 GiB

	gap        = 1 << 38 // what is skipped at the beginning of a session at least: 4 TiB
	jump       = 1 << 44 // the range of the random skip after it
	wideGap    = 1 << 50 // the same where there are signs that the records cannot be relied on
	wideJump   = 1 << 50
	maxCounter = 1 << 63
)

// NonceFiles are the small named files of a repository. WriteFile replaces a file atomically and durably; ReadFile returns
// an error that matches fs.ErrNotExist when there is none.
type NonceFiles interface {
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
}

// A NonceReserver gives out the counter values of one session, none of which any other session of the key has used or
// will use. Two envelopes with a counter value in common would give away the XOR of their contents.
//
// Three marks say up to where counter values may have been used:
//
//   - r, in the repository's file [NonceFile]: the end of the last range reserved by any client;
//   - l, in this client's own record: the end of the last range that it reserved itself;
//   - m, the end of the current manifest's envelope: a reference that works on the repository records nothing else, and
//     goes on from there.
//
// A session begins at max(r, l, m), skips 2^38 values and then a random number below 2^44. It reserves 2^28 at a time (or
// as many as one envelope needs) and seals nothing before the range's end is durable in r and in l. So
//
//   - after a crash, the rest of the reservation is skipped: r and l are past all that was used;
//   - when the repository is put back to an older state, l is past all that this client used;
//   - when the reference crashed, what it used after the manifest's end is at most 2^38 values or 4 TiB in one session;
//   - when the repository is put back and other clients had written since, the random skip is all there is. It
//     makes a session that seals U bytes meet one of V bytes with a probability of (U+V)/16/2^44 at most: for two
//     sessions of 16 GiB 1 in 8192, and it is taken twice only where both begin at the same mark. The same holds for a
//     client whose record was deleted and for copies of one repository that are both written to.
//
// There are two signs of trouble: a mark whose file is damaged, which is treated as absent, and l greater than r at
// the beginning of a session. As r is written before l, the latter means that the repository was put back. Then 2^50
// values and a random number below 2^50 are skipped. Two sessions of 16 GiB that both begin so at the same mark meet
// with 1 in 500,000. With r damaged and l missing too, what was used after m is from sessions that did not commit,
// and the gap covers more than 60 of them: that is why a damaged file is no error.
//
// Marks only grow. One session takes 2^43 values on average, so a key lasts for a million sessions, and for 5,000 of those
// that begin with trouble. A server that lies about r can at worst use up the key; it cannot make a client that has its own
// record repeat itself.
//
// The reference goes on after the manifest's envelope. So that it does not repeat values of this session, the manifest must
// be the last that a session seals.
//
// A mark's file has one line: "garret-nonce 1 ", the end in 20 decimal digits, a space, the CRC-32 (IEEE) of all before
// it in 8 hexadecimal digits.
//
// A NonceReserver is safe for concurrent use. So are several on one client, for copies of a repository:
// the client's record is locked while it is read and written.
type NonceReserver struct {
	repo        NonceFiles
	clientFile  string
	manifestEnd uint64

	mu   sync.Mutex
	next uint64 // the next value to give out
	end  uint64 // of the reserved range; 0 before the first
}

// NewNonceReserver returns a Nonces for a session. The repository must be open exclusively; clientFile is the path of this
// client's own record (nonce, in the repository's folder of the cache), whose directory is made if need be; manifestEnd is
// the [NonceEnd] of the current manifest's envelope, which must have been opened with the key, or 0 if there is none.
// Nothing is read or written before the first Reserve.
func NewNonceReserver(repo NonceFiles, clientFile string, manifestEnd uint64) *NonceReserver {
	return &NonceReserver{repo: repo, clientFile: clientFile, manifestEnd: manifestEnd}
}

// Reserve implements Nonces. After an error nothing has been given out, and more than was asked for may be marked as
// taken. It matches ErrNoncesUsedUp when the key should be replaced.
func (n *NonceReserver) Reserve(blocks uint64) (uint64, error) {
	if blocks >= maxCounter {
		return 0, ErrNoncesUsedUp
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.end-n.next < blocks {
		if err := n.extendLocked(blocks); err != nil {
			return 0, fmt.Errorf("reserve counter values: %w", err)
		}
	}
	first := n.next
	n.next += blocks
	return first, nil
}

// extendLocked makes the range from next to end hold at least so many values.
func (n *NonceReserver) extendLocked(blocks uint64) error {
	unlock, err := lockClientFile(n.clientFile)
	if err != nil {
		return err
	}
	defer unlock()
	client, clientDamaged, err := readMark(os.ReadFile(n.clientFile))
	if err != nil {
		return fmt.Errorf("read %q: %w", n.clientFile, err)
	}
	next := n.next
	if n.end == 0 || client > n.end {
		// The session begins; or another one on this client has gone past it, so that what follows is not known to be
		// free.
		if next, err = n.begin(client, clientDamaged); err != nil {
			return err
		}
	}
	end := next + max(blocks, reserveBlocks)
	if next > maxCounter || end > maxCounter {
		return ErrNoncesUsedUp
	}
	mark := formatMark(end)
	if err := n.repo.WriteFile(NonceFile, mark); err != nil {
		return fmt.Errorf("write %q to the repository: %w", NonceFile, err)
	}
	if err := replaceFile(n.clientFile, mark); err != nil {
		return fmt.Errorf("write %q: %w", n.clientFile, err)
	}
	n.next, n.end = next, end
	return nil
}

// begin returns where a session begins.
func (n *NonceReserver) begin(client uint64, clientDamaged bool) (uint64, error) {
	repo, repoDamaged, err := readMark(n.repo.ReadFile(NonceFile))
	if err != nil {
		return 0, fmt.Errorf("read %q of the repository: %w", NonceFile, err)
	}
	start := max(repo, client, n.manifestEnd, n.end)
	if start > maxCounter {
		return 0, ErrNoncesUsedUp
	}
	if repoDamaged || clientDamaged || (client > repo && n.end == 0) {
		return start + wideGap + randomBelow(wideJump), nil
	}
	return start + gap + randomBelow(jump), nil
}

// randomBelow returns a random number below a power of two.
func randomBelow(limit uint64) uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:]) % limit
}

const markFormat = "garret-nonce 1 %020d "

func formatMark(end uint64) []byte {
	line := fmt.Appendf(nil, markFormat, end)
	return fmt.Appendf(line, "%08x\n", crc32.ChecksumIEEE(line))
}

// readMark makes sense of what reading a mark's file gave. The mark is 0 when there is none or it is damaged. One of a version
// to come is an error that matches repository.ErrNewer: who does not know what is taken must not take any.
func readMark(data []byte, err error) (mark uint64, damaged bool, _ error) {
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if _, err := fmt.Sscanf(string(data), markFormat, &mark); err != nil || !bytes.Equal(data, formatMark(mark)) {
		if v := newerMark(data); v > 0 {
			return 0, false, fmt.Errorf("%w: the record of the counters has version %d", repository.ErrNewer, v)
		}
		return 0, true, nil
	}
	return mark, false, nil
}

// newerMark returns the version of a mark that is sound, and of a version to come, or 0.
func newerMark(data []byte) (version uint64) {
	body := data[:max(0, len(data)-len("00000000\n"))]
	if _, err := fmt.Sscanf(string(data), "garret-nonce %d ", &version); err != nil || version < 2 ||
		string(data[len(body):]) != fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(body)) {
		return 0
	}
	return version
}

// lockClientFile makes the directory of the client's record and locks the record, until the returned function is
// called, against other processes and other NonceReservers of this one.
func lockClientFile(name string) (unlock func(), err error) {
	if err := MakeDir(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("make the folder of %q: %w", name, err)
	}
	f, err := os.OpenFile(name+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return func() { f.Close() }, nil // closing releases the lock
}
