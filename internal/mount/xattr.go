package mount

import (
	"maps"
	"slices"
	"strings"
)

// xattrNames returns the names of extended attributes as the system wants them: each ends in a zero byte. Names that the
// system cannot have are left out.
func xattrNames(attrs map[string][]byte) []byte {
	var names []byte
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if name != "" && strings.IndexByte(name, 0) < 0 {
			names = append(append(names, name...), 0)
		}
	}
	return names
}
