package mount

import (
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

// parseItems makes items of lines: a letter for the type, the path and, after a space, what a link leads to.
func parseItems(text string) (items []*archive.Item) {
	rdev := uint64(259)
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		path, source, _ := strings.Cut(line[1:], " ")
		switch line[0] {
		case 'd':
			items = append(items, dir(path))
		case 'l':
			items = append(items, link(path, source))
		case 's':
			items = append(items, symlink(path, source))
		case 'c':
			items = append(items, &archive.Item{Path: path, Mode: fsmeta.TypeChar, Rdev: &rdev})
		default:
			items = append(items, regular(path))
		}
	}
	return items
}

// FuzzTree shows archives of any items, with bytes at the end that are none, cut anywhere.
func FuzzTree(f *testing.F) {
	f.Add("da\nfa/b\nla/c a/b\nsa/d b\nfe/f/g\nle/f a/c\nd.", []byte{}, uint16(50))
	f.Add("la b\nlb c\nlc a\nf../x\nf/a\nfa/../b\nda\nfa\nfa/x\nda\nsa x\ncx\nfx/y", []byte{0x87}, uint16(1))
	f.Add("", []byte("\x87\xa6chunks\x90\xa3gid\x00"), uint16(9))
	f.Fuzz(func(t *testing.T, text string, tail []byte, cut uint16) {
		var stream []byte
		for _, it := range parseItems(text) {
			stream = archive.AppendItem(stream, it)
		}
		stream = append(stream, tail...)
		r := newTestRepo(t)
		at := min(int(cut), len(stream))
		r.add("x", []repository.ID{r.put(stream[:at]), r.put(stream[at:])})
		fs, _ := r.open(Options{}, "x")
		var lines []string
		describe(t, fs, fuse.FUSE_ROOT_ID, "", &lines)
		tr, err := fs.trees.value(0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range tr.entries {
			path := tr.path(uint32(i))
			if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") || strings.Contains(path, "\x00") {
				t.Errorf("path %q", path)
			}
		}
		if again, err := fs.load(t.Context(), 0); err != nil || len(again.entries) != len(tr.entries) {
			t.Errorf("another tree when it is read again: %v", err)
		}
	})
}
