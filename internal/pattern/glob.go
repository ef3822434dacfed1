package pattern

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A globber is a pattern with "*", "?" and [seq], of which "*" stands for any characters. It is cut at these: between
// two of them the next part is searched for, and the first place is as good as any later one, as "*" takes what is left.
type globber struct {
	head  []token   // what the text must begin with; empty: anything
	parts [][]token // what must follow in this order, anywhere; each has something in it
	tail  []token   // what the text must end with
	need  string    // is in all that matches; empty where the parts begin with a text themselves, and are found as fast
	exact bool      // there is no "*": head is all
}

// A token stands for one character, or for some that are known.
type token struct {
	text  string // valid UTF-8; empty: see class
	class *class // one of these; nil: any
}

func newGlob(pattern string) (*globber, error) {
	var parts [][]token
	var part []token
	for pattern != "" {
		n := strings.IndexAny(pattern, "*?[")
		switch {
		case n < 0:
			n = len(pattern)
			fallthrough
		case n > 0:
			part = appendText(part, pattern[:n])
			pattern = pattern[n:]
		case pattern[0] == '*':
			parts, part = append(parts, part), nil
			pattern = pattern[1:]
		case pattern[0] == '?':
			part = append(part, token{})
			pattern = pattern[1:]
		default:
			c, rest, err := parseClass(pattern)
			if err != nil {
				return nil, err
			}
			if c == nil { // a bracket that is not closed stands for itself
				part = appendText(part, "[")
			} else {
				part = append(part, token{class: c})
			}
			pattern = rest
		}
	}
	if len(parts) == 0 {
		return &globber{head: part, exact: true}, nil
	}
	g := &globber{head: parts[0], tail: part}
	for _, p := range parts[1:] {
		if len(p) == 0 {
			continue
		}
		g.parts = append(g.parts, p)
		if p[0].text != "" {
			continue
		}
		for _, t := range p {
			if len(t.text) > len(g.need) {
				g.need = t.text
			}
		}
	}
	return g, nil
}

// appendText adds a text that stands for itself. Only whole characters are compared as bytes: a byte that is none must not
// match a part of one.
func appendText(part []token, text string) []token {
	for text != "" {
		n := 0
		for n < len(text) {
			r, size := nextCharacter(text[n:])
			if r >= strayBytes {
				break
			}
			n += size
		}
		switch last := len(part) - 1; {
		case n == 0:
			r, size := nextCharacter(text)
			part, n = append(part, token{class: &class{ranges: [][2]rune{{r, r}}}}), size
		case last >= 0 && part[last].text != "":
			part[last].text += text[:n]
		default:
			part = append(part, token{text: text[:n]})
		}
		text = text[n:]
	}
	return part
}

// match reports whether the pattern matches all of s.
func (g *globber) match(s string) bool {
	n := matchPart(g.head, s)
	if n < 0 {
		return false
	}
	if s = s[n:]; g.exact {
		return s == ""
	}
	if g.need != "" && !strings.Contains(s, g.need) {
		return false
	}
	for _, part := range g.parts {
		if n = findPart(part, s); n < 0 {
			return false
		}
		s = s[n:]
	}
	return matchesEnd(g.tail, s)
}

// matchPart returns the length of what part matches at the beginning of s, or -1.
func matchPart(part []token, s string) int {
	n := 0
	for i := range part {
		t := &part[i]
		if t.text != "" {
			if !strings.HasPrefix(s[n:], t.text) {
				return -1
			}
			n += len(t.text)
			continue
		}
		if n == len(s) {
			return -1
		}
		r, size := nextCharacter(s[n:])
		if t.class != nil && !t.class.contains(r) {
			return -1
		}
		n += size
	}
	return n
}

// findPart returns where the first match of part in s ends, or -1.
func findPart(part []token, s string) int {
	for at := 0; ; {
		if first := part[0].text; first != "" {
			n := strings.Index(s[at:], first)
			if n < 0 {
				return -1
			}
			at += n
		}
		if n := matchPart(part, s[at:]); n >= 0 {
			return at + n
		}
		if at == len(s) {
			return -1
		}
		_, size := nextCharacter(s[at:])
		at += size
	}
}

// matchesEnd reports whether part matches the end of s.
func matchesEnd(part []token, s string) bool {
	at := len(s)
	for i := len(part) - 1; i >= 0; i-- {
		n := len(part[i].text)
		if n == 0 {
			_, n = utf8.DecodeLastRuneInString(s[:at])
		}
		if n == 0 || n > at {
			return false
		}
		at -= n
	}
	return matchPart(part, s[at:]) >= 0
}

// A class is a set of characters.
type class struct {
	not    bool // all but these
	ranges [][2]rune
}

func (c *class) contains(r rune) bool {
	for _, x := range c.ranges {
		if x[0] <= r && r <= x[1] {
			return !c.not
		}
	}
	return c.not
}

// parseClass reads what is in brackets at the beginning of a pattern, and returns the rest of it. If the bracket is not
// closed the class is nil, and the rest is what follows the bracket.
func parseClass(pattern string) (*class, string, error) {
	set, c := pattern[1:], new(class)
	if strings.HasPrefix(set, "!") {
		c.not, set = true, set[1:]
	}
	end := -1
	if set != "" { // a bracket that comes first does not close it
		end = strings.IndexByte(set[1:], ']') + 1
	}
	if end <= 0 {
		return nil, pattern[1:], nil
	}
	rest := set[end+1:]
	for set = set[:end]; set != ""; {
		text := set
		from, n := nextCharacter(set)
		set = set[n:]
		to := from
		if len(set) >= 2 && set[0] == '-' {
			to, n = nextCharacter(set[1:])
			set = set[1+n:]
			text = text[:len(text)-len(set)]
		}
		if to < from {
			return nil, "", fmt.Errorf("has the range %s, which is empty", quote(text))
		}
		c.ranges = append(c.ranges, [2]rune{from, to})
	}
	return c, rest, nil
}

// strayBytes is where the bytes that are part of no character are put, which are 0x80 to 0xff: at the end of a private
// plane of Unicode. Go's regular expressions know nothing else.
const strayBytes = 0x10ff00 + 0x80

// nextCharacter returns the first character of s, and its length in bytes.
func nextCharacter(s string) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return strayBytes - 0x80 + rune(s[0]), 1
	}
	return r, n
}

// toUnicode returns s with its stray bytes as characters.
func toUnicode(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for s != "" {
		r, n := nextCharacter(s)
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// A Glob is a pattern for names that are no paths, with "*" for any characters, "?" for one and [seq] for one of some.
type Glob struct{ g *globber }

// ParseGlob reads a pattern.
func ParseGlob(text string) (*Glob, error) {
	g, err := newGlob(text)
	if err != nil {
		return nil, fmt.Errorf("pattern %q %w", text, err)
	}
	return &Glob{g}, nil
}

// Match reports whether the pattern matches all of a name.
func (p *Glob) Match(name string) bool { return p.g.match(name) }
