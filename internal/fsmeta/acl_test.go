package fsmeta

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestACLTextAndRawForm(t *testing.T) {
	list := acl{
		{tagUserObj, 6, noID},
		{tagUser, 7, 0},
		{tagUser, 4, 4000000001},
		{tagGroupObj, 4, noID},
		{tagGroup, 5, 4000000002},
		{tagMask, 7, noID},
		{tagOther, 1, noID},
	}
	raw, err := parseRawACL(list.raw())
	if diff := cmp.Diff(list, raw, cmp.AllowUnexported(aclEntry{})); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, tt := range []struct {
		numeric bool
		want    string
	}{
		{false, "user::rw-\nuser:root:rwx:0\nuser:4000000001:r--:4000000001\ngroup::r--\n" +
			"group:4000000002:r-x:4000000002\nmask::rwx\nother::--x"},
		{true, "user::rw-\nuser:0:rwx:0\nuser:4000000001:r--:4000000001\ngroup::r--\n" +
			"group:4000000002:r-x:4000000002\nmask::rwx\nother::--x"},
	} {
		owners := &Owners{Numeric: tt.numeric}
		if got := list.text(owners); got != tt.want {
			t.Errorf("text is %q, want %q", got, tt.want)
		}
		got, err := parseACL(tt.want, owners)
		if diff := cmp.Diff(list, got, cmp.AllowUnexported(aclEntry{})); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
}

func TestACLNamesComeBeforeNumbers(t *testing.T) {
	text := "user::rwx\nuser:root:r--:4000000001\ngroup::r--\nmask::rwx\nother::---\n"
	for _, tt := range []struct {
		numeric bool
		want    uint32
	}{{false, 0}, {true, 4000000001}} {
		got, err := parseACL(text, &Owners{Numeric: tt.numeric})
		if err != nil || got[1].id != tt.want {
			t.Errorf("numeric %v: %v, %v", tt.numeric, got, err)
		}
	}
	// Attic repeats a name that the C library has escaped, in the place of the number.
	got, err := parseACL(`user::rwx
user:ro\157t:r--:ro\157t
group::r--
mask::rwx
other::---`, new(Owners))
	if err != nil || got[1].id != 0 {
		t.Errorf("escaped: %v, %v", got, err)
	}
}

func TestBadACLsAreRefused(t *testing.T) {
	const rest = "\ngroup::r--\nmask::rwx\nother::---"
	many := "user::rwx\ngroup::r--\nmask::rwx\nother::---"
	for i := range maxACL {
		many += fmt.Sprintf("\nuser:%d:rwx:%d", i+5000000, i+5000000)
	}
	for _, text := range []string{
		"", "\n", "nonsense", "user::rwx", "user::rwx\ngroup::r--", "user::rwxx" + rest, "user::rw" + rest,
		"user::xwr" + rest, "user::rw\xff" + rest, "user::rwx:1:2" + rest, "everyone::rwx" + rest,
		"user::rwx\nuser::r--" + rest, "user::rwx\nuser:nobody at all:rwx:x" + rest, "user::rwx\nmask:1:rwx:1" + rest,
		"user::rwx\nuser:1:rwx:4294967295" + rest, "user::rwx\nuser:1:rwx:99999999999" + rest,
		"user::rwx\nuser:1:rwx:-1" + rest, "user::rwx\nuser:5000001:rwx:5000001\nuser:5000001:---:5000001" + rest,
		"user::rwx\nuser:1:rwx:1\ngroup::r--\nother::---", "user\x00::rwx" + rest, strings.Repeat("a", 1<<20), many,
	} {
		if a, err := parseACL(text, &Owners{Numeric: true}); !errors.Is(err, errBadACL) {
			t.Errorf("%.100q: %v, %v", text, a, err)
		}
	}
	good := acl{{tagUserObj, 6, noID}, {tagGroupObj, 4, noID}, {tagOther, 1, noID}}.raw()
	for name, raw := range map[string][]byte{
		"empty": {}, "short": good[:3], "cut": good[:len(good)-1], "version": append([]byte{1}, good[1:]...),
		"header alone": good[:4], "tag": append(good[:len(good):len(good)], 3, 0, 0, 0, 0, 0, 0, 0),
		"twice": append(good[:len(good):len(good)], good[4:12]...),
	} {
		if a, err := parseRawACL(raw); !errors.Is(err, errBadACL) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
}

func TestWithoutItsListTheGroupGetsWhatIsItsOwn(t *testing.T) {
	r := Restorer{Owners: &Owners{Numeric: true}}
	for _, tt := range []struct {
		text       string
		mode, want uint32
	}{
		{"user::rw-\nuser:7:rw-:7\ngroup::r--\nmask::rwx\nother::r--", 0o674, 0o644},
		{"user::rw-\nuser:7:rw-:7\ngroup::rwx\nmask::r--\nother::---", 0o2640, 0o2640},
		{"user::rw-\ngroup::rw-\nother::---", 0o660, 0o660},
		{"rubbish", 0o2674, 0o2604},
		{"", 0o674, 0o674},
	} {
		l := r.itemACLs(itemWithACL(tt.text))
		if got := l.mode(tt.mode); got != tt.want {
			t.Errorf("%q: %o, want %o", tt.text, got, tt.want)
		}
	}
}

func FuzzACL(f *testing.F) {
	f.Add("user::rw-\nuser:1:rw-:1\ngroup::r--\ngroup:2:r-x:2\nmask::rwx\nother::r--")
	f.Add("user::rwx\ngroup::r-x\nother::r-x\n")
	f.Add("user::rwx\nuser:a\\072b:---:a\\072b\ngroup::---\nmask::---\nother::---")
	owners := &Owners{Numeric: true}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseACL(text, owners)
		if err != nil {
			return
		}
		again, err := parseACL(a.text(owners), owners)
		if err != nil || cmp.Diff(a, again, cmp.AllowUnexported(aclEntry{})) != "" {
			t.Errorf("%q became %v, and that %v, %v", text, a, again, err)
		}
		raw, err := parseRawACL(a.raw())
		if err != nil || cmp.Diff(a, raw, cmp.AllowUnexported(aclEntry{})) != "" {
			t.Errorf("%q became %v, and that %v, %v", text, a, raw, err)
		}
	})
}
