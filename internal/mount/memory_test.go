package mount

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"garret/internal/archive"
	"garret/internal/campaign"
)

// manyItems returns items as of a home folder: 50 files in each of some folders, with names of usual lengths.
func manyItems(n int) []*archive.Item {
	user := "root"
	var items []*archive.Item
	folder := ""
	for i := range n {
		path := fmt.Sprintf("%s/IMG_2026%06d.jpeg", folder, i)
		it := regular(path, archive.Chunk{Size: uint32(i), ID: [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}})
		if i%50 == 0 {
			folder = fmt.Sprintf("home/photos/%05d", i/50)
			it = dir(folder)
		}
		it.User, it.Group, it.UID, it.MTime = &user, &user, 1000, archive.Nanos{Sec: 1400000000 + int64(i), Nsec: uint32(i)}
		items = append(items, it)
	}
	return items
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// walk goes through all that is below a folder and asks for everything that ls -l shows. It returns how many files
// there are.
func walk(t *testing.T, fs *filesystem, node uint64) int {
	t.Helper()
	n := 0
	for _, e := range readDir(t, fs, node, true, 4096) {
		n++
		if e.Mode == 0o040000 {
			n += walk(t, fs, e.Ino)
		}
	}
	return n
}

// What a find over a large repository leaves in memory does not depend on how many archives there are. Bytes are counted,
// so that the test says the same on every machine; BenchmarkMountList has the time, and more archives.
func TestMemoryIsBoundedWhateverIsVisited(t *testing.T) {
	archives, files := 10, 5_000
	if campaign.Full() {
		archives, files = 15, 50_000
	}
	r := newTestRepo(t)
	stream := r.stream(manyItems(files)...)
	for i := range archives {
		r.add(fmt.Sprintf("%03d", i), stream)
	}
	perTree := int64(files) * 85
	o := Options{TreeBytes: 5 * perTree, ChunkBytes: 1 << 20}
	fs, warned := r.open(o, "")
	before := heap()
	for _, e := range readDir(t, fs, fuse.FUSE_ROOT_ID, false, 4096) {
		// The two implied folders are there too.
		if n := walk(t, fs, e.Ino); n != files+2 {
			t.Fatalf("archive %s has %d files", e.Name, n)
		}
		if fs.trees.size > o.TreeBytes || fs.chunks.size > o.ChunkBytes {
			t.Fatalf("%d bytes of trees and %d of chunks", fs.trees.size, fs.chunks.size)
		}
	}
	grown := heap() - before
	tr, err := fs.trees.value(archives - 1)
	if err != nil {
		t.Fatal(err)
	}
	perItem := float64(tr.bytes()) / float64(files)
	t.Logf("%.1f bytes for each item, %d trees, %d bytes in all", perItem, fs.trees.lru.Len(), grown)
	if perItem > 85 {
		t.Errorf("%.1f bytes for each item", perItem)
	}
	if n := fs.trees.lru.Len(); n < 4 || n >= archives {
		t.Errorf("%d trees are kept", n)
	}
	if limit := o.TreeBytes + o.ChunkBytes + 1<<20; grown > limit {
		t.Errorf("%d bytes are in use, want %d at most", grown, limit)
	}
	if len(warned.paths()) != 0 {
		t.Errorf("told of %q", warned.paths())
	}
	runtime.KeepAlive(r)
}

func TestNodesStayWhenTheirTreeIsDropped(t *testing.T) {
	r := newTestRepo(t)
	var want []string
	for i := range 8 {
		text := fmt.Sprint("content ", i)
		want = append(want, text)
		r.add(fmt.Sprint(i), r.stream(dir("d"), regular("d/a", r.chunks([]byte(text), 3)...), link("b", "d/a")))
	}
	fs, _ := r.open(Options{TreeBytes: 1, ChunkBytes: 1}, "")
	nodes := make([]uint64, 8)
	for i := range nodes {
		nodes[i] = look(t, fs, look(t, fs, fuse.FUSE_ROOT_ID, fmt.Sprint(i)).NodeId, "b").NodeId
	}
	if n := fs.trees.lru.Len(); n != keepTrees {
		t.Errorf("%d trees are kept", n)
	}
	rng := random(t)
	for range 100 {
		i := rng.IntN(8)
		if got, code := readFile(t, fs, nodes[i]); !code.Ok() || got != want[i] {
			t.Fatalf("file of archive %d is %q, %v", i, got, code)
		}
	}
}
