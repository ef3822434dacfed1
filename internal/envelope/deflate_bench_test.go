package envelope

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zlib"

	"garret/internal/chunker"
)

// benchChunks returns every n-th file of the tree in GARRET_BENCH_TREE, or of Go's source code, in chunks.
func benchChunks(b *testing.B, n int) (chunks [][]byte) {
	tree := os.Getenv("GARRET_BENCH_TREE")
	if tree == "" {
		b.Skip("GARRET_BENCH_TREE names no tree of files")
	}
	c := chunker.New(0)
	i := 0
	err := filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if i++; i%n != 0 {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		c.Reset(f)
		for {
			data, err := c.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			chunks = append(chunks, append([]byte(nil), data...))
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return chunks
}

// BenchmarkDeflateLevel compresses the chunks of a tree at each level, and tells to how much of their size.
func BenchmarkDeflateLevel(b *testing.B) {
	chunks := benchChunks(b, 8)
	var size int64
	for _, c := range chunks {
		size += int64(len(c))
	}
	for level := zlib.BestSpeed; level <= zlib.BestCompression; level++ {
		b.Run(fmt.Sprint(level), func(b *testing.B) {
			d := new(deflater)
			z, err := zlib.NewWriterLevel(d, level)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ReportAllocs()
			var compressed int64
			for b.Loop() {
				compressed = 0
				for _, c := range chunks {
					d.out = d.out[:0]
					z.Reset(d)
					z.Write(c)
					z.Close()
					compressed += int64(len(d.out))
				}
			}
			b.ReportMetric(100*float64(compressed)/float64(size), "%")
			b.ReportMetric(float64(len(chunks)), "chunks")
		})
	}
}
