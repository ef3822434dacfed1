package repository

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// The benchmarks of the store. doc/performance.md has a table of them.

func benchID(i int) (id ID) {
	rng := rand.New(rand.NewPCG(uint64(i), 42))
	for k := 0; k < len(id); k += 8 {
		binary.LittleEndian.PutUint64(id[k:], rng.Uint64())
	}
	return id
}

func benchValue(size int) []byte {
	rng := rand.New(rand.NewPCG(uint64(size), 43))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// benchDir returns a folder on a disk: GARRET_BENCH_DIR, or a temporary one.
func benchDir(b *testing.B) string {
	dir := os.Getenv("GARRET_BENCH_DIR")
	if dir == "" {
		return b.TempDir()
	}
	dir, err := os.MkdirTemp(dir, "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func fill(b *testing.B, r *Repository, from, to, size int) {
	value := benchValue(size)
	for i := from; i < to; i++ {
		binary.LittleEndian.PutUint64(value, uint64(i))
		if err := r.Put(context.Background(), benchID(i), value); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.Commit(context.Background()); err != nil {
		b.Fatal(err)
	}
}

var sizes = []struct {
	name        string
	size, count int
}{{"64KiB", 64 << 10, 20000}, {"4KiB", 4 << 10, 200000}}

// BenchmarkPutCommit stores objects in one transaction, in a new repository each time.
func BenchmarkPutCommit(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(int64(s.size * s.count))
			for b.Loop() {
				r, err := Create(context.Background(), filepath.Join(benchDir(b), "repo"), nil)
				if err != nil {
					b.Fatal(err)
				}
				fill(b, r, 0, s.count, s.size)
				b.StopTimer()
				path := r.String()
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
				os.RemoveAll(path)
				b.StartTimer()
			}
			b.ReportMetric(float64(s.count*b.N)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

// shared are repositories that several benchmarks read.
var shared sync.Map

func sharedRepository(b *testing.B, count, size int) string {
	key := fmt.Sprintf("%d-%d", count, size)
	if path, ok := shared.Load(key); ok {
		return path.(string)
	}
	base := os.Getenv("GARRET_BENCH_DIR")
	dir, err := os.MkdirTemp(base, "garret-bench")
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "repo")
	r, err := Create(context.Background(), path, nil)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, r, 0, count, size)
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	shared.Store(key, path)
	return path
}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Range(func(_, path any) bool {
		os.RemoveAll(filepath.Dir(path.(string)))
		return true
	})
	os.Exit(code)
}

func openBench(b *testing.B, path string, o *Options) *Repository {
	r, err := Open(context.Background(), path, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

// BenchmarkGet reads objects at random, out of the page cache, each checksum verified.
func BenchmarkGet(b *testing.B) {
	for _, s := range sizes {
		r := openBench(b, sharedRepository(b, s.count, s.size), nil)
		ids := make([]ID, s.count)
		for i := range ids {
			ids[i] = benchID(i)
		}
		get := func(b *testing.B, rng *rand.Rand) {
			if _, err := r.Get(context.Background(), ids[rng.IntN(len(ids))]); err != nil {
				b.Error(err)
			}
		}
		b.Run(s.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			b.SetBytes(int64(s.size))
			for b.Loop() {
				get(b, rng)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
		b.Run(s.name+"-parallel", func(b *testing.B) {
			b.SetBytes(int64(s.size))
			b.RunParallel(func(pb *testing.PB) {
				rng := rand.New(rand.NewPCG(1, rand.Uint64()))
				for pb.Next() {
					get(b, rng)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
	}
}

// BenchmarkList lists all ids.
func BenchmarkList(b *testing.B) {
	r := openBench(b, sharedRepository(b, 200000, 4<<10), nil)
	for b.Loop() {
		if ids, err := r.List(context.Background(), 0, nil); err != nil || len(ids) != 200000 {
			b.Fatal(len(ids), err)
		}
	}
	b.ReportMetric(200000*float64(b.N)/b.Elapsed().Seconds(), "ids/s")
}

// BenchmarkCheck reads and verifies all segments, out of the page cache.
func BenchmarkCheck(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			r := openBench(b, sharedRepository(b, s.count, s.size), nil)
			b.SetBytes(int64(s.size * s.count))
			for b.Loop() {
				if report, err := r.Check(context.Background(), CheckOptions{}); err != nil || !report.OK() {
					b.Fatal(report, err)
				}
			}
		})
	}
}

// BenchmarkReplay opens a repository that has lost its index.
func BenchmarkReplay(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			path := sharedRepository(b, s.count, s.size)
			copied := filepath.Join(b.TempDir(), "repo")
			if err := os.Symlink(filepath.Join(path, "data"), mkdir(b, copied, "data")); err != nil {
				b.Fatal(err)
			}
			config, _ := os.ReadFile(filepath.Join(path, "config"))
			if err := os.WriteFile(filepath.Join(copied, "config"), config, 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(s.size * s.count))
			for b.Loop() {
				r, err := Open(context.Background(), copied, &Options{ReadOnly: true})
				if err != nil {
					b.Fatal(err)
				}
				if n, _ := r.Len(context.Background()); n != s.count {
					b.Fatal(n)
				}
				r.Close()
			}
		})
	}
}

func mkdir(b *testing.B, path, name string) string {
	if err := os.MkdirAll(path, 0o700); err != nil {
		b.Fatal(err)
	}
	return filepath.Join(path, name)
}

var growths = []int{10_000, 1_000_000, 3_000_000}

// BenchmarkCommitOne commits one object of 100 bytes, in a repository that holds many.
func BenchmarkCommitOne(b *testing.B) {
	for _, n := range growths {
		b.Run(fmt.Sprintf("%d-objects", n), func(b *testing.B) {
			r := openBench(b, sharedRepository(b, n, 100), &Options{Exclusive: true})
			next := 100_000_000
			for b.Loop() {
				next++
				fill(b, r, next, next+1, 100)
			}
		})
	}
}

// BenchmarkOpenGet opens a repository that holds many objects, gets one, and closes it.
func BenchmarkOpenGet(b *testing.B) {
	for _, n := range growths {
		b.Run(fmt.Sprintf("%d-objects", n), func(b *testing.B) {
			path := sharedRepository(b, n, 100)
			for b.Loop() {
				r, err := Open(context.Background(), path, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.Get(context.Background(), benchID(rand.IntN(n))); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
