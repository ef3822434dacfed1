package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Data sets are made from fixed seeds, so that every run, on every machine, has the same.

// text writes words that compress to a third or so, as texts do.
type text struct {
	rng   *rand.Rand
	words [][]byte
}

func newText(seed uint64) *text {
	t := &text{rng: rand.New(rand.NewPCG(seed, 1))}
	for range 1 << 12 {
		word := make([]byte, 2+t.rng.IntN(9), 12)
		for i := range word {
			word[i] = byte('a' + t.rng.IntN(26))
		}
		t.words = append(t.words, append(word, ' '))
	}
	return t
}

// append appends n bytes or a little more.
func (t *text) append(b []byte, n int) []byte {
	for end := len(b) + n; len(b) < end; {
		u := t.rng.Uint64()
		// The square of an even distribution: the first words come often, the last ones hardly ever.
		w := (u & 0xfff) * (u >> 12 & 0xfff) >> 12
		b = append(b, t.words[w]...)
		if u>>60 == 0 {
			b[len(b)-1] = '\n'
		}
	}
	return b
}

// writeNoise makes a file of bytes that do not compress.
func writeNoise(path string, size int64) error {
	return write(path, size, rand.NewChaCha8([32]byte{1}))
}

// writeText makes a file of words.
func writeText(path string, size int64) error {
	return write(path, size, &textReader{text: newText(1)})
}

func write(path string, size int64, content io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(f, content, size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// A textReader is text without end.
type textReader struct {
	text *text
	buf  []byte
	at   int
}

func (r *textReader) Read(p []byte) (int, error) {
	if r.at == len(r.buf) {
		r.buf, r.at = r.text.append(r.buf[:0], 64<<10), 0
	}
	n := copy(p, r.buf[r.at:])
	r.at += n
	return n, nil
}

// The changes of a large file, in bytes: one block in a hundred is new, and something is put before them all.
const (
	changedBlock = 64 << 10
	insertion    = 1000
)

// writeChanged makes a file of another one, with one block in a hundred replaced and an insertion at the front.
func writeChanged(path, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	rng := rand.New(rand.NewPCG(7, 1))
	fresh := &textReader{text: newText(2)}
	if _, err := io.CopyN(out, fresh, insertion); err != nil {
		return err
	}
	for buf := make([]byte, changedBlock); ; {
		n, err := io.ReadFull(src, buf)
		if err == io.EOF {
			break
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if rng.IntN(100) == 0 {
			if _, err := io.ReadFull(fresh, buf[:n]); err != nil {
				return err
			}
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// filesPerDir is how many files makeTree puts into a folder.
const filesPerDir = 100

// makeTree makes a tree of files of words, each of 16 bytes at least and below the limit, most of them short.
func makeTree(dir string, files, limit int, seed uint64) error {
	t := newText(seed)
	var buf []byte
	for i := range files {
		path := treeFile(dir, i)
		if i%filesPerDir == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
		}
		u := t.rng.Float64()
		buf = binary.BigEndian.AppendUint64(buf[:0], seed<<32+uint64(i)) // no two are alike
		buf = t.append(buf, int(u*u*float64(limit)))
		if err := os.WriteFile(path, buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func treeFile(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("d%03d", i/filesPerDir/100), fmt.Sprintf("d%03d", i/filesPerDir), fmt.Sprintf("file-%06d.txt", i))
}

// changeTree makes the next version of a tree of makeTree: one file in a hundred is written anew, and a few are added.
func changeTree(dir string, files, limit int, version uint64) error {
	rng := rand.New(rand.NewPCG(version, 3))
	t := newText(100 + version)
	for range max(1, files/100) {
		path := treeFile(dir, rng.IntN(files))
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := rng.IntN(len(old) + 1)
		if err := os.WriteFile(path, t.append(old[:at:at], 1+rng.IntN(limit/2)), 0o644); err != nil {
			return err
		}
	}
	added := filepath.Join(dir, fmt.Sprintf("version-%03d", version))
	return makeTree(added, max(1, files/1000), limit, 1000+version)
}

// sizeOf returns the number of files below a path, and of their bytes.
func sizeOf(path string) (files int, size int64, err error) {
	err = filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files++
			size += info.Size()
		}
		return err
	})
	return files, size, err
}
