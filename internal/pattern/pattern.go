// Package pattern decides by its path whether a file belongs to a backup.
//
// A pattern without a prefix is one of Attic's, and means what it means there:
//
//   - "*" stands for any characters and "?" for one, "/" included; [seq] and [!seq] for one that is, or is not, in seq.
//   - It matches a path as a whole, or from its beginning up to a "/": what matches a folder matches all that is in it.
//   - What begins with "!", "- " or "+ " is refused: in the files of other programs these are signs, and here no file would match.
//   - With "/" at its end it matches what is in a folder, and not the folder itself.
//   - The path is the one that was given to the command, without needless dots and slashes, with the names below it added:
//     /home/ann/x for /home, ../photos/x for ../photos. For a command that reads an archive it is the path there.
//
// This alone goes beyond Attic: below the current folder, however that was given, ./x matches as x does, and x as ./x.
//
// The prefixes are Borg's. These patterns are held against the path as it is in an archive, home/ann/x, and a "/", "./"
// or "../" at their own beginning counts for nothing:
//
//	fm:  as without a prefix
//	sh:  "*" and "?" do not stand for "/"; "**/" stands for any folders, or none
//	re:  a regular expression of the package regexp, for any part of the path
//	pp:  a path, and what is below it
//	pf:  a path, and nothing else
//
// Paths and patterns are bytes. A byte that is not part of a character counts as one, of its own.
//
// No pattern takes more time than its length times that of the path.
package pattern

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// MaxLen is the greatest length of a pattern, in bytes.
const MaxLen = 64 << 10

var (
	// ErrEmpty is the error about an empty pattern: most likely a variable that is not set, and to Attic everything.
	ErrEmpty = errors.New("is empty")
	// ErrZeroByte is the error about a pattern with a zero byte, which no path has.
	ErrZeroByte = errors.New("has a zero byte in it, and no path has one: is the file UTF-16?")
	// ErrSign is the error about a pattern that begins as a line of other programs does that includes or excludes: here it would
	// match nothing, and whoever wrote it would not know.
	ErrSign = errors.New(`begins with a sign of other programs, which means nothing here: give what is left out, without a sign, and put "fm:" before a name that begins so`)
	// ErrTooLong is the error about a pattern of more than MaxLen bytes.
	ErrTooLong = errors.New("is longer than 64 KiB")
)

// A style is how a pattern is to be read.
type style int

const (
	attic  style = iota // as it was given
	glob                // fm:
	shell               // sh:
	regex               // re:
	prefix              // pp:
	full                // pf:
)

var styles = map[string]style{"fm:": glob, "sh:": shell, "re:": regex, "pp:": prefix, "pf:": full}

// A Pattern matches paths. It does not change, and is safe for concurrent use.
type Pattern struct {
	text  string
	style style

	literal string // what a path must begin with, up to a slash, or be; for attic, prefix and full
	below   bool   // literal ends in a slash, and itself is not meant
	dotted  bool   // "./" was taken off the beginning, so that it is for paths below the current folder
	glob    *globber
	shell   *sheller
	regexp  *regexp.Regexp
}

// Parse reads a pattern. The error says what is wrong with it, and does not repeat it.
func Parse(text string) (*Pattern, error) {
	p := &Pattern{text: text}
	rest := text
	if len(text) >= 3 {
		if s, ok := styles[text[:3]]; ok {
			p.style, rest = s, text[3:]
		}
	}
	switch {
	case rest == "":
		return nil, ErrEmpty
	case len(rest) > MaxLen:
		return nil, ErrTooLong
	case strings.Contains(rest, "\x00"):
		return nil, ErrZeroByte
	}
	var err error
	switch p.style {
	case attic:
		if hasSign(rest) {
			return nil, ErrSign
		}
		p.dotted, rest = withoutDot(rest)
		if rest == "" || strings.ContainsAny(rest, "*?[") {
			p.glob, err = newGlob(whole(rest))
		} else {
			p.literal, p.below = rest, strings.HasSuffix(rest, "/")
		}
	case glob:
		p.glob, err = newGlob(whole(relative(rest)))
	case shell:
		p.shell, err = newShell(relative(rest))
	case regex:
		if p.regexp, err = regexp.Compile(toUnicode(rest)); err != nil {
			err = fmt.Errorf("is no regular expression: %w", err)
		}
	case prefix, full:
		p.literal = stored(path.Clean(rest))
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// hasSign reports whether a text is "!" and a pattern, or "-" or "+", a space and a pattern.
func hasSign(text string) bool {
	return text[0] == '!' || strings.HasPrefix(text, "- ") || strings.HasPrefix(text, "+ ")
}

// String returns the text that the pattern was read from.
func (p *Pattern) String() string { return p.text }

// Match reports whether a path matches, as it was given to the command or as it is in an archive: the two are the same
// to all patterns with a prefix.
func (p *Pattern) Match(path string) bool { return p.match(newSubject(path)) }

// A subject is a path in the forms in which it is held against patterns. All end in a slash.
type subject struct {
	given  string
	bare   string // given, without the "./" that it has if the current folder was given as "."; else empty
	stored string
	text   string // see unicode
}

func newSubject(path string) *subject {
	s := &subject{given: path + "/"}
	s.bare, _ = strings.CutPrefix(s.given, "./")
	if len(s.bare) == len(s.given) {
		s.bare = ""
	}
	if s.stored = stored(s.given); s.stored == "." {
		s.stored = "./"
	}
	return s
}

// unicode returns stored for a regular expression, which knows no other bytes.
func (s *subject) unicode() string {
	if s.text == "" {
		s.text = toUnicode(s.stored)
	}
	return s.text
}

func (p *Pattern) match(s *subject) bool {
	switch p.style {
	case glob:
		return p.glob.match(s.stored)
	case shell:
		return p.shell.match(s.unicode())
	case regex:
		return p.regexp.MatchString(strings.TrimSuffix(s.unicode(), "/"))
	case prefix:
		return p.literal == "." || below(s.stored, p.literal)
	case full:
		return len(s.stored) == len(p.literal)+1 && below(s.stored, p.literal)
	}
	if s.bare != "" && p.matchAttic(s.bare) {
		return true
	}
	if p.dotted && (s.given[0] == '/' || strings.HasPrefix(s.given, "./") || strings.HasPrefix(s.given, "../")) {
		return false
	}
	return p.matchAttic(s.given)
}

func (p *Pattern) matchAttic(path string) bool {
	switch {
	case p.glob != nil:
		return p.glob.match(path)
	case p.below:
		return strings.HasPrefix(path, p.literal) && len(path) > len(p.literal)
	}
	return below(path, p.literal)
}

// below reports whether a path that ends in a slash is that of a folder, or of something in it.
func below(path, folder string) bool {
	return len(path) > len(folder) && path[len(folder)] == '/' && path[:len(folder)] == folder
}

// whole completes a pattern so that it matches what is in a folder too, if held against a path with a slash at its end.
func whole(pattern string) string {
	if pattern == "" || strings.HasSuffix(pattern, "/") {
		return pattern + "*/"
	}
	return pattern + "/*"
}

// stored returns a path as it is in an archive. The current folder is ".".
func stored(path string) string {
	if path = relative(path); path == ".." || path == "" {
		return "."
	}
	return path
}

// withoutDot takes "./" off the beginning of a pattern, and reports whether it has done so: the pattern is then for paths
// below the current folder.
func withoutDot(pattern string) (bool, string) {
	rest := pattern
	for strings.HasPrefix(rest, "./") {
		rest = strings.TrimLeft(rest[2:], "/")
	}
	if rest == "." || rest == ".." || strings.HasPrefix(rest, "../") {
		return false, rest // it is not below
	}
	return rest != pattern, rest
}

// relative returns a path without "/", "./" and "../" at its beginning.
func relative(path string) string {
	for {
		rest := strings.TrimLeft(path, "/")
		rest = strings.TrimPrefix(rest, "./")
		rest = strings.TrimPrefix(rest, "../")
		if rest == path {
			return path
		}
		path = rest
	}
}
