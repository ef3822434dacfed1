package archive

import "maps"

// A Flaw says in a word that the content of a file may not be what the file had in it at any time, although all of it is
// there that was stored. The word is that of the mark in the archive.
type Flaw string

// The flaws that there are. They are wire format; a later program may know others.
const (
	FlawChanged Flaw = "changed" // the file changed each time it was read: this may be a mixture of what it had in it
	FlawShort   Flaw = "short"   // the file did not end, or sooner than the system said: there may be more
	flawOther   Flaw = "unknown" // the mark is none that is known
)

// FlawXattr is the name of the extended attribute that marks an item with a flaw; its value is the word. It is wire format.
//
// It is no key of the item: programs that do not know a key take the item for damaged. No file has it on disk: backups
// leave it out, and so does who restores.
const FlawXattr = "user.garret.flaw"

// Flaw returns the flaw that the item is marked with, empty if there is none.
func (it *Item) Flaw() Flaw {
	value, marked := it.Xattrs[FlawXattr]
	switch f := Flaw(value); {
	case !marked:
		return ""
	case f == FlawChanged || f == FlawShort:
		return f
	}
	return flawOther
}

// SetFlaw marks the item.
func (it *Item) SetFlaw(f Flaw) {
	xattrs := make(map[string][]byte, len(it.Xattrs)+1)
	maps.Copy(xattrs, it.Xattrs)
	xattrs[FlawXattr] = []byte(f)
	it.Xattrs = xattrs
}

// Text says what the flaw means, as what follows the name of the file.
func (f Flaw) Text() string {
	switch f {
	case FlawChanged:
		return "changed while it was read for the archive: its content may be a mixture of what it had in it"
	case FlawShort:
		return "may not be whole: so it was read for the archive"
	}
	return "is marked with a flaw that this program does not know"
}
