package pattern

import (
	"fmt"
	"regexp"
	"strings"
)

// A sheller is a pattern in which "*" does not stand for "/", as a regular expression.
type sheller struct {
	regexp *regexp.Regexp
	need   string // is in all that matches. It is looked for first, as that takes a fraction of the time.
}

// newShell reads a pattern. It is to be held against a path with a slash at its end.
func newShell(pattern string) (*sheller, error) {
	s := new(sheller)
	if pattern == "" || strings.HasSuffix(pattern, "/") {
		pattern += "**/*/"
	} else {
		pattern += "/**/*"
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for pattern != "" {
		n := strings.IndexAny(pattern, "*?[")
		switch {
		case n < 0:
			n = len(pattern)
			fallthrough
		case n > 0:
			text := toUnicode(pattern[:n])
			if b.WriteString(regexp.QuoteMeta(text)); len(text) > len(s.need) {
				s.need = text
			}
			pattern = pattern[n:]
		case strings.HasPrefix(pattern, "**/"):
			b.WriteString(`(?:[^/]*/)*`)
			pattern = pattern[3:]
		case pattern[0] == '*':
			b.WriteString(`[^/]*`)
			pattern = pattern[1:]
		case pattern[0] == '?':
			b.WriteString(`[^/]`)
			pattern = pattern[1:]
		default:
			c, rest, err := parseClass(pattern)
			if err != nil {
				return nil, err
			}
			if c == nil {
				b.WriteString(`\[`)
			} else {
				c.writeRegexp(&b)
			}
			pattern = rest
		}
	}
	b.WriteString(`\z`)
	var err error
	s.regexp, err = regexp.Compile(b.String())
	return s, err
}

func (s *sheller) match(path string) bool {
	return strings.Contains(path, s.need) && s.regexp.MatchString(path)
}

// writeRegexp writes the class as a part of a regular expression. What is not in a set stands for no slash either.
func (c *class) writeRegexp(b *strings.Builder) {
	b.WriteString("[")
	if c.not {
		b.WriteString("^/")
	}
	for _, r := range c.ranges {
		fmt.Fprintf(b, `\x{%x}-\x{%x}`, r[0], r[1])
	}
	b.WriteString("]")
}
