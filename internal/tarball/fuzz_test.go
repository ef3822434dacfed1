package tarball_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/fsmeta"
	"garret/internal/tarball"
)

// errEnough ends an import whose files are long enough.
var errEnough = errors.New("enough")

// sink takes items, and looks at them.
type sink struct {
	t    *testing.T
	left int64 // bytes of content that are read
}

func (s *sink) Add(it *archive.Item, content io.Reader) error {
	if it.Path != backup.SafePath(it.Path) {
		s.t.Errorf("the path %q is not safe", it.Path)
	}
	if typ := it.Mode & fsmeta.TypeMask; typ == 0 || content != nil && (typ != fsmeta.TypeRegular || it.Source != "") {
		s.t.Errorf("%q with mode %o has content: %v", it.Path, it.Mode, content != nil)
	}
	if _, err := archive.DecodeItem(archive.AppendItem(nil, it)); err != nil {
		s.t.Errorf("%q cannot be read again: %v", it.Path, err)
	}
	if content == nil {
		return nil
	}
	n, err := io.Copy(io.Discard, io.LimitReader(content, s.left+1))
	if s.left -= n; s.left < 0 {
		return errEnough
	}
	return err
}

// fixSums gives all headers the right check sum, so that what is in them is looked at.
func fixSums(data []byte) {
	for ; len(data) >= 512; data = data[512:] {
		if string(data[257:262]) != "ustar" {
			continue
		}
		copy(data[148:156], "        ")
		sum := 0
		for _, c := range data[:512] {
			sum += int(c)
		}
		copy(data[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
}

func FuzzImport(f *testing.F) {
	sparse, err := os.ReadFile("testdata/sparse.tar.gz")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sparse)
	z, err := gzip.NewReader(bytes.NewReader(sparse))
	if err != nil {
		f.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unpacked)
	f.Add(write(f, &tar.Header{Name: "/a", Size: 10}, &tar.Header{Name: "b/", Typeflag: tar.TypeDir, PAXRecords: map[string]string{
		"SCHILY.acl.default": "user::rwx,user:1:rwx:1,mask::r--", "SCHILY.xattr.user.a%3D": "x",
	}}, &tar.Header{Name: "c", Typeflag: tar.TypeLink, Linkname: "/a"}, &tar.Header{Name: "../d", Typeflag: tar.TypeSymlink, Linkname: "/"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		fixSums(data)
		_, err := tarball.Import(bytes.NewReader(data), &sink{t: t, left: 1 << 20}, tarball.ImportOptions{})
		if err != nil && err.Error() == "" {
			t.Error("an error says nothing")
		}
	})
}
