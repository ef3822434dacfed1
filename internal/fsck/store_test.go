package fsck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/repository"
)

// objectStore is a repository in memory.
type objectStore struct {
	mu        sync.Mutex
	objects   map[repository.ID][]byte
	committed map[repository.ID][]byte
	aside     map[string][]byte
	failing   map[repository.ID]error // what Get says of an object
	gets      int
}

func (o *objectStore) Has(_ context.Context, id repository.ID) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.objects[id]
	return ok, nil
}

func (o *objectStore) Get(_ context.Context, id repository.ID) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gets++
	if err := o.failing[id]; err != nil {
		return nil, err
	}
	if data, ok := o.objects[id]; ok {
		return bytes.Clone(data), nil
	}
	return nil, repository.ErrNotFound
}

func (o *objectStore) List(_ context.Context, limit int, marker *repository.ID) ([]repository.ID, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []repository.ID
	for id := range o.objects {
		if marker == nil || bytes.Compare(id[:], marker[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b repository.ID) int { return bytes.Compare(a[:], b[:]) })
	return ids[:min(limit, len(ids))], nil
}

func (o *objectStore) Put(_ context.Context, id repository.ID, env []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.objects[id] = bytes.Clone(env)
	return nil
}

func (o *objectStore) Delete(_ context.Context, id repository.ID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.objects[id]; !ok {
		return repository.ErrNotFound
	}
	delete(o.objects, id)
	return nil
}

func (o *objectStore) Commit(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.committed = maps.Clone(o.objects)
	return nil
}

func (o *objectStore) WriteFile(name string, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.aside == nil {
		o.aside = map[string][]byte{}
	}
	o.aside[name] = bytes.Clone(data)
	return nil
}

// A fixture is a repository with archives, and what should be in them.
type fixture struct {
	t        *testing.T
	store    *objectStore
	key      *envelope.Key
	cat      *catalog.Catalog
	contents map[string]map[string][]byte // of the archives' files
}

// counters is a source of counter values for a key that is used once.
type counters struct {
	mu   sync.Mutex
	next uint64
}

func (c *counters) Reserve(blocks uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next += blocks
	return c.next - blocks, nil
}

func newFixture(t *testing.T, encrypted bool) *fixture {
	t.Helper()
	f := &fixture{t: t, store: &objectStore{objects: map[repository.ID][]byte{}}, key: envelope.NewPlaintext()}
	if encrypted {
		var err error
		if f.key, err = envelope.NewKeyfile(repository.ID{1}); err != nil {
			t.Fatal(err)
		}
		f.key.UseNonces(new(counters))
	}
	f.contents = map[string]map[string][]byte{}
	f.cat = f.catalog()
	return f
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// catalog reads the manifest.
func (f *fixture) catalog() *catalog.Catalog {
	f.t.Helper()
	env := f.store.objects[archive.ManifestID]
	cat, err := catalog.New(f.store, f.key, env)
	f.ok(err)
	return cat
}

func (f *fixture) put(data []byte) archive.Chunk {
	f.t.Helper()
	id := f.key.ID(data)
	env, there := f.store.objects[id]
	if !there {
		var err error
		env, err = f.key.Seal(nil, data)
		f.ok(err)
		f.ok(f.store.Put(f.t.Context(), id, env))
	}
	return archive.Chunk{ID: id, Size: uint32(len(data)), CSize: uint32(len(env))}
}

// file returns the item of a file, whose content is stored in chunks of a length.
func (f *fixture) file(path string, content []byte, length int) *archive.Item {
	f.t.Helper()
	it := &archive.Item{Path: path, Mode: 0o100644, HasChunks: true, MTime: archive.Nanos{Sec: 1}}
	for chunk := range slices.Chunk(content, length) {
		it.Chunks = append(it.Chunks, f.put(chunk))
	}
	return it
}

// record stores an archive's items and record, and returns the record's id.
func (f *fixture) record(name string, at time.Time, items ...*archive.Item) repository.ID {
	f.t.Helper()
	w := archive.NewItemWriter(f.key.ChunkSeed(), func(data []byte) (repository.ID, error) { return f.put(data).ID, nil })
	for _, it := range items {
		f.ok(w.Add(it))
	}
	ids, err := w.Flush()
	f.ok(err)
	a := &archive.Archive{Name: name, Items: ids, Cmdline: []string{"test"}, Hostname: "h", Username: "u", Time: at}
	return f.put(a.Encode()).ID
}

// add adds an archive to the manifest.
func (f *fixture) add(name string, items ...*archive.Item) repository.ID {
	f.t.Helper()
	at := time.Unix(int64(1000+len(f.cat.Manifest.Archives)), 0).UTC()
	id := f.record(name, at, items...)
	f.refer(name, id, at)
	return id
}

// refer makes the manifest name an archive.
func (f *fixture) refer(name string, id repository.ID, at time.Time) {
	f.t.Helper()
	archives := maps.Clone(f.cat.Manifest.Archives)
	archives[name] = archive.ArchiveRef{ID: id, Time: at}
	f.ok(f.cat.Save(f.t.Context(), f.store, archives))
	f.ok(f.store.Commit(f.t.Context()))
}

// check looks at all archives, and repairs if it is told to.
func (f *fixture) check(o Options, repair bool) (*Report, []Finding) {
	f.t.Helper()
	var found []Finding
	o.Report = func(fi Finding) {
		if fi.Err == nil || fi.String() == "" {
			f.t.Errorf("%+v says nothing", fi)
		}
		found = append(found, fi)
	}
	before := maps.Clone(f.store.objects)
	c := New(f.store, f.key, o)
	r, err := c.Run(f.t.Context())
	f.ok(err)
	if !maps.EqualFunc(before, f.store.objects, bytes.Equal) {
		f.t.Error("the check has changed something")
	}
	if int(r.Findings) != len(found) || r.OK() != (len(found) == 0) {
		f.t.Errorf("%d findings, reported %d", r.Findings, len(found))
	}
	if repair {
		_, err := c.Repair(f.t.Context())
		f.ok(err)
		f.cat = f.catalog()
	}
	return r, found
}

// repaired repairs, and makes sure that nothing is left to be found.
func (f *fixture) repaired(o Options) (*Report, []Finding) {
	f.t.Helper()
	r, found := f.check(o, true)
	for _, again := range []Options{{}, {VerifyData: true}} {
		if again.VerifyData && !o.VerifyData {
			continue
		}
		before := maps.Clone(f.store.objects)
		if _, found := f.check(again, true); len(found) > 0 {
			f.t.Errorf("after the repair (%+v): %v", again, found)
		}
		if !maps.EqualFunc(before, f.store.objects, bytes.Equal) {
			f.t.Error("a second repair has changed something")
		}
	}
	return r, found
}

// files reads an archive: its files' content, nil where something is missing.
func (f *fixture) files(name string) map[string][]byte {
	f.t.Helper()
	a, err := f.cat.Archive(f.t.Context(), name)
	f.ok(err)
	files := map[string][]byte{}
	for it, err := range f.cat.Items(f.t.Context(), a) {
		f.ok(err)
		content := []byte{}
		for _, c := range it.Chunks {
			data, err := f.cat.Get(f.t.Context(), c.ID)
			f.ok(err)
			if len(data) != int(c.Size) {
				f.t.Errorf("%s: a chunk has %d bytes, says the item, and %d", it.Path, c.Size, len(data))
			}
			content = append(content, data...)
		}
		files[it.Path] = content
	}
	return files
}

func kinds(found []Finding) string {
	var names []string
	for _, f := range found {
		names = append(names, string(f.Kind))
	}
	return fmt.Sprintf("%q", names)
}

func random(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

var errTransient = errors.New("the network is down")
