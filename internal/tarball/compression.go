package tarball

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A Compression is what a tar can be packed with.
type Compression string

// The compressions that are written. Reading knows more.
const (
	NoCompression Compression = "none"
	Gzip          Compression = "gzip"
	Zstd          Compression = "zstd"
)

// ErrUnknownCompression is matched by the error about a compression that is not known, or not written.
var ErrUnknownCompression = errors.New("is a compression that is not known; there are none, gzip and zstd")

// ParseCompression reads the name of a compression.
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(strings.ToLower(s)); c {
	case NoCompression, Gzip, Zstd:
		return c, nil
	}
	return "", fmt.Errorf("%q %w", s, ErrUnknownCompression)
}

// CompressionFor returns the compression that the name of a file promises. Names that promise another one than those that
// are written are an error; all others have none.
func CompressionFor(name string) (Compression, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".gz", ".tgz":
		return Gzip, nil
	case ".zst", ".tzst":
		return Zstd, nil
	case ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lz", ".lz4", ".lzma", ".z", ".zip", ".7z", ".br":
		return "", fmt.Errorf("the ending %q of %q %w", ext, name, ErrUnknownCompression)
	}
	return NoCompression, nil
}

// Writer returns what packs what is written into w. Closing it does not close w.
func (c Compression) Writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriter(w), nil
	case Zstd:
		return zstd.NewWriter(w)
	case NoCompression, "":
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("%q %w", string(c), ErrUnknownCompression)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// maxWindow bounds the memory of unpacking zstd. It is what "zstd --long" asks for, and what zstd takes without being told.
const maxWindow = 128 << 20

// unpack recognises by its first bytes what a tar is packed with, and returns the tar. release frees what that takes.
func unpack(in io.Reader) (r io.Reader, release func(), err error) {
	b := bufio.NewReaderSize(in, 1<<17)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if len(head) == 0 {
		return nil, nil, ErrEmpty
	}
	none := func() {}
	begins := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case begins("\x1f\x8b"):
		z, err := gzip.NewReader(b)
		return z, none, err
	case begins("\x28\xb5\x2f\xfd"):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case begins("BZh"):
		return bzip2.NewReader(b), none, nil
	}
	for _, other := range []struct{ magic, tool string }{
		{"\xfd7zXZ\x00", "xz"}, {"LZIP", "lzip"}, {"\x04\x22\x4d\x18", "lz4"}, {"\x5d\x00\x00\x80\x00", "lzma"}, {"\x1f\x9d", "uncompress"},
	} {
		if begins(other.magic) {
			return nil, nil, &PackedError{Tool: other.tool}
		}
	}
	return b, none, nil
}

// A PackedError says that a tar is packed with something that this package cannot read.
type PackedError struct{ Tool string }

func (e *PackedError) Error() string {
	return fmt.Sprintf("it is packed in a way that is not read here; unpack it on the way: %s -dc FILE | garret import-tar REPO::ARCHIVE -", e.Tool)
}
