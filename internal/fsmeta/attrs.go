package fsmeta

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
)

// The names under which Linux shows access control lists among the extended attributes. Archives hold them as text
// instead.
const (
	aclAccessAttr  = "system.posix_acl_access"
	aclDefaultAttr = "system.posix_acl_default"
)

// maxAttrErrors is how many attributes of one file are told of that went wrong.
const maxAttrErrors = 3

// ReadAttrs reads the extended attributes and the access control lists of an entry into its item, which NewItem has
// made. If f is not nil, it is the entry, open; else it need not be readable. Symbolic links are not followed.
//
// All attributes that the system lists are kept, those of its own (security.*, trusted.*) too, which the kernel shows to
// who may see them, but for archive.FlawXattr. Names and values have at most MaxAttrs bytes together.
//
// The error, a *fs.PathError, says what could not be read; the rest is in the item then. Attributes that the file system
// does not have, or that vanish meanwhile, are no error.
func ReadAttrs(d *Dir, name string, f *os.File, it *archive.Item, owners *Owners) error {
	return d.withAttrs("read attributes of", name, f, it.Mode&TypeMask, func(h attrHandle) error {
		names, err := h.names()
		if err != nil || len(names) == 0 {
			return err
		}
		var errs attrErrors
		size := 0
		var access, dflt []byte
		for _, n := range names {
			if n == archive.FlawXattr {
				continue
			}
			value, err := h.value(n)
			switch {
			case errors.Is(err, errNoAttr):
				continue
			case err != nil:
			case n == aclAccessAttr:
				access = value
				continue
			case n == aclDefaultAttr:
				dflt = value
				continue
			case size+len(n)+len(value) > MaxAttrs:
				err = errTooLarge
			}
			if err != nil {
				errs.addAttr(n, err)
				continue
			}
			size += len(n) + len(value)
			if it.Xattrs == nil {
				it.Xattrs = map[string][]byte{}
			}
			it.Xattrs[n] = value
		}
		if access != nil || dflt != nil {
			if err := readACLs(it, access, dflt, owners); err != nil {
				errs.add("ACL", err)
			}
		}
		return errs.err()
	})
}

// readACLs puts the lists into an item if they say more than its permissions do. A directory that has one of them gets
// both, of which the default one can be empty.
func readACLs(it *archive.Item, access, dflt []byte, owners *Owners) error {
	lists, isDir := [2]acl{}, it.Mode&TypeMask == TypeDir
	for i, raw := range [][]byte{access, dflt} {
		if raw == nil {
			continue
		}
		var err error
		if lists[i], err = parseRawACL(raw); err != nil {
			return err
		}
	}
	if lists[0] == nil {
		lists[0] = aclOfMode(it.Mode)
	}
	if len(lists[0]) <= 3 && lists[1] == nil {
		return nil
	}
	it.ACLAccess = new(lists[0].text(owners))
	if isDir {
		it.ACLDefault = new(lists[1].text(owners))
	}
	return nil
}

var errTooLarge = fmt.Errorf("is too large: a file has at most %d bytes of attributes", MaxAttrs)

// attrErrors collects what went wrong with the attributes of a file.
type attrErrors struct {
	first []string
	more  int
}

// add notes an error.
func (e *attrErrors) add(what string, err error) {
	if len(e.first) == maxAttrErrors {
		e.more++
		return
	}
	e.first = append(e.first, fmt.Sprintf("%s: %v", what, err))
}

// addAttr notes an error about an attribute, whose name may come from an archive.
func (e *attrErrors) addAttr(name string, err error) { e.add(fmt.Sprintf("%.100q", name), err) }

// err returns all of them as one error. It does not match a full disk: file systems say that too when there is no room
// for an attribute in one file.
func (e *attrErrors) err() error {
	if len(e.first) == 0 {
		return nil
	}
	if e.more > 0 {
		e.first = append(e.first, fmt.Sprintf("and %d more", e.more))
	}
	return errors.New(strings.Join(e.first, "; "))
}

// attrBufSize is enough for everything that Linux has, with a byte to spare: some systems do not say that a buffer was
// too small.
const attrBufSize = 1<<16 + 1

var attrBufs = sync.Pool{New: func() any { return new([attrBufSize]byte) }}

// readAttr calls read with larger and larger buffers until one is not filled, and passes what it has read to use.
func readAttr(read func(buf []byte) (int, error), use func(data []byte)) error {
	pooled := attrBufs.Get().(*[attrBufSize]byte)
	defer attrBufs.Put(pooled)
	for buf := pooled[:]; ; buf = make([]byte, 4*len(buf)) {
		var n int
		err := retry(func() (err error) {
			n, err = read(buf)
			return err
		})
		switch {
		case err != nil && err != unix.ERANGE:
			return err
		case err == nil && n < len(buf):
			use(buf[:n])
			return nil
		case len(buf) > MaxAttrs:
			return errTooLarge
		}
	}
}

// names returns the names of all attributes, in order; none if the file system has none.
func (h attrHandle) names() (names []string, err error) {
	err = readAttr(h.list, func(data []byte) { names = splitNames(data) })
	switch err {
	case unix.ENOTSUP, unix.ENOSYS, unix.EPERM, errNoAttr: // EPERM says of some files that they cannot have any
		err = nil
	}
	slices.Sort(names)
	return names, err
}

func (h attrHandle) value(name string) (value []byte, err error) {
	err = readAttr(func(buf []byte) (int, error) { return h.get(name, buf) }, func(data []byte) { value = bytes.Clone(data) })
	return value, err
}

// setXattrs gives an entry the extended attributes of its item. Others that it has, it keeps.
func (d *Dir) setXattrs(name string, f *os.File, it *archive.Item) error {
	if len(it.Xattrs) == 0 {
		return nil
	}
	return d.withAttrs("restore attributes of", name, f, it.Mode&TypeMask, func(h attrHandle) error {
		var errs attrErrors
		for _, n := range slices.Sorted(maps.Keys(it.Xattrs)) {
			var err error
			switch {
			case n == archive.FlawXattr:
			case n == "" || strings.Contains(n, "\x00"):
				err = errors.New("not the name of an attribute")
			case n == aclAccessAttr || n == aclDefaultAttr:
				err = errors.New("an ACL is not restored as an attribute")
			default:
				if err = retry(func() error { return h.set(n, it.Xattrs[n]) }); notOurs(n) {
					err = nil
				}
			}
			switch err {
			case unix.ENOSPC, unix.EDQUOT, unix.E2BIG, unix.ERANGE: // none of which tells by itself that it is about one attribute
				err = fmt.Errorf("its %d bytes are more than the file system takes for a file: %w", len(it.Xattrs[n]), err)
			}
			if err != nil {
				errs.addAttr(n, err)
			}
		}
		return errs.err()
	})
}

// notOurs reports whether an attribute is one that only root can set, and we are not root. As with owners, it is then to
// be expected that it is not restored.
func notOurs(name string) bool {
	space, _, _ := strings.Cut(name, ".")
	return os.Geteuid() != 0 && (space == "security" || space == "trusted" || space == "system")
}

// setACLs gives an entry its access control lists, and takes away those that it has inherited where it has none.
func (d *Dir) setACLs(name string, f *os.File, typ uint32, lists itemACLs) error {
	return d.withAttrs("restore attributes of", name, f, typ, func(h attrHandle) error {
		var errs attrErrors
		for _, l := range []struct {
			attr, what string
			list       acl
			err        error
		}{
			{aclAccessAttr, "ACL", lists.access, lists.accessErr},
			{aclDefaultAttr, "default ACL", lists.dflt, lists.dfltErr},
		} {
			if l.attr == aclDefaultAttr && typ != TypeDir {
				continue
			}
			err := l.err
			if err == nil {
				err = h.setACL(l.attr, l.list)
			}
			if err != nil {
				errs.add(l.what, err)
			}
		}
		return errs.err()
	})
}

// itemACLs are the lists of an item, nil where it has none.
type itemACLs struct {
	access, dflt       acl
	accessErr, dfltErr error
}

func (r *Restorer) itemACLs(it *archive.Item) (l itemACLs) {
	if it.ACLAccess != nil && *it.ACLAccess != "" {
		l.access, l.accessErr = parseACL(*it.ACLAccess, r.Owners)
	}
	if it.ACLDefault != nil && *it.ACLDefault != "" {
		l.dflt, l.dfltErr = parseACL(*it.ACLDefault, r.Owners)
	}
	return l
}

// mode returns the permissions for a file that is going to have these lists. With a list, the bits of the group are
// those of its mask; without, they would give the group what is meant for others on the list. So the group gets its own
// ones until there is the list, and after if there cannot be one.
func (l itemACLs) mode(mode uint32) uint32 {
	if l.accessErr != nil {
		return mode &^ 0o070
	}
	if group, ok := l.access.find(tagGroupObj); ok {
		if mask, ok := l.access.find(tagMask); ok {
			group &= mask
		}
		return mode&^0o070 | mode&(uint32(group)<<3)
	}
	return mode
}
