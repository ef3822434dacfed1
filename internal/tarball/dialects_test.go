package tarball_test

import (
	"bytes"
	"fmt"
	"testing"
)

// header returns a header as programs wrote it before there was PAX, with parts of it replaced, by their offsets.
func header(name string, size int, replaced map[int]string) []byte {
	h := make([]byte, 512)
	parts := map[int]string{
		0: name, 100: "0000644\x00", 108: "0000000\x00", 116: "0000000\x00", 124: fmt.Sprintf("%011o\x00", size),
		136: "00000000001\x00", 156: "0", 257: "ustar\x0000",
	}
	for at, part := range replaced {
		parts[at] = part
	}
	for at, part := range parts {
		copy(h[at:], part)
	}
	sum := 8 * int(' ') // in the place of the sum itself
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestHeadersOfOldProgramsAreRead(t *testing.T) {
	s := newStore(t)
	data := append([]byte("x"), make([]byte, 511)...)
	end := make([]byte, 1024)
	for i, tt := range []struct {
		name    string
		tar     [][]byte
		path    string
		seconds int64
	}{
		{"V7", [][]byte{header("old/f", 1, map[int]string{257: "\x00\x00\x00\x00\x00\x00\x00\x00"}), data}, "old/f", 1},
		{"star", [][]byte{header("f", 1, map[int]string{508: "tar\x00"}), data}, "f", 1},
		{"base-256", [][]byte{header("f", 1, map[int]string{136: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb"}), data}, "f", -5},
		{"numbers with blanks", [][]byte{header("f", 1, map[int]string{108: "    0 \x00\x00", 116: "        "}), data}, "f", 1},
		{"GNU long name", [][]byte{
			header("././@LongLink", 9, map[int]string{156: "L"}), append([]byte("long/name"), make([]byte, 503)...),
			header("long", 1, nil), data,
		}, "long/name", 1},
	} {
		archive := fmt.Sprint(i)
		warned, err := s.load(t, archive, append(bytes.Join(tt.tar, nil), end...))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		warned.must(t, nil)
		items := s.items(t, archive)
		if len(items) != 1 || items[0].Path != tt.path || items[0].MTime.Sec != tt.seconds || items[0].Chunks[0].Size != 1 {
			t.Errorf("%s: %+v", tt.name, items)
		}
	}
}

func TestSizesThatCannotBeAreRefused(t *testing.T) {
	s := newStore(t)
	for name, size := range map[string]string{
		"negative": "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "huge": "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
	} {
		if _, err := s.load(t, name, append(header("f", 0, map[int]string{124: size}), make([]byte, 1536)...)); err == nil {
			t.Errorf("%s: it is stored", name)
		}
	}
}
