package archive

import (
	"strings"
	"unicode/utf8"
)

// ComparePaths puts paths in the order in which a walk meets them: depth first, a directory before what is in it, the names
// in a directory by CompareNames. It is not the order of the paths as texts, where "a-b" comes between "a" and "a/b". The
// path "." is the first.
func ComparePaths(a, b string) int {
	if a == "." || b == "." {
		switch {
		case a == b:
			return 0
		case a == ".":
			return -1
		default:
			return 1
		}
	}
	for {
		nameA, restA, moreA := strings.Cut(a, "/")
		nameB, restB, moreB := strings.Cut(b, "/")
		if c := CompareNames(nameA, nameB); c != 0 {
			return c
		}
		switch {
		case !moreA && !moreB:
			return 0
		case !moreA:
			return -1
		case !moreB:
			return 1
		}
		a, b = restA, restB
	}
}

// CompareNames puts names in the order of their code points, where a byte that is not part of one counts as a surrogate.
// Without such bytes it is the order of the bytes. It is wire format: the entries of a directory come in this order.
func CompareNames(a, b string) int {
	if utf8.ValidString(a) && utf8.ValidString(b) {
		return strings.Compare(a, b)
	}
	for a != "" && b != "" {
		ra, na := nextCodePoint(a)
		rb, nb := nextCodePoint(b)
		if ra != rb {
			return int(ra) - int(rb)
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

func nextCodePoint(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return 0xdc00 + rune(s[0]), 1
	}
	return r, n
}
