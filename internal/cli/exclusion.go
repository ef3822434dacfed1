package cli

import (
	"strings"

	"garret/internal/pattern"
)

// An exclusion leaves out what patterns exclude, and what is in an excluded folder.
type exclusion struct {
	rules *pattern.Rules
	also  func(path string) bool // must be true as well; nil: it is
	dirs  map[string]bool        // whether a folder is excluded, of those that were asked for
}

func newExclusion(rules *pattern.Rules, also func(string) bool) *exclusion {
	return &exclusion{rules, also, map[string]bool{}}
}

func (x *exclusion) match(p string) bool {
	if x.also != nil && !x.also(p) {
		return false
	}
	excluded, _ := x.rules.Decide(p)
	return !excluded && !x.below(p)
}

// maxBelow is the length in bytes of the longest path of which the folders above are looked at. It is far more than any
// system takes, and bounds the work on paths that somebody has made up.
const maxBelow = 64 << 10

// below reports whether a path is in an excluded folder.
func (x *exclusion) below(p string) bool {
	slash := strings.LastIndexByte(p, '/')
	if slash <= 0 || len(p) > maxBelow {
		return false
	}
	dir := p[:slash]
	excluded, known := x.dirs[dir]
	if !known {
		excluded, _ = x.rules.Decide(dir)
		excluded = excluded || x.below(dir)
		x.dirs[strings.Clone(dir)] = excluded
	}
	return excluded
}
