package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"

	"garret/repository"
)

// MaxDataSize is the length in bytes of the longest data that an envelope may hold. Chunks, of files and of items, have
// no more than 10 MiB. The records of archives and the manifest may be as long as the store lets their envelopes be,
// repository.MaxObjectSize; half of what is in them are random ids, so that they compress to no less than a third.
const MaxDataSize = 64 << 20

// compressionLevel is what the reference has too. It is not part of the format.
const compressionLevel = 6

// maxCompression is the greatest first byte of what another compression than zlib may come to begin with, in an envelope that
// is not authenticated: anything else there is damage. It is wire format.
const maxCompression = 0x1f

// isZlib reports whether data begins as a stream of zlib does.
func isZlib(comp []byte) bool {
	return comp[0]&0x0f == 8 && comp[0]>>4 <= 7 && (int(comp[0])<<8|int(comp[1]))%31 == 0
}

func newerCompression(comp []byte) error {
	return fmt.Errorf("%w: the data is compressed in a way that is not known, %#02x", repository.ErrNewer, comp[0])
}

// A deflater is a compressor that appends to a slice.
type deflater struct {
	out []byte
	z   *zlib.Writer
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	z, err := zlib.NewWriterLevel(d, compressionLevel)
	if err != nil {
		panic(err) // the level is out of range
	}
	d.z = z
	return d
}}

// deflate appends the compressed data to dst.
func deflate(dst, data []byte) []byte {
	d := deflaters.Get().(*deflater)
	d.out = dst
	d.z.Reset(d)
	// Neither call can fail, as Write does not.
	_, _ = d.z.Write(data)
	_ = d.z.Close()
	out := d.out
	d.out = nil
	deflaters.Put(d)
	return out
}

// An inflater is a decompressor with its source.
type inflater struct {
	src bytes.Reader
	z   io.ReadCloser // nil until the first stream with a sound header
	buf []byte        // for the data while its length is unknown
}

// The first length of an inflater's buffer, and the greatest with which it is kept, in bytes. A chunk of the usual size
// fits.
const (
	minBuf     = 64 << 10
	maxKeptBuf = 1 << 20
)

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// inflate returns the data of which comp is the compressed form. It allocates in proportion to what the data turns out to
// be, which is an error once it is longer than MaxDataSize.
func inflate(comp []byte) ([]byte, error) {
	d := inflaters.Get().(*inflater)
	defer inflaters.Put(d)
	d.src.Reset(comp)
	defer d.src.Reset(nil)
	if err := d.begin(); err != nil {
		return nil, inflateError(err)
	}
	buf := d.buf
	for n := 0; ; {
		if n == len(buf) {
			grown := make([]byte, min(max(2*n, minBuf), MaxDataSize+1))
			copy(grown, buf[:n])
			buf = grown
		}
		m, err := d.z.Read(buf[n:])
		n += m
		if n > MaxDataSize {
			return nil, inflateError(fmt.Errorf("the data is longer than %d bytes", MaxDataSize))
		}
		if err == io.EOF {
			buf = buf[:n]
			break
		}
		if err != nil {
			return nil, inflateError(err)
		}
	}
	if d.src.Len() > 0 {
		return nil, inflateError(errors.New("something follows the compressed data"))
	}
	if cap(buf) > maxKeptBuf {
		return buf, nil
	}
	d.buf = buf[:cap(buf)]
	return bytes.Clone(buf), nil
}

func (d *inflater) begin() (err error) {
	if d.z == nil {
		d.z, err = zlib.NewReader(&d.src)
		return err
	}
	return d.z.(zlib.Resetter).Reset(&d.src, nil)
}

func inflateError(err error) error {
	return fmt.Errorf("decompress: %w: %w", err, repository.ErrIntegrity)
}
