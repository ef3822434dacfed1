package cache

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"garret/internal/archive"
	"garret/repository"
)

// BenchmarkLoad loads a table of 3 million chunks that 30 archives use, finds out what one of them alone uses, and looks
// up one chunk, for which the index is made.
func BenchmarkLoad(b *testing.B) {
	const chunks, archives = 3_000_000, 30
	rnd := rand.New(rand.NewPCG(1, 1))
	dir := b.TempDir()
	fail := func(err error) { b.Fatal(err) }
	c := OpenChunks(dir, repository.ID{1}, fail)
	u := c.NewUses()
	var id repository.ID
	for range chunks {
		for i := 0; i < len(id); i += 8 {
			binary.LittleEndian.PutUint64(id[i:], rnd.Uint64())
		}
		u.Add(archive.Chunk{ID: id, Size: 65536, CSize: 30000})
	}
	m := &archive.Manifest{Archives: map[string]archive.ArchiveRef{}}
	for i := range archives {
		for range 500 { // what differs from version to version
			u.used[rnd.IntN(len(u.used))] &= rnd.Uint64()
		}
		record := repository.ID{1, byte(i)}
		c.Add(archive.Chunk{ID: record, Size: 1, CSize: 1}, u)
		m.Archives[string(rune('a'+i))] = archive.ArchiveRef{ID: record}
	}
	if err := c.Save(); err != nil {
		b.Fatal(err)
	}
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			OpenChunks(dir, repository.ID{1}, fail)
		}
	})
	b.Run("unused", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := c.Unused(m, []string{"c"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("total", func(b *testing.B) {
		for b.Loop() {
			c.Total()
		}
	})
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			c.index = rowIndex{}
			c.Lookup(id)
		}
	})
}
