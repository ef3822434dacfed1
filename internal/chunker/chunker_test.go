package chunker

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// model cuts data by the rule as it is written in doc/format.md, and returns the lengths of the chunks.
func model(data []byte, window int, mask uint32, minSize int, seed uint32) []int {
	h := func(b byte) uint32 { return baseTable[b] ^ seed }
	var sizes []int
	pos, last := 0, 0
	for {
		remaining := func() int { return min(len(data), last+BufferSize) - pos }
		if remaining() < window {
			if rest := len(data) - pos; rest > 0 {
				sizes = append(sizes, rest)
			}
			return sizes
		}
		var sum uint32
		for i := range window {
			sum ^= bits.RotateLeft32(h(data[pos+i]), (window-1-i)%32)
		}
		for n := 0; remaining() > window && (sum&mask != 0 || n < minSize); n++ {
			sum = bits.RotateLeft32(sum, 1) ^ bits.RotateLeft32(h(data[pos]), window%32) ^ h(data[pos+window])
			pos++
		}
		if remaining() <= window {
			pos += remaining()
		}
		sizes = append(sizes, pos-last)
		last = pos
	}
}

// cuts returns the lengths of the chunks of r, and fails unless they add up to data.
func cuts(t testing.TB, c *Chunker, r io.Reader, data []byte) []int {
	t.Helper()
	c.Reset(r)
	var sizes []int
	rest := data
	for {
		chunk, err := c.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(rest, chunk) || len(chunk) == 0 {
			t.Fatalf("chunk %d of %d bytes is not what the stream has there", len(sizes), len(chunk))
		}
		rest = rest[len(chunk):]
		sizes = append(sizes, len(chunk))
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes of %d were lost", len(rest), len(data))
	}
	return sizes
}

func testRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	return data
}

// shortReader returns a random number of bytes at a time, sometimes none.
type shortReader struct {
	r   io.Reader
	rnd *rand.Rand
	max int
}

func (s *shortReader) Read(p []byte) (int, error) {
	return s.r.Read(p[:min(len(p), s.rnd.IntN(s.max+1))])
}

func TestHashHasTheReferencesValues(t *testing.T) {
	for seed, want := range map[uint32]uint32{0: 3795437769, 1: 3795400502} {
		if got := NewCustom(16, 1, 1, seed).hash([]byte("abcdefghijklmnop")); got != want {
			t.Errorf("seed %d: %d, want %d", seed, got, want)
		}
	}
}

func TestRolledHashIsTheHashOfTheWindow(t *testing.T) {
	data := randomBytes(testRand(t), 300)
	for _, window := range []int{1, 2, 31, 32, 33, 64, 100} {
		c := NewCustom(window, 1, 1, 7)
		sum := c.roll(c.hash(data[:window]), data[:200], data[window:])
		if want := c.hash(data[200 : 200+window]); sum != want {
			t.Errorf("window %d: %d, want %d", window, sum, want)
		}
	}
}

func TestCutsAreTheReferences(t *testing.T) {
	text := strings.Repeat("foobarboobaz", 3)
	for seed, want := range map[uint32]string{
		0: "fooba|rboobaz|fooba|rboobaz|fooba|rboobaz",
		1: "fo|obarb|oob|azf|oobarb|oob|azf|oobarb|oobaz",
	} {
		c := NewCustom(2, 3, 2, seed)
		c.Reset(strings.NewReader(text))
		var got []string
		for {
			chunk, err := c.Next()
			if err != nil {
				break
			}
			got = append(got, string(chunk))
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("seed %d: %s, want %s", seed, s, want)
		}
	}
}

func TestCutsFollowTheModel(t *testing.T) {
	rnd := testRand(t)
	buf := make([]byte, BufferSize)
	for range 400 {
		window, minSize := 1+rnd.IntN(70), 1+rnd.IntN(100)
		mask, seed := uint32(1)<<rnd.IntN(9)-1, rnd.Uint32()
		data := randomBytes(rnd, rnd.IntN(5000))
		if rnd.IntN(4) == 0 {
			clear(data[len(data)/3:]) // a hash that stays the same for long
		}
		want := model(data, window, mask, minSize, seed)
		c := NewCustom(window, mask, minSize, seed)
		c.buf = buf
		for _, r := range []io.Reader{
			bytes.NewReader(data),
			iotest.OneByteReader(bytes.NewReader(data)),
			iotest.DataErrReader(bytes.NewReader(data)),
			&shortReader{bytes.NewReader(data), rnd, 300},
		} {
			if got := cuts(t, c, r, data); !slices.Equal(got, want) {
				t.Fatalf("window %d mask %x min %d seed %d, %d bytes: %v, want %v",
					window, mask, minSize, seed, len(data), got, want)
			}
		}
	}
}

func TestLengthsAroundTheLimitsFollowTheModel(t *testing.T) {
	data := randomBytes(testRand(t), 2*WindowSize+2*MinSize)
	c := New(42)
	for _, base := range []int{0, MinSize, WindowSize, WindowSize + MinSize, 2 * WindowSize, 2*WindowSize + MinSize} {
		for n := max(0, base-2); n <= base+2; n++ {
			want := model(data[:n], WindowSize, 1<<MaskBits-1, MinSize, 42)
			if got := cuts(t, c, bytes.NewReader(data[:n]), data[:n]); !slices.Equal(got, want) {
				t.Errorf("%d bytes: %v, want %v", n, got, want)
			}
		}
	}
}

func TestLargeStreamsFollowTheModel(t *testing.T) {
	rnd := testRand(t)
	mixed := slices.Concat(randomBytes(rnd, 3<<20), make([]byte, 11<<20), randomBytes(rnd, 1<<20), make([]byte, 9<<20))
	for name, data := range map[string][]byte{
		"zeros":             make([]byte, 23<<20),
		"a buffer of zeros": make([]byte, BufferSize),
		"and one more":      make([]byte, BufferSize+1),
		"and a window":      make([]byte, BufferSize+WindowSize),
		"mixed":             mixed,
	} {
		want := model(data, WindowSize, 1<<MaskBits-1, MinSize, 99)
		c := New(99)
		for _, r := range []io.Reader{bytes.NewReader(data), &shortReader{bytes.NewReader(data), rnd, 100_000}} {
			if got := cuts(t, c, r, data); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		if name == "zeros" && want[0] != BufferSize {
			t.Errorf("the model cuts zeros at %d", want[0])
		}
	}
}

func TestReaderErrorIsReturned(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 100, WindowSize, 3 * WindowSize, 200_000} {
		data := randomBytes(testRand(t), n)
		c := New(0)
		c.Reset(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)))
		for {
			chunk, err := c.Next()
			if err == nil && len(chunk) > 0 {
				continue
			}
			if !errors.Is(err, broken) {
				t.Errorf("after %d bytes: %v", n, err)
			}
			break
		}
		if _, err := c.Next(); !errors.Is(err, broken) {
			t.Errorf("asked again: %v", err)
		}
	}
	c := New(0)
	c.Reset(&shortReader{bytes.NewReader(nil), rand.New(rand.NewPCG(1, 1)), 1})
	if _, err := c.Next(); err != io.EOF {
		t.Errorf("empty: %v", err)
	}
	c.Reset(stuckReader{})
	if _, err := c.Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("stuck: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestNextDoesNotAllocate(t *testing.T) {
	data := randomBytes(testRand(t), 1<<20)
	c, r := New(1), bytes.NewReader(nil)
	allocs := testing.AllocsPerRun(5, func() {
		r.Reset(data)
		c.Reset(r)
		for {
			if _, err := c.Next(); err != nil {
				break
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations in a stream", allocs)
	}
}

func FuzzCutsFollowTheModel(f *testing.F) {
	f.Add([]byte("foobarboobazfoobarboobaz"), uint8(2), uint8(2), uint8(2), uint32(1))
	f.Add(make([]byte, 100), uint8(16), uint8(4), uint8(0), uint32(0))
	buf := make([]byte, BufferSize)
	f.Fuzz(func(t *testing.T, data []byte, window, maskBits, minSize uint8, seed uint32) {
		w, mask, least := max(1, int(window)), uint32(1)<<(maskBits%32)-1, max(1, int(minSize))
		want := model(data, w, mask, least, seed)
		c := NewCustom(w, mask, least, seed)
		c.buf = buf
		got := cuts(t, c, iotest.HalfReader(bytes.NewReader(data)), data)
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func BenchmarkChunker(b *testing.B) {
	data := randomBytes(rand.New(rand.NewPCG(1, 2)), 64<<20)
	c, r := New(1), bytes.NewReader(nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(data)
		c.Reset(r)
		for {
			if _, err := c.Next(); err != nil {
				break
			}
		}
	}
}
