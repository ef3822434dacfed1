package archive

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName is matched by the error about a name that no new archive can have.
var ErrName = errors.New("cannot be the name of an archive")

// maxName is the length in bytes of the longest name of a new archive: a folder's where archives are mounted.
const maxName = 240

// ErrTag is matched by the error about a tag that no archive is to get.
var ErrTag = errors.New("cannot be a tag")

// TagProtected is the tag of an archive that is neither pruned nor deleted. Borg has the same.
const TagProtected = "@PROT"

// CheckName returns an error, which matches ErrName, about a name that no new archive is to have: people and scripts see
// names on lines of their own, and cannot tell what looks like nothing. Archives that have such names already are as good as
// others.
func CheckName(name string) error { return checkLine("name", name, ErrName, maxName) }

// CheckTag returns an error, which matches ErrTag, about a text that cannot be a tag. Tags are words; those that begin with
// @ mean something, and there is no other than TagProtected.
func CheckTag(tag string) error {
	switch {
	case strings.ContainsFunc(tag, func(r rune) bool { return r == ',' || unicode.IsSpace(r) && !unicode.IsControl(r) }):
		return fmt.Errorf("tag %.300q %w: it has a blank or a comma", tag, ErrTag)
	case strings.HasPrefix(tag, "@") && tag != TagProtected:
		return fmt.Errorf("tag %.300q %w: what begins with @ has a meaning, and there is %s alone", tag, ErrTag, TagProtected)
	}
	return checkLine("tag", tag, ErrTag, maxName)
}

// checkLine refuses a text that would not be one plain line.
func checkLine(what, s string, refused error, most int) error {
	fault := ""
	switch {
	case s == "":
		fault = "it is empty"
	case !utf8.ValidString(s):
		fault = "it is not UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		fault = "it has a control character"
	case strings.TrimSpace(s) != s:
		fault = "it begins or ends with a blank"
	case s == ".", s == "..":
		fault = "as that of a folder, it stands for another one"
	case len(s) > most:
		fault = fmt.Sprintf("it has %d bytes, and more than %d are too long", len(s), most)
	default:
		return nil
	}
	return fmt.Errorf("%s %.300q %w: %s", what, s, refused, fault)
}
