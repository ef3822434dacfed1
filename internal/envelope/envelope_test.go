package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zlib"

	"garret/repository"
)

// counter is a Nonces for tests that seal in one process only.
type counter struct{ next atomic.Uint64 }

func (c *counter) Reserve(blocks uint64) (uint64, error) { return c.next.Add(blocks) - blocks, nil }

// testKeys returns a key of each type.
func testKeys(t testing.TB) []*Key {
	t.Helper()
	file, err := NewKeyfile(repository.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	pass, err := NewPassphrase(repository.ID{2}, "p")
	if err != nil {
		t.Fatal(err)
	}
	keys := []*Key{NewPlaintext(), pass, file}
	for _, k := range keys {
		k.UseNonces(new(counter))
	}
	return keys
}

func TestPassphraseKeyHasTheReferencesValues(t *testing.T) {
	k, err := NewPassphrase(repository.ID{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := repository.ParseID("793b0717f9d8fb01c751a487e9b827897ceea62409870600013fbc6b4d8d7ca6")
	if got := repository.ID(k.idKey()); got != want {
		t.Errorf("id_key %v, want %v", got, want)
	}
	if got := int32(k.ChunkSeed()); got != -775740477 {
		t.Errorf("chunk_seed %d", got)
	}
}

func TestPlaintextHasNoSeedAndPlainIDs(t *testing.T) {
	k := NewPlaintext()
	if k.ChunkSeed() != 0 || k.ID([]byte("x")) != repository.ID(sha256.Sum256([]byte("x"))) {
		t.Error(k.ChunkSeed(), k.ID([]byte("x")))
	}
}

func TestWhatIsSealedOpens(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	random := make([]byte, 3<<20)
	for i := range random {
		random[i] = byte(rnd.Uint32())
	}
	contents := map[string][]byte{
		"nothing": nil, "a byte": {1}, "text": []byte(strings.Repeat("text ", 1000)), "random": random,
	}
	for _, k := range testKeys(t) {
		if k.Type() == PlaintextType { // once is enough
			contents["as much as may be"] = make([]byte, MaxDataSize)
		}
		for name, data := range contents {
			id := k.ID(data)
			prefix := []byte("before")
			out, err := k.Seal(prefix, data)
			if err != nil || !bytes.HasPrefix(out, prefix) {
				t.Fatalf("%v, %s: %v", k, name, err)
			}
			env := out[len(prefix):]
			if typ, err := Detect(env); typ != k.Type() || err != nil {
				t.Errorf("%v, %s: detected as %v, %v", k, name, typ, err)
			}
			before := bytes.Clone(env)
			if got, err := k.Open(&id, env); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%v, %s: %d bytes, %v", k, name, len(got), err)
			}
			if !bytes.Equal(before, env) {
				t.Errorf("%v, %s: Open changed the envelope", k, name)
			}
			other := k.ID([]byte("other"))
			if _, err := k.Open(&other, env); !errors.Is(err, repository.ErrIntegrity) {
				t.Errorf("%v, %s: under another id: %v", k, name, err)
			}
		}
		delete(contents, "as much as may be")
		if _, err := k.Seal(nil, make([]byte, MaxDataSize+1)); !errors.Is(err, repository.ErrTooLarge) {
			t.Errorf("%v: too much: %v", k, err)
		}
	}
}

func TestKeyIsSafeForConcurrentUse(t *testing.T) {
	for _, k := range testKeys(t) {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 50 {
					data := bytes.Repeat([]byte{byte(g), byte(i)}, 100*i)
					id := k.ID(data)
					env, err := k.Seal(nil, data)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := k.Open(&id, env); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
			})
		}
		wg.Wait()
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	data := []byte("some content that matters")
	for _, k := range testKeys(t) {
		id := k.ID(data)
		env, err := k.Seal(nil, data)
		if err != nil {
			t.Fatal(err)
		}
		if k.Type() == PlaintextType {
			continue // not authenticated: the id alone protects what it protects
		}
		for i := range env {
			bad := bytes.Clone(env)
			bad[i] ^= 1
			if _, err := k.Open(nil, bad); !errors.Is(err, repository.ErrIntegrity) {
				t.Errorf("%v: byte %d changed: %v", k, i, err)
			}
		}
		for n := range env {
			if _, err := k.Open(&id, env[:n]); !errors.Is(err, repository.ErrIntegrity) {
				t.Errorf("%v: cut to %d bytes: %v", k, n, err)
			}
		}
	}
}

func TestPlaintextDoesNotPassForEncrypted(t *testing.T) {
	keys := testKeys(t)
	env, err := keys[0].Seal(nil, []byte("forged"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys[1:] {
		if _, err := k.Open(nil, env); !errors.Is(err, repository.ErrIntegrity) {
			t.Errorf("%v: %v", k, err)
		}
	}
}

func TestBombIsRefused(t *testing.T) {
	var comp bytes.Buffer
	w := zlib.NewWriter(&comp)
	zeros := make([]byte, 1<<20)
	for range MaxDataSize>>20 + 1 {
		w.Write(zeros)
	}
	w.Close()
	k := NewPlaintext()
	if _, err := k.Open(nil, append([]byte{0x02}, comp.Bytes()...)); !errors.Is(err, repository.ErrIntegrity) {
		t.Error(err)
	}
	// The pools are fit for use after it.
	env, _ := k.Seal(nil, []byte("x"))
	if got, err := k.Open(nil, env); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := k.Open(nil, append(env, 0)); !errors.Is(err, repository.ErrIntegrity) {
		t.Errorf("with something after it: %v", err)
	}
}

func TestSealWithoutCounterValuesFails(t *testing.T) {
	k, err := NewKeyfile(repository.ID{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := k.Seal([]byte("x"), []byte("y")); err == nil || string(out) != "x" {
		t.Errorf("without a source: %q, %v", out, err)
	}
	k.UseNonces(noNonces{})
	if out, err := k.Seal([]byte("x"), []byte("y")); !errors.Is(err, ErrNoncesUsedUp) || string(out) != "x" {
		t.Errorf("with none left: %q, %v", out, err)
	}
}

type noNonces struct{}

func (noNonces) Reserve(uint64) (uint64, error) { return 0, ErrNoncesUsedUp }

func TestNonceEnd(t *testing.T) {
	env := func(first uint64, n int) []byte {
		e := make([]byte, headerSize+n)
		binary.BigEndian.PutUint64(e[nonceAt:], first)
		return e
	}
	for _, tt := range []struct {
		env  []byte
		want uint64
	}{
		{nil, 0},
		{env(5, 0)[:headerSize-1], 0},
		{append([]byte{byte(PlaintextType)}, make([]byte, 99)...), 0},
		{env(5, 0), 5},
		{env(5, 1), 6},
		{env(5, 16), 6},
		{env(5, 17), 7},
		{env(math.MaxUint64, 17), math.MaxUint64},
	} {
		if got := NonceEnd(tt.env); got != tt.want {
			t.Errorf("%x: %d, want %d", tt.env, got, tt.want)
		}
	}
}

func TestTypesHaveNames(t *testing.T) {
	for _, typ := range []Type{KeyfileType, PassphraseType, PlaintextType} {
		if got, err := ParseType(typ.String()); got != typ || err != nil {
			t.Errorf("%v: %v, %v", typ, got, err)
		}
	}
	if _, err := ParseType("rot13"); err == nil {
		t.Error("rot13 is taken")
	}
}

// TestNewerEnvelopesAreNoDamage is about types and compressions that are not known yet.
func TestNewerEnvelopesAreNoDamage(t *testing.T) {
	isNewer := func(err error) bool {
		return errors.Is(err, repository.ErrNewer) && !errors.Is(err, repository.ErrIntegrity)
	}
	isDamage := func(err error) bool {
		return errors.Is(err, repository.ErrIntegrity) && !errors.Is(err, repository.ErrNewer)
	}
	for typ := range 256 {
		_, err := Detect([]byte{byte(typ), 1, 2})
		switch {
		case typ <= int(PlaintextType) && err != nil, typ > int(PlaintextType) && typ <= int(MaxType) && !isNewer(err),
			typ > int(MaxType) && !isDamage(err):
			t.Errorf("type %#02x: %v", typ, err)
		}
	}
	for _, k := range testKeys(t) {
		if _, err := k.Open(&repository.ID{}, []byte{byte(MaxType), 1, 2, 3}); !isNewer(err) {
			t.Errorf("%v: %v", k, err)
		}
		for _, comp := range []string{"\x00\x00as it is", "\x01\x00lz4", "\x03\x00\x28\xb5\x2f\xfd"} {
			if _, err := k.Open(nil, sealCompressed(t, k, comp)); !isNewer(err) {
				t.Errorf("%v, compressed as %q: %v", k, comp, err)
			}
		}
		for _, comp := range []string{"", "\x78", "\x78\x9c", "\x78\x9c\x00\x00\xff"} {
			if _, err := k.Open(nil, sealCompressed(t, k, comp)); !isDamage(err) {
				t.Errorf("%v, compressed as %q: %v", k, comp, err)
			}
		}
	}
	if _, err := NewPlaintext().Open(nil, []byte("\x02garbage")); !isDamage(err) {
		t.Errorf("garbage: %v", err)
	}
}

// sealCompressed returns an envelope of what stands for compressed data.
func sealCompressed(t *testing.T, k *Key, comp string) []byte {
	t.Helper()
	if !k.Type().Encrypts() {
		return append([]byte{byte(k.Type())}, comp...)
	}
	env := make([]byte, headerSize, headerSize+len(comp))
	env[0] = byte(k.Type())
	env = append(env, comp...)
	k.xor(env[headerSize:], env[headerSize:], 0)
	mac := sum(&k.encMACs, env[nonceAt:])
	copy(env[1:], mac[:])
	return env
}

func FuzzOpen(f *testing.F) {
	keys := testKeys(f)
	for _, k := range keys {
		env, err := k.Seal(nil, []byte("some data"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(env)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, env []byte) {
		NonceEnd(env)
		for _, k := range keys {
			data, err := k.Open(nil, env)
			if err != nil && !errors.Is(err, repository.ErrIntegrity) && !errors.Is(err, repository.ErrNewer) {
				t.Error(err)
			}
			if err == nil {
				id := k.ID(data)
				if _, err := k.Open(&id, env); err != nil {
					t.Error(err)
				}
			}
		}
		// Past the HMAC, which a fuzzer does not guess.
		if data, err := inflate(env); err == nil {
			if again, err := inflate(deflate(nil, data)); err != nil || !bytes.Equal(data, again) {
				t.Error(err)
			}
		}
	})
}

func benchmarkData() []byte {
	rnd := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = "etaoin shrdlu\n"[rnd.IntN(14)]
	}
	return data
}

func BenchmarkSeal(b *testing.B) {
	data := benchmarkData()
	for _, k := range testKeys(b) {
		b.Run(k.Type().String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst, _ = k.Seal(dst[:0], data)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	data := benchmarkData()
	for _, k := range testKeys(b) {
		b.Run(k.Type().String(), func(b *testing.B) {
			env, _ := k.Seal(nil, data)
			id := k.ID(data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Open(&id, env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkID(b *testing.B) {
	data := benchmarkData()
	for _, k := range testKeys(b) {
		b.Run(k.Type().String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				k.ID(data)
			}
		})
	}
}
