package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"garret/internal/fsck"
	"garret/internal/ui"
)

// checkParts is how far a check has come that is done in parts: the file check.json in what this machine remembers of a
// repository. If it is lost or damaged, the next part is the first. Segments that were compacted since are behind the position, with
// greater numbers, and so are objects that moved with them.
type checkParts struct {
	Segment   uint32        `json:"segment"`    // the next one to read
	StoreDone bool          `json:"store_done"` // all have been read
	Data      bool          `json:"data"`       // the archives are checked with --verify-data
	Archives  fsck.Position `json:"archives"`
	Sum       string        `json:"sum"` // of all that, see sum: a wrong digit would leave segments out

	ArchivesDone             bool   `json:"-"`
	First, Last              uint32 `json:"-"` // the segments of this part
	wantStore, wantsArchives bool   // what is asked for: the repository, the archives
	file                     string
}

// readCheckParts reads the position. One that cannot be read, or is of another kind of check, is the beginning.
func readCheckParts(dir string, store, archives, data bool) *checkParts {
	p := &checkParts{}
	file := filepath.Join(dir, "check.json")
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, p) != nil || p.Sum != p.sum() {
		p = &checkParts{}
	}
	if p.Data != data {
		p.Archives = fsck.Position{}
	}
	p.Data, p.file, p.wantStore, p.wantsArchives = data, file, store, archives
	return p
}

// sum returns the checksum of the position: the CRC-32 (IEEE) of the JSON with an empty one, in hexadecimal digits.
func (p *checkParts) sum() string {
	q := *p
	q.Sum = ""
	b, err := json.Marshal(q)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))
}

// isPartial reports whether something is left for the next part.
func (p *checkParts) isPartial() bool {
	return p.wantStore && !p.StoreDone || p.wantsArchives && !p.ArchivesDone
}

// save writes the position down. What the check has come to the end of begins anew the next time.
func (p *checkParts) save() error {
	next := *p
	if !p.isPartial() {
		if p.wantStore {
			next.Segment, next.StoreDone = 0, false
		}
		if p.wantsArchives {
			next.Archives = fsck.Position{}
		}
	}
	if next.Segment == 0 && !next.StoreDone && next.Archives == (fsck.Position{}) {
		if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget how far the check had come: %w", err)
		}
		return nil
	}
	next.Sum = next.sum()
	data, err := json.Marshal(next)
	if err == nil {
		err = replaceFile(p.file, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("remember how far the check has come: %w", err)
	}
	return nil
}

// tellParts says which part has been checked.
func (c *check) tellParts() {
	p := c.parts
	if r := c.store; r != nil {
		c.ui.Printf("Checked the segments %d to %d: %s.", p.First, p.Last, ui.Bytes(r.Bytes))
	}
	switch {
	case !p.isPartial():
		c.ui.Printf("The check of repository %q, in parts, is at its end.", c.loc)
	case p.wantStore && !p.StoreDone:
		c.ui.Printf("The next check with --max-duration goes on with segment %d.", p.Segment)
	case p.Archives.Archive != "":
		c.ui.Printf("The next check with --max-duration goes on behind archive %q.", p.Archives.Archive)
	case p.Archives.Data.Segment > 0 && !p.Archives.Verified:
		c.ui.Printf("The next check with --max-duration goes on with the objects from segment %d on.", p.Archives.Data.Segment)
	default:
		c.ui.Printf("The next check with --max-duration goes on with the archives.")
	}
}
