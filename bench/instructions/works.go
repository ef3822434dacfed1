package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/cache"
	"garret/internal/catalog"
	"garret/internal/chunker"
	"garret/internal/envelope"
	"garret/internal/progress"
	"garret/internal/restore"
	"garret/repository"
)

// A work is done by a process of its own, with what prepare has left in a folder.
type work struct {
	name string
	less string // the work whose instructions are subtracted; empty: start
	do   func(ctx context.Context, dir string) error
}

// start is what every process takes.
var start = work{name: "start", do: func(context.Context, string) error { return nil }}

var works = []work{
	{"chunk 16 MiB", "", chunk},
	{"seal 4 MiB", "", func(_ context.Context, dir string) error { return seal(dir, false) }},
	{"open 4 MiB", "seal 4 MiB", func(_ context.Context, dir string) error { return seal(dir, true) }},
	{"put 10,000 objects and commit", "", putAll},
	{"get 10,000 objects", "", getAll},
	{"encode 10,000 items", "", func(context.Context, string) error { return items(false) }},
	{"decode 10,000 items", "encode 10,000 items", func(context.Context, string) error { return items(true) }},
	{"back up 1,000 files", "", func(ctx context.Context, dir string) error { return create(ctx, dir, emptyName, nil) }},
	{"back up 1,000 files unchanged", "", createAgain},
	{"extract 1,000 files", "", extract},
}

// doWork does one of them.
func doWork(ctx context.Context, name, dir string) error {
	for _, w := range append([]work{start}, works...) {
		if w.name == name {
			return w.do(ctx, dir)
		}
	}
	return fmt.Errorf("there is no work %q", name)
}

const (
	chunked     = 16 << 20 // bytes
	sealed      = 4 << 20
	sealedSize  = 64 << 10 // of each object
	objects     = 10_000
	objectSize  = 1 << 10
	itemCount   = 10_000
	fileCount   = 1000
	dataName    = "data"
	treeName    = "tree"
	knownName   = "known"
	repoName    = "repo"  // which has an archive of the tree
	emptyName   = "empty" // which has none
	objectsName = "objects"
)

// settlingTime is how long a file must be as it is to be believed unchanged.
const settlingTime = 4 * time.Second

// prepare makes what the works need.
func prepare(ctx context.Context, dir string) error {
	data := make([]byte, chunked)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	for i := 0; i < len(data); i += 2 * sealedSize {
		text := data[i : i : i+sealedSize] // every second object can be compressed
		for n := 0; cap(text)-len(text) > 32; n++ {
			text = fmt.Appendf(text, "line %d of %x\n", n, data[n%1000])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, dataName), data, 0o600); err != nil {
		return err
	}
	for i := range fileCount {
		path := filepath.Join(dir, treeName, strconv.Itoa(i/100), fmt.Sprintf("file-%04d", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data[i*1000:i*1000+i%100*10+10], 0o600); err != nil {
			return err
		}
	}
	r, err := repository.Create(ctx, filepath.Join(dir, objectsName), nil)
	if err != nil {
		return err
	}
	if err := errors.Join(putInto(ctx, r), r.Close()); err != nil {
		return err
	}
	for _, name := range []string{repoName, emptyName} {
		if err := makeRepository(ctx, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	time.Sleep(settlingTime)
	known, err := cache.OpenFiles(filepath.Join(dir, knownName))
	if err != nil {
		return err
	}
	if err := create(ctx, dir, repoName, known); err != nil {
		return err
	}
	return known.Save()
}

func makeRepository(ctx context.Context, path string) error {
	r, err := repository.Create(ctx, path, nil)
	if err != nil {
		return err
	}
	cat, err := catalog.New(r, envelope.NewPlaintext(), nil)
	if err == nil {
		err = cat.Save(ctx, r, nil)
	}
	if err == nil {
		err = r.Commit(ctx)
	}
	return errors.Join(err, r.Close())
}

func chunk(_ context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, dataName))
	if err != nil {
		return err
	}
	defer f.Close()
	c := chunker.New(1)
	c.Reset(f)
	for {
		if _, err := c.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// nonces counts.
type nonces struct{ next uint64 }

func (n *nonces) Reserve(blocks uint64) (uint64, error) {
	first := n.next
	n.next += blocks
	return first, nil
}

// seal seals objects, and opens them if need be.
func seal(dir string, open bool) error {
	data, err := os.ReadFile(filepath.Join(dir, dataName))
	if err != nil {
		return err
	}
	key, err := envelope.NewKeyfile(repository.ID{})
	if err != nil {
		return err
	}
	key.UseNonces(new(nonces))
	var env []byte
	for piece := range slices.Chunk(data[:sealed], sealedSize) {
		id := key.ID(piece)
		if env, err = key.Seal(env[:0], piece); err != nil {
			return err
		}
		if !open {
			continue
		}
		got, err := key.Open(&id, env)
		if err != nil || !bytes.Equal(got, piece) {
			return fmt.Errorf("what is opened is not what was sealed (%w)", err)
		}
	}
	return nil
}

// objectID returns ids that are even in all their bits.
func objectID(i int) (id repository.ID) {
	for k := 0; k < len(id); k += 8 {
		binary.LittleEndian.PutUint64(id[k:], (uint64(i)+1)*0x9e3779b97f4a7c15+uint64(k))
	}
	return id
}

func putInto(ctx context.Context, r *repository.Repository) error {
	value := make([]byte, objectSize)
	for i := range objects {
		binary.LittleEndian.PutUint64(value, uint64(i))
		if err := r.Put(ctx, objectID(i), value); err != nil {
			return err
		}
	}
	return r.Commit(ctx)
}

func putAll(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "put")
	r, err := repository.Create(ctx, path, nil)
	if err != nil {
		return err
	}
	return errors.Join(putInto(ctx, r), r.Close(), os.RemoveAll(path))
}

func getAll(ctx context.Context, dir string) error {
	r, err := repository.Open(ctx, filepath.Join(dir, objectsName), &repository.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	for i := range objects {
		value, err := r.Get(ctx, objectID(i))
		if err != nil {
			return err
		}
		if len(value) != objectSize || binary.LittleEndian.Uint64(value) != uint64(i) {
			return fmt.Errorf("object %d is another one", i)
		}
	}
	return r.Close()
}

// items encodes items, and decodes them if need be.
func items(decode bool) error {
	user := "user"
	it := archive.Item{Mode: 0o100644, User: &user, Group: &user, HasChunks: true, Chunks: make([]archive.Chunk, 2)}
	var stream []byte
	path := []byte("some/folder/file-00000")
	for i := range itemCount {
		for k, n := len(path)-1, i; n > 0; k, n = k-1, n/10 {
			path[k] = byte('0' + n%10)
		}
		it.Path = string(path)
		stream = archive.AppendItem(stream, &it)
	}
	if !decode {
		return nil
	}
	var d archive.ItemDecoder
	d.Feed(stream)
	for i := range itemCount {
		if _, ok, err := d.Next(); !ok || err != nil {
			return fmt.Errorf("item %d is not there (%w)", i, err)
		}
	}
	return d.Close()
}

// inRepository does something with a repository of archives.
func inRepository(ctx context.Context, path string, do func(*repository.Repository, *catalog.Catalog) error) error {
	r, err := repository.Open(ctx, path, &repository.Options{Exclusive: true})
	if err != nil {
		return err
	}
	env, err := catalog.Manifest(ctx, r)
	if err == nil {
		var cat *catalog.Catalog
		if cat, err = catalog.New(r, envelope.NewPlaintext(), env); err == nil {
			err = do(r, cat)
		}
	}
	return errors.Join(err, r.Close())
}

// create backs the tree up.
func create(ctx context.Context, dir, repo string, known backup.Known) error {
	return inRepository(ctx, filepath.Join(dir, repo), func(r *repository.Repository, cat *catalog.Catalog) error {
		_, err := createIn(ctx, dir, r, cat, known)
		return err
	})
}

// createIn returns how many bytes it has read.
func createIn(
	ctx context.Context, dir string, r *repository.Repository, cat *catalog.Catalog, known backup.Known,
) (read int64, err error) {
	o := backup.Options{
		Name: fmt.Sprint("archive-", len(cat.Manifest.Archives)), Time: time.Unix(1_400_000_000, 0),
		Dir: filepath.Join(dir, treeName), Paths: []string{"."}, Known: known, Progress: new(progress.Files),
	}
	stats, err := backup.Run(ctx, r, cat, o)
	if err == nil && stats.Files != fileCount {
		err = fmt.Errorf("%d files are stored", stats.Files)
	}
	return o.Progress.Bytes.Load(), err
}

func createAgain(ctx context.Context, dir string) error {
	known, err := cache.OpenFiles(filepath.Join(dir, knownName))
	if err != nil {
		return err
	}
	return inRepository(ctx, filepath.Join(dir, repoName), func(r *repository.Repository, cat *catalog.Catalog) error {
		read, err := createIn(ctx, dir, r, cat, known)
		if err == nil && read > 2000 { // of the youngest
			err = fmt.Errorf("%d bytes are read of files that are unchanged", read)
		}
		return err
	})
}

func extract(ctx context.Context, dir string) error {
	target, err := os.MkdirTemp(dir, "extracted-")
	if err != nil {
		return err
	}
	return inRepository(ctx, filepath.Join(dir, repoName), func(_ *repository.Repository, cat *catalog.Catalog) error {
		a, err := cat.Archive(ctx, "archive-0")
		if err != nil {
			return err
		}
		stats, err := restore.Run(ctx, cat, a, restore.Options{Target: target})
		if err == nil && stats.Files != fileCount {
			err = fmt.Errorf("%d files are extracted", stats.Files)
		}
		return err
	})
}
