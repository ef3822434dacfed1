package mount

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"garret/internal/catalog"
)

// maxDirName is the length in bytes of the longest name of an archive's folder, without the number behind it.
const maxDirName = 240

// dirNames returns the names of the folders that stand for archives: their own, where these can be names of folders and
// differ. In others, what cannot be in a name is replaced by "_", and a number behind it tells it from what has the name
// already.
func dirNames(archives []catalog.Entry) []string {
	names := make([]string, len(archives))
	taken := map[string]bool{}
	for i := range archives {
		if name := archives[i].Name; dirName(name) == name {
			names[i], taken[name] = name, true
		}
	}
	next := map[string]int{}
	for i := range archives {
		if names[i] != "" {
			continue
		}
		base := dirName(archives[i].Name)
		name := base
		for taken[name] {
			next[base]++
			name = fmt.Sprintf("%s.%d", base, next[base]+1)
		}
		names[i], taken[name] = name, true
	}
	return names
}

// dirName makes a name of a folder of the name of an archive.
func dirName(name string) string {
	switch name {
	case "":
		return "_"
	case ".", "..":
		return strings.Repeat("_", len(name))
	}
	name = strings.NewReplacer("/", "_", "\x00", "_").Replace(name)
	if len(name) <= maxDirName {
		return name
	}
	for cut := maxDirName; cut > maxDirName-utf8.UTFMax; cut-- {
		if utf8.RuneStart(name[cut]) {
			return name[:cut]
		}
	}
	return name[:maxDirName]
}
