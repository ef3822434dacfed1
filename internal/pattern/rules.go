package pattern

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of Rules: a file of them must not take all memory, whatever is in it.
const (
	maxRules   = 100_000
	maxRegexps = 10_000   // of the styles sh: and re:, which take more
	maxText    = 16 << 20 // of all patterns together, in bytes
)

// ErrTooMany is the error about more patterns than Rules can hold.
var ErrTooMany = errors.New("too many patterns: there can be 100,000, of which 10,000 sh: or re:, and 16 MiB of text")

// A Rule is a pattern and where it comes from.
type Rule struct {
	Pattern *Pattern
	Origin  string // the name of an option, or FILE:LINE
	Include bool   // what matches is included; else it is excluded
}

// String returns the origin and the pattern.
func (r *Rule) String() string { return r.Origin + ": " + r.Pattern.String() }

// Rules decide about paths. Rules are asked in the order in which they were added; the first that matches decides. Where
// none does, a path is excluded if there is a rule that includes others. The zero value and nil include everything.
//
// Once no more rules are added it is safe for concurrent use.
type Rules struct {
	rules    []*Rule
	includes bool
	regexps  int
	text     int

	// Most patterns have nothing special in them. They are found by name, however many there are: by that of a folder, or
	// by that of a folder and a slash if only what is in it is meant.
	literals map[string]int // the index of the first such rule
	others   []int          // the indexes of the rest
}

// Len returns the number of rules.
func (r *Rules) Len() int {
	if r == nil {
		return 0
	}
	return len(r.rules)
}

// Exclude adds a rule. The error says which pattern is wrong, and why.
func (r *Rules) Exclude(text, origin string) error {
	p, err := Parse(text)
	if err != nil {
		return fmt.Errorf("%s: the pattern %s %w", origin, quote(text), err)
	}
	return r.add(&Rule{Pattern: p, Origin: origin})
}

// Include adds a rule for a path, with nothing special in it, and all that is below.
func (r *Rules) Include(path, origin string) error {
	p, err := Parse("pp:" + path)
	if err != nil {
		return fmt.Errorf("%s: the path %s %w", origin, quote(path), err)
	}
	p.text = path
	return r.add(&Rule{Pattern: p, Origin: origin, Include: true})
}

// ExcludeFrom adds a rule for each line. Lines that are empty, or begin with "#", say nothing, nor does a byte order mark
// at the beginning of the file; spaces count. name stands for the file in messages.
func (r *Rules) ExcludeFrom(file io.Reader, name string) error {
	lines := bufio.NewReaderSize(file, MaxLen+3) // with the two bytes that may end a line
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		origin := fmt.Sprintf("%s:%d", name, n)
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		text := strings.TrimRight(string(line), "\r\n")
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		comment := strings.HasPrefix(text, "#")
		for comment && errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%s: the line %w", origin, ErrTooLong)
		case err != nil && err != io.EOF:
			return fmt.Errorf("%s: %w", origin, err)
		case comment || text == "":
			continue
		}
		if err := r.Exclude(text, origin); err != nil {
			return err
		}
	}
}

func (r *Rules) add(rule *Rule) error {
	p, i := rule.Pattern, len(r.rules)
	if p.style == shell || p.style == regex {
		r.regexps++
	}
	r.text += len(p.text)
	if i == maxRules || r.regexps > maxRegexps || r.text > maxText {
		return fmt.Errorf("%s: %w", rule.Origin, ErrTooMany)
	}
	r.rules = append(r.rules, rule)
	r.includes = r.includes || rule.Include
	if p.style != attic || p.glob != nil {
		r.others = append(r.others, i)
		return nil
	}
	if r.literals == nil {
		r.literals = map[string]int{}
	}
	if _, ok := r.literals[p.literal]; !ok {
		r.literals[p.literal] = i
	}
	return nil
}

// Decide reports whether a path is excluded, and by which rule; the rule is nil if none matches. The path is as Match
// wants it.
//
// What is below an excluded folder is not to be asked for: there may be no rule that excludes it too.
func (r *Rules) Decide(path string) (excluded bool, rule *Rule) {
	if r.Len() == 0 {
		return false, nil
	}
	s := newSubject(path)
	first := len(r.rules)
	if len(r.literals) > 0 {
		first = r.firstLiteral(s.bare, r.firstLiteral(s.given, first))
	}
	for _, i := range r.others {
		if i >= first {
			break
		}
		if r.rules[i].Pattern.match(s) {
			first = i
			break
		}
	}
	if first == len(r.rules) {
		return r.includes, nil
	}
	rule = r.rules[first]
	return !rule.Include, rule
}

// firstLiteral returns the smallest index of a literal that matches a path with a slash at its end, or first if that is
// smaller.
func (r *Rules) firstLiteral(path string, first int) int {
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if n, ok := r.literals[path[:i]]; ok {
			first = min(first, n)
		}
		if i+1 == len(path) {
			break
		}
		if n, ok := r.literals[path[:i+1]]; ok {
			first = min(first, n)
		}
	}
	return first
}

// quote shows a pattern in a message, or its beginning.
func quote(text string) string {
	if len(text) > 200 {
		return fmt.Sprintf("%.200q...", text)
	}
	return fmt.Sprintf("%q", text)
}
