package repository

import "strings"

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
