package fsmeta

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An acl is a POSIX access control list, in the order of the kernel: the owner, users, the group, groups, the mask, others.
type acl []aclEntry

type aclEntry struct {
	tag  uint16
	perm uint16 // 4 read, 2 write, 1 execute
	id   uint32 // of the user or group; else noID
}

// The kernel's form of a list, which is the value of an extended attribute: the version in four bytes, and then for each
// entry its tag and its permissions in two bytes each and the number of the user or group in four, all little-endian.
const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8
	maxACL       = (1<<16 - aclHeader) / aclEntrySize // entries, as an attribute has at most 64 KiB

	tagUserObj  uint16 = 0x01 // the owner
	tagUser     uint16 = 0x02
	tagGroupObj uint16 = 0x04 // the owner's group
	tagGroup    uint16 = 0x08
	tagMask     uint16 = 0x10 // the most that users and groups get, others and the owner apart
	tagOther    uint16 = 0x20

	noID = ^uint32(0)
)

var errBadACL = errors.New("is no valid access control list")

// parseRawACL reads the kernel's form.
func parseRawACL(raw []byte) (acl, error) {
	if len(raw) < aclHeader || (len(raw)-aclHeader)%aclEntrySize != 0 || binary.LittleEndian.Uint32(raw) != aclVersion {
		return nil, errBadACL
	}
	var a acl
	for raw = raw[aclHeader:]; len(raw) > 0; raw = raw[aclEntrySize:] {
		a = append(a, aclEntry{
			tag:  binary.LittleEndian.Uint16(raw),
			perm: binary.LittleEndian.Uint16(raw[2:]),
			id:   binary.LittleEndian.Uint32(raw[4:]),
		})
	}
	return a, a.check()
}

// raw returns the kernel's form.
func (a acl) raw() []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// check reports whether a list in order has all that it needs, and nothing twice.
func (a acl) check() error {
	var seen uint16
	for i, e := range a {
		if e.perm > 7 {
			return errBadACL
		}
		switch e.tag {
		case tagUser, tagGroup:
			if e.id == noID {
				return errBadACL
			}
			if i > 0 && a[i-1].tag == e.tag && a[i-1].id == e.id {
				return fmt.Errorf("%w: it names number %d twice", errBadACL, e.id)
			}
		case tagUserObj, tagGroupObj, tagMask, tagOther:
			if seen&e.tag != 0 {
				return errBadACL
			}
		default:
			return errBadACL
		}
		seen |= e.tag
	}
	const needed = tagUserObj | tagGroupObj | tagOther
	if seen&needed != needed || seen&(tagUser|tagGroup) != 0 && seen&tagMask == 0 || len(a) > maxACL {
		return errBadACL
	}
	return nil
}

// find returns the permissions of an entry that there is at most once.
func (a acl) find(tag uint16) (perm uint16, ok bool) {
	i := slices.IndexFunc(a, func(e aclEntry) bool { return e.tag == tag })
	if i < 0 {
		return 0, false
	}
	return a[i].perm, true
}

// aclOfMode returns the list that says the same as permissions do.
func aclOfMode(mode uint32) acl {
	return acl{
		{tagUserObj, uint16(mode >> 6 & 7), noID},
		{tagGroupObj, uint16(mode >> 3 & 7), noID},
		{tagOther, uint16(mode & 7), noID},
	}
}

// aclKinds are the words of the text, in the order of the entries.
var aclKinds = []struct {
	word       string
	obj, named uint16
}{
	{"user", tagUserObj, tagUser},
	{"group", tagGroupObj, tagGroup},
	{"mask", tagMask, 0},
	{"other", tagOther, 0},
}

// text returns the form that archives have: an entry on each line, "user:NAME:rwx:NUMBER", or "user::rwx" where it is the
// owner's. Who has no name, or one that would not be read back as it is, has the number in its place.
func (a acl) text(owners *Owners) string {
	var lines []string
	for _, e := range a {
		for _, k := range aclKinds {
			switch e.tag {
			case k.obj:
				lines = append(lines, k.word+"::"+permText(e.perm))
			case k.named:
				name, ask := strconv.FormatUint(uint64(e.id), 10), owners.UserName
				if e.tag == tagGroup {
					ask = owners.GroupName
				}
				if n := ask(e.id); n != nil && plainName(*n) {
					name = *n
				}
				lines = append(lines, fmt.Sprintf("%s:%s:%s:%d", k.word, name, permText(e.perm), e.id))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func plainName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == ':' || r == '#' || r == '\\'
	})
}

func permText(perm uint16) string {
	text := []byte("rwx")
	for i := range text {
		if perm>>(2-i)&1 == 0 {
			text[i] = '-'
		}
	}
	return string(text)
}

// parseACL reads the text of a list. Names become the numbers that they have here.
func parseACL(text string, owners *Owners) (acl, error) {
	var a acl
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			continue
		}
		e, err := parseACLEntry(line, owners)
		if err != nil {
			return nil, err
		}
		if len(a) == maxACL {
			return nil, fmt.Errorf("%w: it has more than %d entries", errBadACL, maxACL)
		}
		a = append(a, e)
	}
	slices.SortStableFunc(a, func(x, y aclEntry) int { return cmp.Or(cmp.Compare(x.tag, y.tag), cmp.Compare(x.id, y.id)) })
	return a, a.check()
}

func parseACLEntry(line string, owners *Owners) (aclEntry, error) {
	bad := fmt.Errorf("%w: it has the line %q", errBadACL, line[:min(len(line), 100)])
	fields := strings.Split(line, ":")
	if len(fields) < 3 || len(fields) > 4 || len(fields[2]) != 3 {
		return aclEntry{}, bad
	}
	e := aclEntry{id: noID}
	for i, c := range []byte(fields[2]) {
		switch c {
		case "rwx"[i]:
			e.perm |= 4 >> i
		case '-':
		default:
			return e, bad
		}
	}
	name := fields[1]
	for _, k := range aclKinds {
		if fields[0] != k.word {
			continue
		}
		if e.tag = k.obj; name == "" {
			return e, nil
		}
		if e.tag = k.named; e.tag == 0 {
			return e, bad
		}
		ask := owners.userID
		if e.tag == tagGroup {
			ask = owners.groupID
		}
		number := fields[len(fields)-1]
		if len(fields) == 3 {
			number = name
		}
		id, err := parseID(number)
		if err != nil {
			id = noID // Attic repeats a name in which it has escaped characters
		}
		name = unescape(name)
		if e.id = ask(&name, id); e.id == noID {
			return e, bad
		}
		return e, nil
	}
	return e, bad
}

// unescape replaces the octal escapes that the C library puts in the place of some characters of a name.
func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+3 < len(name) {
			if c, err := strconv.ParseUint(name[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
