package tarball

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"garret/internal/archive"
	"garret/internal/fsmeta"
)

// tarACL returns an item's ACL as tars have it.
func tarACL(text string) string { return strings.ReplaceAll(text, "\n", ",") }

// maxACLEntries bounds an ACL. No file system takes more.
const maxACLEntries = 1 << 14

// itemACL reads an ACL of a tar: entries of TAG:NAME:PERMISSIONS[:NUMBER], apart by commas or line feeds, with comments.
// The numbers of users and groups that are only named are those that this system has for the names. extended tells
// whether there is more in it than the mode says.
func itemACL(text string, owners *fsmeta.Owners) (acl string, extended bool, err error) {
	var lines []string
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		entry, _, _ = strings.Cut(entry, "#")
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		line, err := itemACLEntry(entry, owners)
		if err != nil {
			return "", false, fmt.Errorf("ACL entry %.80q %w", entry, err)
		}
		if lines = append(lines, line); len(lines) > maxACLEntries {
			return "", false, errors.New("its ACL has too many entries")
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(aclOrder(a), aclOrder(b)) })
	return strings.Join(lines, "\n"), len(lines) > 3, nil
}

// aclOrder returns where a line of an item's ACL belongs: systems put users, groups, mask and others in this order, the
// users and the groups by their numbers.
func aclOrder(line string) uint64 {
	fields := strings.Split(line, ":")
	order := uint64(slices.Index([]string{"user", "group", "mask", "other"}, fields[0])) << 40
	if len(fields) == 4 {
		number, _ := strconv.ParseUint(fields[3], 10, 32)
		order += 1 + number
	}
	return order
}

// aclMask returns the permissions in the mask of an item's ACL, and whether there is one.
func aclMask(acl string) (mask uint32, ok bool) {
	_, rest, ok := strings.Cut(acl, "mask::")
	if !ok {
		return 0, false
	}
	for i := range 3 {
		mask <<= 1
		if rest[i] != '-' {
			mask |= 1
		}
	}
	return mask, true
}

// minimalACL returns the ACL that says what a mode says.
func minimalACL(mode uint32) string {
	perms := func(shift int) string {
		text := []byte("rwx")
		for i := range text {
			if mode>>shift>>(2-i)&1 == 0 {
				text[i] = '-'
			}
		}
		return string(text)
	}
	return "user::" + perms(6) + "\ngroup::" + perms(3) + "\nother::" + perms(0)
}

var aclTags = map[string]string{
	"u": "user", "user": "user", "g": "group", "group": "group", "m": "mask", "mask": "mask", "o": "other", "other": "other",
}

func itemACLEntry(entry string, owners *fsmeta.Owners) (string, error) {
	fields := strings.Split(entry, ":")
	tag, ok := aclTags[strings.TrimSpace(fields[0])]
	if ok && len(fields) == 2 && (tag == "mask" || tag == "other") { // as Solaris writes them
		fields = []string{tag, "", fields[1]}
	}
	if !ok || len(fields) < 3 || len(fields) > 4 {
		return "", errors.New("is none")
	}
	perms, err := aclPerms(strings.TrimSpace(fields[2]))
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(fields[1])
	if name == "" {
		return tag + "::" + perms, nil
	}
	if tag != "user" && tag != "group" {
		return "", errors.New("has a name that it cannot have")
	}
	var number string
	if len(fields) == 4 {
		number = strings.TrimSpace(fields[3])
	}
	if number == "" {
		number = aclNumber(tag, name, owners)
	}
	if _, err := strconv.ParseUint(number, 10, 32); err != nil {
		return "", fmt.Errorf("is of a %s that this system does not know", tag)
	}
	return tag + ":" + name + ":" + perms + ":" + number, nil
}

// aclNumber returns the number of a user or group, or something else than a number.
func aclNumber(tag, name string, owners *fsmeta.Owners) string {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return name
	}
	const nobody = ^uint32(0)
	it := &archive.Item{UID: nobody, GID: nobody, User: &name, Group: &name}
	if tag == "user" {
		it.Group = nil
	} else {
		it.User = nil
	}
	uid, gid := owners.IDs(it)
	if id := min(uid, gid); id != nobody {
		return strconv.FormatUint(uint64(id), 10)
	}
	return name
}

func aclPerms(s string) (string, error) {
	perms := []byte("---")
	for _, c := range []byte(s) {
		switch at := strings.IndexByte("rwx", c); {
		case at >= 0:
			perms[at] = c
		case c != '-':
			return "", errors.New("has permissions that are none")
		}
	}
	return string(perms), nil
}
