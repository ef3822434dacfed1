package cache

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

func open(t *testing.T, path string) *Files {
	t.Helper()
	f, err := OpenFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func save(t *testing.T, f *Files) {
	t.Helper()
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
}

var twoDaysAgo = time.Now().Add(-48 * time.Hour)

// sample returns a file of some days ago.
func sample(i int) (string, *fsmeta.Info, *archive.Item) {
	text := fmt.Sprint("acl ", i)
	it := &archive.Item{HasChunks: true, Chunks: []archive.Chunk{}}
	info := &fsmeta.Info{
		FileID: fsmeta.FileID{Dev: 1, Ino: uint64(i)},
		Mode:   fsmeta.TypeRegular | 0o644,
		MTime:  archive.Nanos{Sec: int64(i) - 10, Nsec: 999_999_999},
		CTime:  archive.NanosOf(twoDaysAgo),
	}
	for c := range i % 5 {
		size := uint32(1000 + c)
		it.Chunks = append(it.Chunks, archive.Chunk{ID: repository.ID{byte(i), byte(i >> 8), byte(c)}, Size: size, CSize: size / 2})
		info.Size += int64(size)
	}
	if i%7 == 0 {
		it.Xattrs = map[string][]byte{"user.a": nil, "user.b": []byte("b")}
		it.ACLAccess, it.ACLDefault = &text, &text
		it.BSDFlags = new(uint64(i))
	}
	return fmt.Sprintf("/some/where/%d", i), info, it
}

func TestUnchangedFilesComeBackAsTheyWere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "files")
	f := open(t, path)
	const n = 1000
	for i := range n {
		f.Remember(sample(i))
	}
	save(t, f)
	for range 2 { // what is not asked for stays
		f = open(t, path)
		for i := range n / 2 {
			name, info, want := sample(i)
			var got archive.Item
			if known, same := f.Lookup(name, info, &got); !known || !same {
				t.Fatalf("%s: known %v, unchanged %v", name, known, same)
			}
			if diff := cmp.Diff(want, &got); diff != "" {
				t.Fatal(diff)
			}
			f.Remember(name, info, &got)
		}
		save(t, f)
	}
	f = open(t, path)
	for i := range n {
		name, info, _ := sample(i)
		if _, same := f.Lookup(name, info, new(archive.Item)); !same {
			t.Errorf("%s is forgotten", name)
		}
	}
	if known, _ := f.Lookup("/some/where/else", &fsmeta.Info{}, new(archive.Item)); known {
		t.Error("a file is known that never was")
	}
}

func TestEveryChangeIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files")
	f := open(t, path)
	name, info, it := sample(4)
	f.Remember(name, info, it)
	save(t, f)
	for what, change := range map[string]func(*fsmeta.Info){
		"inode":             func(i *fsmeta.Info) { i.Ino++ },
		"size":              func(i *fsmeta.Info) { i.Size++ },
		"mtime":             func(i *fsmeta.Info) { i.MTime.Sec-- },
		"mtime nanoseconds": func(i *fsmeta.Info) { i.MTime.Nsec-- },
		"ctime":             func(i *fsmeta.Info) { i.CTime.Sec++ },
		"ctime nanoseconds": func(i *fsmeta.Info) { i.CTime.Nsec ^= 1 },
	} {
		name, info, _ := sample(4)
		f = open(t, path)
		if _, same := f.Lookup(name, info, new(archive.Item)); !same {
			t.Fatal("an unchanged file is not found")
		}
		change(info)
		if known, same := f.Lookup(name, info, new(archive.Item)); !known || same {
			t.Errorf("%s: known %v, unchanged %v", what, known, same)
		}
	}
}

func TestAFileWithAFlawIsKnownAndNotBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files")
	f := open(t, path)
	name, info, it := sample(4)
	it.SetFlaw(archive.FlawChanged)
	f.Remember(name, info, it)
	save(t, f)
	f = open(t, path)
	if known, same := f.Lookup(name, info, new(archive.Item)); !known || same {
		t.Errorf("known %v, unchanged %v", known, same)
	}
}

func TestAFileThatHasJustChangedIsNotBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files")
	check := func(what string, ages map[int]time.Duration, want ...int) {
		t.Helper()
		os.Remove(path)
		f := open(t, path)
		now := time.Now()
		infos := map[int]*fsmeta.Info{}
		for i, age := range ages {
			name, info, it := sample(i)
			info.CTime = archive.NanosOf(now.Add(-age))
			infos[i] = info
			f.Remember(name, info, it)
		}
		save(t, f)
		f = open(t, path)
		var got []int
		for i := range ages {
			name, _, _ := sample(i)
			if _, same := f.Lookup(name, infos[i], new(archive.Item)); same {
				got = append(got, i)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: believed %v, want %v", what, got, want)
		}
	}
	check("within a tick", map[int]time.Duration{1: 0, 2: time.Second, 3: time.Hour}, 3)
	check("in the future", map[int]time.Duration{1: -time.Hour, 2: 2 * time.Hour}, 2)
	check("a clock behind", map[int]time.Duration{1: time.Hour, 2: time.Hour, 3: 2 * time.Hour}, 3)
	check("long ago", map[int]time.Duration{1: 48 * time.Hour, 2: 48 * time.Hour}, 1, 2)
}

func TestFilesThatAreNotMetAreForgottenInTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files")
	f := open(t, path)
	f.Remember(sample(1))
	save(t, f)
	for range maxAge {
		f = open(t, path)
		save(t, f)
	}
	f = open(t, path)
	if len(f.old) == len(filesMagic) {
		t.Error("forgotten too early")
	}
	save(t, f)
	if f = open(t, path); len(f.old) != len(filesMagic) {
		t.Error("not forgotten")
	}
}

// A damaged cache must not be believed in any byte of it.
func TestDamageIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files")
	f := open(t, path)
	for i := range 20 {
		f.Remember(sample(i))
	}
	save(t, f)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		bad := slices.Clone(data)
		switch rng.IntN(3) {
		case 0:
			bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		case 1:
			bad = bad[:rng.IntN(len(bad))]
		case 2:
			from := rng.IntN(len(bad))
			clear(bad[from:min(len(bad), from+1+rng.IntN(512))])
			if slices.Equal(bad, data) {
				continue
			}
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFiles(path)
		if err == nil {
			t.Fatal("damage was not noticed")
		}
		if known, _ := f.Lookup("/some/where/1", &fsmeta.Info{}, new(archive.Item)); known {
			t.Fatal("a damaged cache was believed")
		}
	}
}

// Whoever writes the cache can also make its checksum right: it must still do no harm.
func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	c, err := OpenFiles(filepath.Join(dir, "files"))
	if err != nil {
		f.Fatal(err)
	}
	for i := range 10 {
		c.Remember(sample(i))
	}
	if err := c.Save(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "files"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[len(filesMagic) : len(data)-4])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, records []byte) {
		data := append([]byte(filesMagic), records...)
		c := &Files{}
		if err := c.index(sealed(data)); err != nil {
			return
		}
		for i := range 10 {
			name, info, _ := sample(i)
			var it archive.Item
			if _, same := c.Lookup(name, info, &it); same {
				var sum int64
				for _, chunk := range it.Chunks {
					sum += int64(chunk.Size)
				}
				if sum != info.Size {
					t.Errorf("%d bytes of %d", sum, info.Size)
				}
			}
		}
		c.path = filepath.Join(t.TempDir(), "files")
		if err := c.Save(); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFiles(c.path); err != nil {
			t.Error(err)
		}
	})
}

// sealed appends the checksum.
func sealed(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, crcTable))
}
