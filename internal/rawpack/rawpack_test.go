package rawpack

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

func TestRawOfEveryLengthIsReadBack(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 255, 256, 65535, 65536} {
		s := strings.Repeat("x", n)
		data := AppendRaw(nil, s)
		if data[0] == 0xd9 || data[0]>>4 == 0xc {
			t.Errorf("%d bytes begin with %#x, which the old specification does not have", n, data[0])
		}
		for _, form := range [][]byte{data, msgp.AppendString(nil, s), msgp.AppendBytes(nil, []byte(s))} {
			r := NewReader(form)
			if got := r.Text(); got != s || r.Len() != 0 || r.Err() != nil {
				t.Errorf("%d bytes in the form %#x: %d bytes, %v", n, form[0], len(got), r.Err())
			}
		}
	}
}

func TestIntegersAreWrittenShort(t *testing.T) {
	for v, want := range map[int64]string{
		0: "\x00", 127: "\x7f", 128: "\xcc\x80", 255: "\xcc\xff", 256: "\xcd\x01\x00", 65536: "\xce\x00\x01\x00\x00",
		1 << 32: "\xcf\x00\x00\x00\x01\x00\x00\x00\x00", -1: "\xff", -32: "\xe0", -33: "\xd0\xdf", -129: "\xd1\xff\x7f",
		-32769: "\xd2\xff\xff\x7f\xff", math.MinInt64: "\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
	} {
		data := AppendInt(nil, v)
		if string(data) != want {
			t.Errorf("%d is %x, want %x", v, data, want)
		}
		r := NewReader(data)
		if got := r.Int(math.MinInt64, math.MaxInt64); got != v || r.Err() != nil {
			t.Errorf("%d is read back as %d, %v", v, got, r.Err())
		}
	}
}

func TestDepthCostsNothing(t *testing.T) {
	r := NewReader(append(bytes.Repeat([]byte{0x91}, 1<<20), 0xc0))
	if v := r.Value(); len(v) != 1<<20+1 || r.Err() != nil {
		t.Errorf("%d bytes, %v", len(v), r.Err())
	}
}

func FuzzScannerStopsWhereTheValueEnds(f *testing.F) {
	f.Add([]byte("\x82\xa1a\x01\xa1b\xda\x00\x02xy\xc0"), uint8(3))
	f.Add([]byte("\xdf\xff\xff\xff\xff"), uint8(1))
	f.Add([]byte("\xdb\xff\xff\xff\xffxyz"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		r := NewReader(data)
		value := r.Value()
		// The same in pieces.
		var s Scanner
		n, done, end := 0, false, 0
		var err error
		for err == nil && !done && end < len(data) {
			end = min(len(data), end+int(step)%16+1)
			var m int
			m, done, err = s.Scan(data[n:end])
			n += m
			if end-n >= 10 && !done && err == nil {
				t.Fatalf("%d bytes must come again", end-n)
			}
		}
		if whole := r.Err() == nil; whole != (done && err == nil) || whole && n != len(value) {
			t.Errorf("at once: %d bytes, %v; in pieces: %d bytes, %v, %v", len(value), r.Err(), n, done, err)
		}
		if rest, err := msgp.Skip(data); r.Err() == nil && (err != nil || len(data)-len(rest) != len(value)) {
			t.Errorf("msgp finds %d bytes, %v; Value %d", len(data)-len(rest), err, len(value))
		}
	})
}
