package archive

import (
	"fmt"
	"testing"

	"garret/internal/alloctest"
)

func TestAllocationsForEachItem(t *testing.T) {
	const n = 1000
	name := "user"
	items := make([]*Item, n)
	var stream []byte
	for i := range items {
		items[i] = &Item{
			Path: fmt.Sprintf("some/folder/file-%d", i), Mode: 0o100644, User: &name, Group: &name,
			HasChunks: true, Chunks: make([]Chunk, 2),
		}
		stream = AppendItem(stream, items[i])
	}
	var buf []byte
	t.Run("encode", func(t *testing.T) {
		alloctest.AtMost(t, 0, n, func() {
			buf = buf[:0]
			for _, it := range items {
				buf = AppendItem(buf, it)
			}
		})
	})
	t.Run("decode", func(t *testing.T) {
		alloctest.AtMost(t, 8, n, func() {
			var d ItemDecoder
			d.Feed(stream)
			for range n {
				if _, ok, err := d.Next(); !ok || err != nil {
					t.Fatal(ok, err)
				}
			}
		})
	})
}
