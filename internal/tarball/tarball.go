// Package tarball turns archives into tars and tars into archives.
//
// A tar has all that an item has, file flags apart. It is in the format PAX where it must be, and thus in the older
// ustar for most entries:
//
//	path, owner, times, size   the header, or PAX records where that has no room; names that are not UTF-8 as they are,
//	                           and hdrcharset says BINARY then
//	xattrs                     SCHILY.xattr.NAME, with % and = in the name as %25 and %3D
//	acl_access, acl_default    SCHILY.acl.access and SCHILY.acl.default: the lines of the item with commas between them,
//	                           whose fourth field is the number of the user or group
//
// which is how GNU tar, bsdtar and star do it. File flags are in no tar. The mark of a file that
// changed while it was read is an attribute of its item, and so of the entry.
package tarball

import (
	"archive/tar"
	"strings"

	"garret/internal/fsmeta"
)

// The keys of PAX records that archive/tar leaves alone. They are wire format.
const (
	xattrPrefix     = "SCHILY.xattr."
	aclAccessKey    = "SCHILY.acl.access"
	aclDefaultKey   = "SCHILY.acl.default"
	gnuSparsePrefix = "GNU.sparse."
)

// encodeXattrName returns the name of an extended attribute as a PAX record can have it.
func encodeXattrName(name string) string {
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

func decodeXattrName(name string) string {
	return strings.NewReplacer("%25", "%", "%3D", "=").Replace(name)
}

// types are the types of entries, by those of items. Hard links, which are regular files, have one of their own.
var types = map[uint32]byte{
	fsmeta.TypeRegular: tar.TypeReg,
	fsmeta.TypeDir:     tar.TypeDir,
	fsmeta.TypeSymlink: tar.TypeSymlink,
	fsmeta.TypeChar:    tar.TypeChar,
	fsmeta.TypeBlock:   tar.TypeBlock,
	fsmeta.TypeFIFO:    tar.TypeFifo,
}

// typeOf returns the type of an item that an entry becomes, and whether there is one. It is that of a regular file for a
// hard link.
func typeOf(flag byte) (uint32, bool) {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		return fsmeta.TypeRegular, true
	case gnuDumpDir:
		return fsmeta.TypeDir, true
	}
	for typ, f := range types {
		if f == flag {
			return typ, true
		}
	}
	return 0, false
}

// The types of entries that GNU tar makes beyond those of archive/tar.
const (
	gnuDumpDir = 'D' // a directory in an incremental backup, with a list of what is in it
	gnuVolume  = 'V' // the name of the volume
)

// Stats say what has been imported or exported.
type Stats struct {
	Files    int64 // regular files, hard links included
	Dirs     int64
	Others   int64 // symbolic links, devices, FIFOs
	Bytes    int64 // of content, each file whole
	Warnings int64
}

func (s *Stats) count(typ uint32) {
	switch typ {
	case fsmeta.TypeRegular:
		s.Files++
	case fsmeta.TypeDir:
		s.Dirs++
	default:
		s.Others++
	}
}
