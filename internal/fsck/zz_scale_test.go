package fsck

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

func status() string {
	b, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "VmHWM") || strings.HasPrefix(l, "RssAnon") {
			fmt.Print(l, "  ")
		}
	}
	fmt.Println()
	return ""
}

func TestZZScale(t *testing.T) {
	dir := os.Getenv("SCALE_DIR")
	if dir == "" {
		t.Skip()
	}
	n := 3000000
	ctx := t.Context()
	key := envelope.NewPlaintext()
	if _, err := os.Stat(dir); err != nil {
		r, err := repository.Create(ctx, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		cat, _ := catalog.New(r, key, nil)
		w := archive.NewItemWriter(0, func(d []byte) (repository.ID, error) {
			e, _ := key.Seal(nil, d)
			id := key.ID(d)
			return id, r.Put(ctx, id, e)
		})
		it := &archive.Item{Mode: 0o100644, HasChunks: true}
		for i := range n {
			d := binary.BigEndian.AppendUint64(nil, uint64(i))
			e, _ := key.Seal(nil, d)
			id := key.ID(d)
			if err := r.Put(ctx, id, e); err != nil {
				t.Fatal(err)
			}
			it.Chunks = append(it.Chunks, archive.Chunk{ID: id, Size: 8, CSize: uint32(len(e))})
			if len(it.Chunks) == 10 {
				it.Path = fmt.Sprint("f/", i)
				w.Add(it)
				it.Chunks = nil
			}
		}
		ids, _ := w.Flush()
		a := (&archive.Archive{Name: "a", Items: ids, Cmdline: []string{}, Time: time.Now()}).Encode()
		e, _ := key.Seal(nil, a)
		id := key.ID(a)
		r.Put(ctx, id, e)
		cat.Save(ctx, r, map[string]archive.ArchiveRef{"a": {ID: id, Time: time.Now()}})
		if err := r.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		r.Close()
		return
	}
	r, err := repository.Open(ctx, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	status()
	if os.Getenv("SCALE") == "store" {
		begin := time.Now()
		rep, err := r.Check(ctx, repository.CheckOptions{})
		fmt.Println("store", time.Since(begin), err, len(rep.Findings), rep.Objects)
		status()
		return
	}
	begin := time.Now()
	rep, err := New(r, key, Options{VerifyData: os.Getenv("SCALE") == "verify"}).Run(ctx)
	fmt.Println(time.Since(begin), err)
	fmt.Printf("%+v\n", rep)
	status()
	runtime.GC()
	status()
}
