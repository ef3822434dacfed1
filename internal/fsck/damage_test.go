package fsck

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"garret/internal/archive"
	"garret/internal/campaign"
	"garret/internal/rawpack"
	"garret/repository"
)

// both runs a test in a repository that is encrypted, and in one that is not.
func both(t *testing.T, test func(t *testing.T, f *fixture)) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypted), func(t *testing.T) { test(t, newFixture(t, encrypted)) })
	}
}

func TestSoundArchivesAreSound(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		if r, found := f.check(Options{}, true); len(found) > 0 || r.Archives != 0 {
			t.Errorf("an empty repository: %+v, %v", r, found)
		}
		f.add("one", f.file("a", []byte("here"), 2), f.file("b", nil, 1), &archive.Item{Path: "d", Mode: 0o40755})
		f.add("two", f.file("a", []byte("here"), 2))
		f.add("two.checkpoint")
		for _, o := range []Options{{}, {VerifyData: true}, {VerifyData: true, Workers: 1}} {
			r, found := f.check(o, false)
			if len(found) > 0 || r.Archives != 3 || r.Items != 4 || r.Chunks != 2 {
				t.Errorf("%+v, %v", r, found)
			}
			if want := r.Objects - 1; o.VerifyData && r.Verified != want {
				t.Errorf("%d objects verified, want %d", r.Verified, want)
			}
		}
	})
}

func TestLostChunkIsReplacedByZerosAndHealed(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		content := []byte("11112222333344445")
		f.add("one", f.file("a", content, 4), f.file("b", []byte("11119999"), 4))
		f.add("two", f.file("c", content, 4), &archive.Item{Path: "link", Mode: 0o100644, Source: "c"})
		f.add("three", f.file("d", []byte("1111"), 4))
		lost := f.key.ID([]byte("2222"))
		whole := f.store.objects[lost]
		delete(f.store.objects, lost)
		delete(f.store.objects, f.key.ID([]byte("3333")))

		_, found := f.check(Options{}, false)
		if got, want := kinds(found), `["lost chunk" "lost chunk" "damaged link"]`; got != want {
			t.Fatalf("found %s, want %s", got, want)
		}
		if a := found[0]; a.Archive != "one" || a.Path != "a" || a.Offset != 4 || a.Size != 8 || *a.Object != lost {
			t.Errorf("found %+v", a)
		}
		if l := found[2]; l.Archive != "two" || l.Path != "link" {
			t.Errorf("found %+v", l)
		}
		third := f.cat.Manifest.Archives["three"]
		r, _ := f.repaired(Options{})
		if r.Rewritten != 2 || r.Patched != 2 || r.PatchedBytes != 16 || f.cat.Manifest.Archives["three"] != third {
			t.Errorf("%+v", r)
		}
		patched := []byte("1111\x00\x00\x00\x00\x00\x00\x00\x0044445")
		if got := f.files("one"); !bytes.Equal(got["a"], patched) || string(got["b"]) != "11119999" {
			t.Errorf("one is %q", got)
		}
		if r, _ := f.check(Options{}, false); r.Wounded != 2 {
			t.Errorf("%d files have been patched", r.Wounded)
		}

		// A second loss, and the first one is stored again.
		delete(f.store.objects, f.key.ID([]byte("4444")))
		f.store.objects[lost] = whole
		_, found = f.repaired(Options{VerifyData: true})
		if got, want := kinds(found), `["healable" "lost chunk" "healable" "lost chunk" "damaged link"]`; got != want {
			t.Errorf("found %s, want %s", got, want)
		}
		if got, want := f.files("two")["c"], "11112222\x00\x00\x00\x00\x00\x00\x00\x005"; string(got) != want {
			t.Errorf("c is %q", got)
		}

		// A backup heals the rest.
		if n, err := Heal(t.Context(), f.store, f.cat, nil); n != 0 || err != nil {
			t.Errorf("healed %d files, %v", n, err)
		}
		f.add("again", f.file("x", content, 4))
		n, err := Heal(t.Context(), f.store, f.cat, nil)
		if n != 2 || err != nil {
			t.Errorf("healed %d files, %v", n, err)
		}
		f.cat = f.catalog()
		if got := f.files("one")["a"]; !bytes.Equal(got, content) {
			t.Errorf("a is %q", got)
		}
		if r, found := f.check(Options{VerifyData: true}, false); len(found) > 0 || r.Wounded > 0 {
			t.Errorf("%+v: %v", r, found)
		}
		if lost := f.cat.Manifest.Lost(); len(lost.Archives)+len(lost.Chunks) > 0 {
			t.Errorf("still lost: %+v", lost)
		}
	})
}

func TestHealLeavesOtherDamageAlone(t *testing.T) {
	f := newFixture(t, false)
	content := []byte("aaaabbbb")
	f.add("one", f.file("a", content, 4))
	delete(f.store.objects, f.key.ID([]byte("bbbb")))
	f.repaired(Options{})
	f.add("two", f.file("b", content, 4), f.file("c", []byte("cccc"), 4))
	delete(f.store.objects, f.key.ID([]byte("cccc")))
	orphan := f.put([]byte("orphan")).ID
	two := f.cat.Manifest.Archives["two"]
	if n, err := Heal(t.Context(), f.store, f.cat, nil); n != 1 || err != nil {
		t.Fatalf("healed %d, %v", n, err)
	}
	f.cat = f.catalog()
	if f.cat.Manifest.Archives["two"] != two || f.store.objects[orphan] == nil {
		t.Error("more than was healed has changed")
	}
	if _, found := f.check(Options{}, false); kinds(found) != `["lost chunk" "orphans"]` {
		t.Errorf("found %v", found)
	}
}

func TestDamagedContentIsSeenByVerifyingAlone(t *testing.T) {
	for _, damage := range []string{"another's envelope", "wrong content"} {
		both(t, func(t *testing.T, f *fixture) {
			f.add("one", f.file("a", []byte("aaaabbbbcccc"), 4), f.file("z", make([]byte, 4), 4))
			bad := f.key.ID([]byte("bbbb"))
			env := f.store.objects[f.key.ID([]byte("cccc"))]
			if damage == "wrong content" {
				env = bytes.Clone(f.store.objects[bad])
				env[len(env)-1] ^= 1
			}
			f.store.objects[bad] = env
			if _, found := f.check(Options{}, false); len(found) > 0 {
				t.Errorf("found %v without looking", found)
			}
			r, found := f.repaired(Options{VerifyData: true})
			if len(found) != 1 || found[0].Kind != LostChunk || found[0].Offset != 4 || r.Damaged != 1 {
				t.Errorf("found %v, %+v", found, r)
			}
			if got := f.store.aside[DamagedPrefix+bad.String()]; !bytes.Equal(got, env) {
				t.Errorf("%x was set aside, want %x", got, env)
			}
			if got := f.files("one")["a"]; string(got) != "aaaa\x00\x00\x00\x00cccc" {
				t.Errorf("a is %q", got)
			}
		})
	}
}

func TestLostZerosAreReplacedByThemselves(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", make([]byte, 8), 4))
		zeros := f.key.ID(make([]byte, 4))
		f.store.objects[zeros] = []byte("garbage")
		f.repaired(Options{VerifyData: true})
		if got := f.files("one")["a"]; !bytes.Equal(got, make([]byte, 8)) {
			t.Errorf("a is %q", got)
		}
		if r, _ := f.check(Options{}, false); r.Wounded > 0 {
			t.Error("it counts as patched")
		}
		if n, err := Heal(t.Context(), f.store, f.cat, nil); n != 0 || err != nil {
			t.Errorf("healed %d files, %v", n, err)
		}
		if f.cat = f.catalog(); len(f.cat.Manifest.Lost().Chunks) > 0 {
			t.Error("the zeros count as lost, and each backup would look for files to heal")
		}
	})
}

// manyItems makes enough items for a stream of several chunks.
func (f *fixture) manyItems(prefix string, n int) []*archive.Item {
	var items []*archive.Item
	for i := range n {
		items = append(items, f.file(fmt.Sprintf("%s/%06d", prefix, i), fmt.Appendf(nil, "%s%d", prefix, i%50), 100))
	}
	return items
}

// wholeItems counts the items that no byte is lost of when some chunks of their stream are.
func (f *fixture) wholeItems(items []*archive.Item, chunks, bad []repository.ID) int {
	f.t.Helper()
	var stream []bool // whether each byte is still there
	for _, id := range chunks {
		data, err := f.cat.Get(f.t.Context(), id)
		f.ok(err)
		stream = append(stream, slices.Repeat([]bool{!slices.Contains(bad, id)}, len(data))...)
	}
	n := 0
	for _, it := range items {
		length := len(archive.AppendItem(nil, it))
		if !slices.Contains(stream[:length], false) {
			n++
		}
		stream = stream[length:]
	}
	return n
}

func TestLostItemsAreSkipped(t *testing.T) {
	for _, at := range []string{"first", "middle", "last", "all"} {
		for _, damage := range []string{"missing", "damaged"} {
			t.Run(at+" "+damage, func(t *testing.T) {
				both(t, func(t *testing.T, f *fixture) {
					items := f.manyItems("x", 8000)
					f.add("one", items...)
					f.add("two", append(slices.Clone(items), f.file("y", []byte("last"), 9))...)
					a, err := f.cat.Archive(t.Context(), "one")
					f.ok(err)
					if len(a.Items) < 4 {
						t.Fatalf("only %d chunks of items", len(a.Items))
					}
					bad := a.Items[:1]
					switch at {
					case "middle":
						bad = a.Items[len(a.Items)/2:][:1]
					case "last":
						bad = a.Items[len(a.Items)-1:]
					case "all":
						bad = a.Items
					}
					want := f.wholeItems(items, a.Items, bad)
					for _, id := range bad {
						if damage == "damaged" {
							f.store.objects[id][len(f.store.objects[id])-1] ^= 1 // of the sum: others may change nothing
						} else {
							delete(f.store.objects, id)
						}
					}
					r, found := f.repaired(Options{})
					if r.Gaps == 0 || found[0].Kind != LostItems || found[0].Archive != "one" || *found[0].Object != bad[0] {
						t.Errorf("found %v", found)
					}
					if damage == "damaged" && len(f.store.aside) != len(bad) {
						t.Errorf("%d objects are set aside", len(f.store.aside))
					}
					got := f.files("one")
					if len(got) != want {
						t.Errorf("%d items are left, want %d", len(got), want)
					}
					for path, content := range got {
						var i int
						fmt.Sscanf(path, "x/%d", &i)
						if want := fmt.Sprintf("x%d", i%50); string(content) != want {
							t.Fatalf("%s is %q, want %q", path, content, want)
						}
					}
				})
			})
		}
	}
}

func TestHardLinksToLostItemsAreLeftOut(t *testing.T) {
	f := newFixture(t, false)
	items := f.manyItems("x", 4000)
	link := func(to string) *archive.Item { return &archive.Item{Path: "link to " + to, Mode: 0o100644, Source: to} }
	f.add("one", append(items, link("x/000000"), link("x/003999"))...)
	a, err := f.cat.Archive(t.Context(), "one")
	f.ok(err)
	delete(f.store.objects, a.Items[0])
	r, found := f.repaired(Options{})
	if kinds(found) != `["lost items" "lost link" "orphans"]` && kinds(found) != `["lost items" "lost link"]` || found[1].Path != "link to x/000000" ||
		r.LostLinks != 1 {
		t.Errorf("found %v", found)
	}
	got := f.files("one")
	if _, there := got["link to x/000000"]; there {
		t.Error("the link is still there")
	}
	if _, there := got["link to x/003999"]; !there {
		t.Error("the other link is not there any more")
	}
}

func TestGarbageAmongItemsIsSkipped(t *testing.T) {
	for _, garbage := range []string{ // none begins with what could be the value of a key: that would be a newer item, not garbage
		"\xc1" + strings.Repeat("\x01garbage \xff", 1000),
		"\xc1" + strings.Repeat("\x01garbage \x87\xa3gid\x05\xff", 1000), // looks like items within each other
		"\x87\xa3gid\xdb\x1f\xff\xff\xff",                                // a text of half a gigabyte
		strings.Repeat("\x87\xa3gid\x01\xdd\x00\xff\xff\xff", 100),       // long lists
	} {
		both(t, func(t *testing.T, f *fixture) { garbageAmongItems(t, f, garbage) })
	}
}

// garbageAmongItems puts garbage into an archive of 3000 items, of which all but a few must be left.
func garbageAmongItems(t *testing.T, f *fixture, content string) {
	items := f.manyItems("x", 3000)
	f.add("one", items...)
	a, err := f.cat.Archive(t.Context(), "one")
	f.ok(err)
	garbage := f.put([]byte(content)).ID
	a.Items = slices.Insert(slices.Clone(a.Items), 1, garbage)
	f.refer("one", f.put(a.Encode()).ID, a.Time)
	_, found := f.repaired(Options{})
	if len(found) == 0 || found[0].Kind != LostItems || found[0].Archive != "one" {
		t.Errorf("found %v", found)
	}
	if got := f.files("one"); len(got) < 2990 {
		t.Errorf("%d items are left", len(got))
	}
	if f.store.objects[garbage] != nil {
		t.Error("the garbage is still there")
	}
}

func TestLostRecordsAreForgotten(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		chunk := f.put([]byte("no archive")).ID
		f.add("sound", f.file("a", []byte("no archive"), 100))
		delete(f.store.objects, f.add("gone", f.file("b", []byte("b"), 9), f.file("bb", []byte("lost too"), 9),
			&archive.Item{Path: "link", Mode: 0o100644, Source: "b"}, &archive.Item{Path: "no link", Mode: 0o100644, Source: "?"}))
		delete(f.store.objects, f.key.ID([]byte("lost too")))
		damaged := f.add("damaged", f.file("c", []byte("c"), 9))
		f.store.objects[damaged][len(f.store.objects[damaged])-1] ^= 1
		f.refer("chunk", chunk, time.Unix(5000, 0))
		f.refer("never", repository.ID{0xff}, time.Unix(5001, 0))
		item := f.put(archive.AppendItem(nil, &archive.Item{Path: "p"})).ID
		f.refer("item", item, time.Unix(5002, 0))
		f.refer("manifest", archive.ManifestID, time.Unix(5003, 0))

		r, found := f.repaired(Options{})
		if got, want := strings.Join(r.Dropped, " "), "gone damaged chunk never item manifest"; got != want {
			t.Errorf("forgotten: %s, want %s", got, want)
		}
		var records []Finding
		for _, fi := range found {
			if fi.Kind != LostChunk {
				records = append(records, fi)
			}
		}
		for _, fi := range records[:6] {
			if fi.Kind != LostArchive {
				t.Errorf("found %v", fi)
			}
		}
		if got := f.files("sound"); string(got["a"]) != "no archive" || len(f.cat.Manifest.Archives) != 2 {
			t.Errorf("left: %q in %v", got, f.cat.Manifest.Archives)
		}
		got := f.files("salvaged")
		_, linked := got["link"]
		_, dangling := got["no link"]
		if r.SalvagedAs != "salvaged" || string(got["b"]) != "b" || string(got["c"]) != "c" || len(got["bb"]) != 8 || !linked || dangling {
			t.Errorf("salvaged: %q", got)
		}
	})
}

func TestArchiveOfALaterVersionIsLeftAlone(t *testing.T) {
	f := newFixture(t, false)
	record := rawpack.AppendMapHeader(nil, 1)
	record = rawpack.AppendInt(rawpack.AppendRaw(record, "version"), 2)
	id := f.put(record).ID
	f.refer("new", id, time.Unix(1, 0))
	orphan := f.put([]byte("perhaps it needs this")).ID
	r, found := f.check(Options{}, true)
	if kinds(found) != `["unknown archive" "orphans"]` || !r.KeepsOrphans {
		t.Errorf("found %v", found)
	}
	if f.store.objects[id] == nil || f.store.objects[orphan] == nil || len(f.cat.Manifest.Archives) != 1 {
		t.Error("something was deleted")
	}
}

func TestLostManifestIsMadeAnew(t *testing.T) {
	for _, damage := range []string{"missing", "damaged", "no manifest"} {
		t.Run(damage, func(t *testing.T) {
			both(t, func(t *testing.T, f *fixture) {
				f.add("one", f.file("a", []byte("aaaa"), 4))
				f.add("two", f.file("b", []byte("bbbb"), 4))
				refs := maps.Clone(f.cat.Manifest.Archives)
				double := f.record("one", time.Unix(9000, 0), f.file("c", []byte("cccc"), 4))
				// What somebody has stored that looks like an archive is none.
				fake := &archive.Archive{Name: "fake", Cmdline: []string{}, Time: time.Unix(1, 0)}
				f.add("three", f.file("fake", fake.Encode(), 1000))
				f.put([]byte("orphan"))
				switch damage {
				case "missing":
					delete(f.store.objects, archive.ManifestID)
				case "damaged":
					f.store.objects[archive.ManifestID] = []byte{byte(f.key.Type()), 0xff, 2, 3}
				case "no manifest":
					env, err := f.key.Seal(nil, []byte("something else"))
					f.ok(err)
					f.store.objects[archive.ManifestID] = env
				}
				_, found := f.repaired(Options{})
				if got, want := kinds(found), `["lost manifest" "not an archive" "orphans"]`; got != want {
					t.Errorf("found %s, want %s", got, want)
				}
				got := f.cat.Manifest.Archives
				if len(got) != 4 || got["one"] != refs["one"] || got["two"] != refs["two"] || got["one.1"].ID != double {
					t.Errorf("the archives are %v", got)
				}
				if files := f.files("one.1"); string(files["c"]) != "cccc" {
					t.Errorf("one.1 is %q", files)
				}
				if damage != "missing" && f.store.aside[DamagedPrefix+archive.ManifestID.String()] == nil {
					t.Error("the manifest is not set aside")
				}
			})
		})
	}
}

func TestWithoutAnyArchiveLeftNothingIsDeleted(t *testing.T) {
	f := newFixture(t, true)
	record := f.add("one", f.file("a", []byte("aaaa"), 4))
	delete(f.store.objects, record)
	delete(f.store.objects, archive.ManifestID)
	n := len(f.store.objects)
	orphan := f.put([]byte("orphan")).ID
	r, _ := f.check(Options{}, true)
	if !r.KeepsOrphans || len(f.store.objects) < n || f.store.objects[orphan] == nil {
		t.Errorf("%+v, and %d objects, where there were %d", r, len(f.store.objects), n)
	}
	if got := f.files("salvaged"); string(got["a"]) != "aaaa" {
		t.Errorf("salvaged: %q", got)
	}
}

func TestManifestOfALaterVersionIsAnError(t *testing.T) {
	f := newFixture(t, false)
	env, err := f.key.Seal(nil, append(rawpack.AppendMapHeader(nil, 1), "\xa7version\x02"...))
	f.ok(err)
	f.store.objects[archive.ManifestID] = env
	if _, err := New(f.store, f.key, Options{}).Run(t.Context()); !errors.Is(err, repository.ErrNewer) {
		t.Errorf("it is %v", err)
	}
}

func TestOrphansAreDeletedAndOtherObjectsAreNot(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		f.add("one", f.file("a", []byte("aaaa"), 4))
		orphan := f.put([]byte("orphan")).ID
		other := repository.ID{7}
		f.store.objects[other] = []byte("of another program")
		r, found := f.repaired(Options{VerifyData: true})
		if kinds(found) != `["orphans"]` || r.Orphans != 1 || r.OrphanBytes == 0 || r.Foreign != 1 {
			t.Errorf("%+v", r)
		}
		if f.store.objects[orphan] != nil || f.store.objects[other] == nil {
			t.Error("not the orphan, or more than it, was deleted")
		}
	})
}

func TestWrongSizeIsCorrected(t *testing.T) {
	both(t, func(t *testing.T, f *fixture) {
		it := f.file("a", []byte("aaaabbbb"), 4)
		it.Chunks[1].Size = 7
		f.add("one", it)
		r, found := f.repaired(Options{VerifyData: true})
		if len(found) != 1 || found[0].Kind != WrongSize || found[0].Path != "a" || found[0].Offset != 4 || r.Resized != 1 {
			t.Errorf("found %v", found)
		}
		if got := f.files("one")["a"]; string(got) != "aaaabbbb" {
			t.Errorf("a is %q", got)
		}
	})
}

func TestHugeSizeOfALostChunkIsNotBelieved(t *testing.T) {
	f := newFixture(t, false)
	f.add("one", &archive.Item{
		Path: "a", Mode: 0o100644, HasChunks: true,
		Chunks: []archive.Chunk{{ID: repository.ID{1}, Size: 1<<32 - 1}},
	})
	f.repaired(Options{})
	if got := len(f.files("one")["a"]); got > 64<<20 {
		t.Errorf("%d bytes", got)
	}
}

func TestUnknownKeysOfItemsOutliveARepair(t *testing.T) {
	f := newFixture(t, false)
	it := f.file("a", []byte("aaaa"), 4)
	it.Unknown = "\xa5atime\x07"
	f.add("one", it, f.file("b", []byte("bbbb"), 4))
	delete(f.store.objects, f.key.ID([]byte("bbbb")))
	f.repaired(Options{})
	a, err := f.cat.Archive(t.Context(), "one")
	f.ok(err)
	for it, err := range f.cat.Items(t.Context(), a) {
		f.ok(err)
		if it.Path == "a" && it.Unknown != "\xa5atime\x07" {
			t.Errorf("they are %v", it.Unknown)
		}
		if it.Patched() != (it.Path == "b") {
			t.Errorf("%s is patched: %v", it.Path, it.Patched())
		}
	}
}

func TestErrorsOfTheStoreEndTheCheck(t *testing.T) {
	f := newFixture(t, false)
	f.add("one", f.file("a", []byte("aaaa"), 4))
	f.put([]byte("orphan"))
	for id := range f.store.objects {
		f.store.failing = map[repository.ID]error{id: errTransient}
		for _, o := range []Options{{}, {VerifyData: true}} {
			c := New(f.store, f.key, o)
			_, err := c.Run(t.Context())
			isChunk := id == f.key.ID([]byte("aaaa"))
			if isChunk && !o.VerifyData {
				f.ok(err)
				continue
			}
			if !errors.Is(err, errTransient) {
				t.Errorf("%v: %v", id, err)
			}
			if _, err := c.Repair(t.Context()); err == nil {
				t.Error("it repairs all the same")
			}
		}
	}
	// What the store itself finds damaged is for the store to repair.
	f.store.failing = map[repository.ID]error{f.key.ID([]byte("aaaa")): repository.ErrIntegrity}
	c := New(f.store, f.key, Options{VerifyData: true})
	if r, err := c.Run(t.Context()); err != nil || !r.StoreDamaged || r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Repair(t.Context()); !errors.Is(err, ErrStoreDamaged) {
		t.Errorf("the repair: %v", err)
	}
}

func TestWhatIsTakenAsLostIsNotRepaired(t *testing.T) {
	f := newFixture(t, false)
	f.add("one", f.file("a", []byte("aaaa"), 4))
	gone := f.key.ID([]byte("aaaa"))
	c := New(f.store, f.key, Options{Lost: func(id repository.ID) bool { return id == gone }})
	if r, err := c.Run(t.Context()); err != nil || r.Patched != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Repair(t.Context()); err == nil {
		t.Error("repaired")
	}
}

func TestSharedItemsAreReadOnce(t *testing.T) {
	f := newFixture(t, true)
	items := f.manyItems("x", 5000)
	for i := range 10 {
		f.add(fmt.Sprint(i), append(slices.Clone(items), f.file(fmt.Sprint("z", i), []byte("z"), 9))...)
	}
	f.store.gets = 0
	r, found := f.check(Options{}, false)
	if len(found) > 0 || r.Items != 10*5001 {
		t.Errorf("%d items, %v", r.Items, found)
	}
	a, err := f.cat.Archive(t.Context(), "0")
	f.ok(err)
	if limit := len(a.Items) + 10*6; f.store.gets > limit {
		t.Errorf("%d reads for 10 archives of %d chunks of items each", f.store.gets, len(a.Items))
	}
}

// TestRandomDamage deletes and replaces objects at random. A repair makes everything consistent, and what was not touched
// is as it was.
func TestRandomDamage(t *testing.T) {
	rounds := campaign.Share(t, 60, 12)
	r := random(t)
	for round := range rounds {
		f := newFixture(t, round%2 == 0)
		var items []*archive.Item
		want := map[string][]byte{}
		add := func(path string) {
			content := noise(r, r.IntN(40))
			items = append(items, f.file(path, content, 1+r.IntN(12)))
			want[path] = content
		}
		for i := range 200 + r.IntN(1000) {
			add(fmt.Sprintf("shared/%d", i))
		}
		shared := items
		chunks := map[string]map[string][]repository.ID{} // archive, path
		for n := range 1 + r.IntN(4) {
			name := fmt.Sprint("archive", n)
			items = slices.Clone(shared[r.IntN(10):])
			add(fmt.Sprintf("own/%d", n))
			f.add(name, items...)
			chunks[name] = map[string][]repository.ID{}
			for _, it := range items {
				for _, c := range it.Chunks {
					chunks[name][it.Path] = append(chunks[name][it.Path], c.ID)
				}
			}
		}
		ids := slices.SortedFunc(maps.Keys(f.store.objects), func(a, b repository.ID) int { return bytes.Compare(a[:], b[:]) })
		touched := map[repository.ID]bool{}
		for range 1 + r.IntN(20) {
			id := ids[r.IntN(len(ids))]
			touched[id] = true
			switch env := f.store.objects[id]; {
			case env == nil:
			case r.IntN(3) == 0:
				delete(f.store.objects, id)
			case r.IntN(2) == 0:
				f.store.objects[id] = f.store.objects[ids[r.IntN(len(ids))]]
			default:
				env = bytes.Clone(env)
				i := r.IntN(len(env))
				env[i] ^= byte(1 + r.IntN(255))
				if i < 2 { // the type and the compression: a small one may be that of a newer garret
					env[i] |= 0x80
				}
				f.store.objects[id] = env
			}
			if f.store.objects[id] == nil {
				delete(f.store.objects, id)
			}
		}
		metadata := func(name string) (whole bool) { // before the repair: whether the archive's record and items are untouched
			ref, ok := f.cat.Manifest.Archives[name]
			if !ok || touched[ref.ID] {
				return false
			}
			data, err := f.cat.Get(t.Context(), ref.ID)
			f.ok(err)
			a, err := archive.DecodeArchive(data)
			f.ok(err)
			return !slices.ContainsFunc(a.Items, func(id repository.ID) bool { return touched[id] })
		}
		whole := map[string]bool{}
		for name := range chunks {
			whole[name] = metadata(name)
		}
		f.repaired(Options{VerifyData: true})
		for name := range chunks {
			if _, ok := f.cat.Manifest.Archives[name]; !ok {
				if whole[name] {
					t.Errorf("round %d: archive %s has vanished", round, name)
				}
				continue
			}
			got := f.files(name)
			for path, ids := range chunks[name] {
				content, ok := got[path]
				if !ok && !whole[name] {
					continue
				}
				if slices.ContainsFunc(ids, func(id repository.ID) bool { return touched[id] }) {
					continue
				}
				if !bytes.Equal(content, want[path]) {
					t.Errorf("round %d: %s in %s is %q, want %q", round, path, name, content, want[path])
				}
			}
		}
		if t.Failed() {
			return
		}
	}
}
