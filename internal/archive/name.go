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

// CheckName returns an error, which matches ErrName, about a name that no new archive is to have: people and scripts see
// names on lines of their own, and cannot tell what looks like nothing. Archives that have such names already are as good as
// others.
func CheckName(name string) error {
	return checkLine("name", name, ErrName, maxName)
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
