package repository

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"

	"garret/repository/storage"
)

// In a repository that is append-only no object that has been committed can be deleted or replaced, other than that with
// the id of 32 zero bytes: the manifest of a backup, which is replaced by each. And nothing is compacted, so that every
// earlier state stays in the log: see Transactions and PlanRevert. What the open transaction itself has stored it may take
// back.
//
// It is so for one who opens it with Options.AppendOnly, and, by garret_append_only in the config, for all.

// appendOnlyKey is the key of the config that only this program knows.
const appendOnlyKey = "garret_append_only"

// parseAppendOnly reads its value. One that makes no sense stands for the careful choice.
func parseAppendOnly(text string) bool {
	switch strings.ToLower(text) {
	case "0", "no", "false", "off":
		return false
	}
	return true
}

// AppendOnly reports whether the repository is append-only, by its config or by the Options it was opened with.
func (r *Repository) AppendOnly() bool { return r.opts.AppendOnly || r.config.appendOnly }

// keeps reports whether an object, which is at old, must stay as it is.
func (r *Repository) keeps(id ID, old location) bool {
	return r.AppendOnly() && id != (ID{}) && int64(old.segment) <= r.committed
}

// wholeName is the file that says from which transaction on no segment was removed: what is missing up to there was missing
// then already. The first who writes to an append-only repository makes it, and a compaction of this program takes it back
// before it removes anything. It has one line: "garret-history 2 ", the number in 10 decimal digits, a space, how many
// segments there are up to it in 10 decimal digits, a space, the CRC-32 (IEEE) of all before in 8 hexadecimal digits.
//
// Without the count, a segment that is lost later would pass for one that was missing before, and an old copy of the file
// would be believed after a compaction.
const wholeName = ownPrefix + "history"

const wholeFormat = "garret-history 2 %010d %010d "

func formatWhole(since uint32, segments int) []byte {
	line := fmt.Appendf(nil, wholeFormat, since, segments)
	return fmt.Appendf(line, "%08x\n", crc32.ChecksumIEEE(line))
}

// wholeSince returns the transaction from which on the log is whole, or -1 if none is known.
func (r *Repository) wholeSince() (int64, error) {
	b, err := storage.ReadFile(r.store, wholeName, 100)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrTooLong) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	var since uint32
	var count int
	if _, err := fmt.Sscanf(string(b), wholeFormat, &since, &count); err != nil ||
		string(b) != string(formatWhole(since, count)) {
		return -1, nil
	}
	if int64(since) > r.committed { // it is of another history
		return -1, nil
	}
	log, err := r.committedSegments()
	if err != nil {
		return -1, err
	}
	if countUpTo(log, int64(since)) != count { // something was removed, or lost, since then
		return -1, nil
	}
	return int64(since), nil
}

// noteWhole notes, before something is appended to a repository that is append-only, that its log is whole from now on. It
// is of use to people alone, so that it may fail. It is called by the one who begins a transaction.
func (r *Repository) noteWhole() {
	if !r.AppendOnly() || r.committed < 0 || r.noted {
		return
	}
	since, err := r.wholeSince()
	if err == nil && since < 0 {
		var log []uint32
		if log, err = r.committedSegments(); err == nil {
			whole := formatWhole(uint32(r.committed), countUpTo(log, r.committed))
			err = unlessFull(storage.WriteFile(r.store, wholeName, whole))
		}
	}
	if err != nil {
		r.opts.Warn(fmt.Errorf("note that nothing is removed: %w", err))
	}
	r.noted = err == nil
}

// forgetWhole takes that back, for good, before segments are removed.
func (r *Repository) forgetWhole() error {
	r.noted = false
	f, err := r.store.OpenFile(wholeName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	// Its removal alone might not outlive a power failure.
	if err := r.withReserve(func() error { return storage.WriteFile(r.store, wholeName, nil) }); err != nil {
		return err
	}
	return r.store.RemoveFile(wholeName)
}
