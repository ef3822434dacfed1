package fsck

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/internal/rawpack"
	"garret/repository"
)

// makeNewer gives an object the type that a newer garret may use.
func (f *fixture) makeNewer(id repository.ID) {
	f.t.Helper()
	env := bytes.Clone(f.store.objects[id])
	env[0] = byte(envelope.MaxType)
	f.store.objects[id] = env
}

// mustLeaveAlone checks and repairs, in every way, and expects findings of some kinds and that no byte changes.
func (f *fixture) mustLeaveAlone(verify []bool, want string) {
	f.t.Helper()
	before := maps.Clone(f.store.objects)
	for _, v := range verify {
		r, found := f.check(Options{VerifyData: v}, true)
		if got := kinds(found); got != want || r.Mends() || int(r.Unknown) == 0 {
			f.t.Errorf("verify %v: found %s, want %s: %v", v, got, want, found)
		}
		for _, fi := range found {
			if fi.Kind != Orphans && !errors.Is(fi.Err, repository.ErrNewer) {
				f.t.Errorf("%v is not said to be newer", fi)
			}
		}
		if !maps.EqualFunc(before, f.store.objects, bytes.Equal) || len(f.store.aside) > 0 {
			f.t.Fatalf("verify %v: something has changed", v)
		}
	}
}

func TestNewerChunkIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		it := f.file("a", []byte("aaaabbbbcccc"), 4)
		f.add("one", it, f.file("c", []byte("dddd"), 4))
		f.add("two", it)
		f.put([]byte("orphan"))
		f.makeNewer(it.Chunks[1].ID)
		f.mustLeaveAlone([]bool{true}, `["unknown chunk" "unknown chunk" "orphans"]`)
	})
}

func TestNewerRecordIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		id := f.add("one", f.file("a", []byte("aaaa"), 4))
		f.add("two", f.file("b", []byte("bbbb"), 4))
		f.makeNewer(id)
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive" "orphans"]`)
	})
}

func TestNewerItemsAreLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		items := f.manyItems("x", 20_000)
		f.add("one", items...)
		a, err := f.cat.Archive(t.Context(), "one")
		f.ok(err)
		f.makeNewer(a.Items[len(a.Items)/2])
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive"]`)
	})
}

// newerItem is a whole item that has its chunks in another form.
const newerItem = "\x83\xa6chunks\x91\x91\x01\xa4mode\xcd\x81\xa4\xa4path\xa1n"

func TestUnknownFormOfAnItemIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		stream := archive.AppendItem(nil, f.file("a", []byte("aaaa"), 4))
		stream = archive.AppendItem(append(stream, newerItem...), f.file("b", []byte("bbbb"), 4))
		at := time.Unix(1, 0).UTC()
		record := archive.Archive{Name: "one", Time: at, Items: []repository.ID{f.put(stream).ID}}
		f.refer("one", f.put(record.Encode()).ID, at)
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive"]`)
	})
}

// newerRecord returns an archive's record of version 2, in which something has another form.
func newerRecord(name string) []byte {
	b := rawpack.AppendMapHeader(nil, 4)
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "items"), "a tree instead of a list")
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "name"), name)
	b = rawpack.AppendRaw(rawpack.AppendRaw(b, "time"), "2030-01-02T03:04:05")
	return rawpack.AppendInt(rawpack.AppendRaw(b, "version"), 2)
}

func TestNewerVersionOfARecordIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", []byte("aaaa"), 4))
		f.refer("two", f.put(newerRecord("two")).ID, time.Unix(7, 0).UTC())
		f.put([]byte("of its items"))
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive" "orphans"]`)
	})
}

func TestNewerObjectWithoutReferenceIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", []byte("aaaa"), 4))
		f.put([]byte("orphan"))
		f.makeNewer(f.put([]byte("who knows what")).ID)
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive" "orphans"]`)
	})
}

func TestNewerManifestEndsTheCheck(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", []byte("aaaa"), 4))
		f.makeNewer(archive.ManifestID)
		if _, err := New(f.store, f.key, Options{VerifyData: true}).Run(t.Context()); !errors.Is(err, repository.ErrNewer) {
			t.Errorf("it is %v", err)
		}
	})
}

// TestNewerArchivesOutliveTheManifest loses the manifest of a repository in which a newer garret has made an archive.
func TestNewerArchivesOutliveTheManifest(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", []byte("aaaa"), 4))
		id := f.put(newerRecord("two")).ID
		item := f.put([]byte("of its items")).ID
		delete(f.store.objects, archive.ManifestID)
		r, _ := f.check(Options{}, true)
		if !slices.Equal(r.Found, []string{"one", "two"}) || !r.KeepsOrphans {
			t.Errorf("%+v", r)
		}
		if f.cat.Manifest.Archives["two"].ID != id || f.store.objects[item] == nil {
			t.Error("it is not in the new manifest, or its items are gone")
		}
		f.mustLeaveAlone([]bool{false, true}, `["unknown archive" "orphans"]`)
	})
}

// TestDamageBesideUnknownIsMended mends one archive, and leaves the other and its chunks as they are.
func TestDamageBesideUnknownIsMended(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		one := f.file("a", []byte("aaaabbbb"), 4)
		f.add("one", one)
		two := f.file("b", []byte("ccccdddd"), 4)
		f.add("two", two)
		delete(f.store.objects, one.Chunks[0].ID)
		f.makeNewer(two.Chunks[0].ID)
		before, record := f.store.objects[two.Chunks[0].ID], f.cat.Manifest.Archives["two"]
		r, found := f.check(Options{VerifyData: true}, true)
		if kinds(found) != `["lost chunk" "unknown chunk"]` || !r.Mends() {
			t.Errorf("found %v", found)
		}
		if !bytes.Equal(before, f.store.objects[two.Chunks[0].ID]) || f.cat.Manifest.Archives["two"] != record {
			t.Error("what is not known has changed")
		}
		if got := f.files("one"); string(got["a"]) != "\x00\x00\x00\x00bbbb" {
			t.Errorf("one is %q", got)
		}
		f.mustLeaveAlone([]bool{true}, `["unknown chunk" "orphans"]`) // the old record of the one is kept too
	})
}

// TestUnknownKeysOfRecordsOutliveARepair is about the manifest, its entries and the archives' records.
func TestUnknownKeysOfRecordsOutliveARepair(t *testing.T) {
	f := newFixture(t, false)
	it := f.file("a", []byte("aaaa"), 4)
	f.add("one", it)
	a, err := f.cat.Archive(t.Context(), "one")
	f.ok(err)
	a.Unknown = "\xa6hidden\xa1c"
	archives := maps.Clone(f.cat.Manifest.Archives)
	archives["one"] = archive.ArchiveRef{ID: f.put(a.Encode()).ID, Time: a.Time, Unknown: "\xa4tags\x90"}
	f.cat.Manifest.Unknown = "\xa3zoo\x01"
	f.ok(f.cat.Save(t.Context(), f.store, archives))
	delete(f.store.objects, it.Chunks[0].ID)
	f.repaired(Options{})
	a, err = f.cat.Archive(t.Context(), "one")
	f.ok(err)
	if m := f.cat.Manifest; a.Unknown != "\xa6hidden\xa1c" || m.Archives["one"].Unknown != "\xa4tags\x90" || m.Unknown != "\xa3zoo\x01" {
		t.Errorf("%+v, %+v", m, a)
	}
}
