package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"garret/internal/chunker"
	"garret/internal/envelope"
	"garret/repository"
)

// The repositories of testdata/golden were written by the reference; the JSON beside each is what it says of them.
const goldenPassphrase = "correct horse 1"

var goldenNames = []string{"archive-none", "archive-keyfile", "archive-passphrase"}

// goldenRepo is a golden repository with the key to it.
type goldenRepo struct {
	objects map[repository.ID][]byte // envelopes
	key     *envelope.Key
	want    goldenJSON
}

type goldenJSON struct {
	ID       string
	Objects  int
	Archives map[string]struct {
		ID, Hostname, Username, Time string
		Cmdline                      []goldenText
		Items                        []goldenItem
	}
}

type goldenItem struct {
	Path, Source          goldenText
	Mode, UID, GID        uint32
	User, Group           *string
	MTime                 string
	Chunks                [][3]any
	Rdev                  *uint64
	Xattrs                map[string]*string // base64
	ACLAccess, ACLDefault *string
	SHA256                string
}

// UnmarshalJSON reads an item whose keys have underscores.
func (g *goldenItem) UnmarshalJSON(data []byte) error {
	type plain goldenItem
	acl := struct {
		*plain
		Access  *string `json:"acl_access"`
		Default *string `json:"acl_default"`
	}{plain: (*plain)(g)}
	if err := json.Unmarshal(data, &acl); err != nil {
		return err
	}
	g.ACLAccess, g.ACLDefault = acl.Access, acl.Default
	return nil
}

// goldenText is text, or {"base64": ...} where it is not UTF-8.
type goldenText string

func (g *goldenText) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, (*string)(g))
	}
	var b struct{ Base64 []byte }
	err := json.Unmarshal(data, &b)
	*g = goldenText(b.Base64)
	return err
}

func openGolden(t testing.TB, name string) *goldenRepo {
	t.Helper()
	dir := filepath.Join("testdata", "golden")
	g := &goldenRepo{objects: readSegments(t, filepath.Join(dir, name))}
	text, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &g.want); err != nil {
		t.Fatal(err)
	}
	id, err := repository.ParseID(g.want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.objects) != g.want.Objects {
		t.Fatalf("%d objects, want %d", len(g.objects), g.want.Objects)
	}
	t.Setenv("GARRET_PASSPHRASE", goldenPassphrase)
	g.key, err = envelope.OpenKey(envelope.OpenOptions{
		RepositoryID: id, Location: name, Envelope: g.objects[ManifestID],
		KeysDirs: []string{filepath.Join(dir, "keys")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// readSegments returns the objects in a repository's segments, which are sound and wholly committed.
func readSegments(t testing.TB, dir string) map[repository.ID][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "data", "*", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments in %q: %v", dir, err)
	}
	number := func(name string) int {
		n, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	slices.SortFunc(names, func(a, b string) int { return number(a) - number(b) })
	objects := make(map[repository.ID][]byte)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for data = data[len("ATTICSEG"):]; len(data) > 0; {
			size, tag := binary.LittleEndian.Uint32(data[4:]), data[8]
			switch entry := data[:size]; tag {
			case 0:
				objects[repository.ID(entry[9:])] = entry[41:]
			case 1:
				delete(objects, repository.ID(entry[9:]))
			}
			data = data[size:]
		}
	}
	return objects
}

// get returns the data of an object.
func (g *goldenRepo) get(t testing.TB, id repository.ID) []byte {
	t.Helper()
	want := &id
	if id == ManifestID {
		want = nil
	}
	data, err := g.key.Open(want, g.objects[id])
	if err != nil {
		t.Fatalf("object %v: %v", id, err)
	}
	return data
}

// forArchives calls f for each archive of each golden repository.
func forArchives(t *testing.T, f func(t *testing.T, g *goldenRepo, name string, a *Archive)) {
	for _, repo := range goldenNames {
		t.Run(repo, func(t *testing.T) {
			g := openGolden(t, repo)
			m, err := DecodeManifest(g.get(t, ManifestID))
			if err != nil {
				t.Fatal(err)
			}
			for name, ref := range m.Archives {
				t.Run(name, func(t *testing.T) {
					a, err := DecodeArchive(g.get(t, ref.ID))
					if err != nil {
						t.Fatal(err)
					}
					f(t, g, name, a)
				})
			}
		})
	}
}

// items returns the items of an archive.
func (g *goldenRepo) items(t testing.TB, a *Archive) []*Item {
	t.Helper()
	var items []*Item
	var d ItemDecoder
	for _, id := range a.Items {
		d.Feed(g.get(t, id))
		for {
			it, ok, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			items = append(items, it)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return items
}

func TestEveryGoldenObjectOpensUnderItsID(t *testing.T) {
	for _, name := range goldenNames {
		g := openGolden(t, name)
		for id := range g.objects {
			g.get(t, id)
		}
	}
}

func TestGoldenRecordsAreWrittenAsTheyWereRead(t *testing.T) {
	for _, name := range goldenNames {
		g := openGolden(t, name)
		data := g.get(t, ManifestID)
		m, err := DecodeManifest(data)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Encode(); !bytes.Equal(got, data) {
			t.Errorf("%s: the manifest became\n%q, was\n%q", name, got, data)
		}
		if len(m.Archives) != len(g.want.Archives) {
			t.Errorf("%s: %d archives, want %d", name, len(m.Archives), len(g.want.Archives))
		}
	}
	forArchives(t, func(t *testing.T, g *goldenRepo, name string, a *Archive) {
		m, err := DecodeManifest(g.get(t, ManifestID))
		if err != nil {
			t.Fatal(err)
		}
		ref, want := m.Archives[name], g.want.Archives[name]
		if data := g.get(t, ref.ID); !bytes.Equal(a.Encode(), data) {
			t.Errorf("the archive became\n%q, was\n%q", a.Encode(), data)
		}
		var cmdline []string
		for _, arg := range want.Cmdline {
			cmdline = append(cmdline, string(arg))
		}
		if a.Name != name || ref.ID.String() != want.ID || a.Hostname != want.Hostname || a.Username != want.Username ||
			!slices.Equal(a.Cmdline, cmdline) || a.Time.Format("2006-01-02T15:04:05.999999") != want.Time || !ref.Time.Equal(a.Time) {
			t.Errorf("%+v, want %+v", a, want)
		}
		var stream, again []byte
		for _, id := range a.Items {
			stream = append(stream, g.get(t, id)...)
		}
		for _, it := range g.items(t, a) {
			again = AppendItem(again, it)
		}
		if !bytes.Equal(stream, again) {
			t.Errorf("the items became\n%q, were\n%q", again, stream)
		}
	})
}

func TestGoldenItemsAreWhatTheReferenceSays(t *testing.T) {
	forArchives(t, func(t *testing.T, g *goldenRepo, name string, a *Archive) {
		items, want := g.items(t, a), g.want.Archives[name].Items
		if len(items) != len(want) {
			t.Fatalf("%d items, want %d", len(items), len(want))
		}
		for i, w := range want {
			it := items[i]
			mtime := fmt.Sprintf("%d%09d", it.MTime.Sec, it.MTime.Nsec)
			if it.MTime.Sec < 0 && it.MTime.Nsec > 0 {
				mtime = fmt.Sprintf("-%d%09d", -it.MTime.Sec-1, 1_000_000_000-it.MTime.Nsec)
			}
			if it.Path != string(w.Path) || it.Source != string(w.Source) || it.Mode != w.Mode || it.UID != w.UID ||
				it.GID != w.GID || !same(it.User, w.User) || !same(it.Group, w.Group) || mtime != w.MTime ||
				!same(it.Rdev, w.Rdev) || !same(it.ACLAccess, w.ACLAccess) || !same(it.ACLDefault, w.ACLDefault) {
				t.Errorf("%+v (mtime %s), want %+v", it, mtime, w)
			}
			if len(it.Xattrs) != len(w.Xattrs) {
				t.Errorf("%q: xattrs %q", it.Path, it.Xattrs)
			}
			for name, value := range it.Xattrs {
				if text := w.Xattrs[name]; text != nil && *text != base64.StdEncoding.EncodeToString(value) || text == nil && len(value) > 0 {
					t.Errorf("%q: xattr %q is %q", it.Path, name, value)
				}
			}
			if it.HasChunks != (w.Chunks != nil) || len(it.Chunks) != len(w.Chunks) {
				t.Errorf("%q: chunks %v, want %v", it.Path, it.Chunks, w.Chunks)
				continue
			}
			digest := sha256.New()
			for j, c := range it.Chunks {
				if fmt.Sprintln(c.ID, c.Size, c.CSize) != fmt.Sprintln(w.Chunks[j][:]...) {
					t.Errorf("%q: chunk %v, want %v", it.Path, c, w.Chunks[j])
				}
				data := g.get(t, c.ID)
				if len(data) != int(c.Size) || len(g.objects[c.ID]) != int(c.CSize) {
					t.Errorf("%q: chunk %v has %d bytes, stored %d", it.Path, c, len(data), len(g.objects[c.ID]))
				}
				digest.Write(data)
			}
			if got := hex.EncodeToString(digest.Sum(nil)); it.HasChunks && got != w.SHA256 {
				t.Errorf("%q: content %s, want %s", it.Path, got, w.SHA256)
			}
		}
	})
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func TestGoldenContentIsCutAndNamedAsItWas(t *testing.T) {
	forArchives(t, func(t *testing.T, g *goldenRepo, _ string, a *Archive) {
		c := chunker.New(g.key.ChunkSeed())
		for _, it := range g.items(t, a) {
			var content []byte
			var want, got []repository.ID
			for _, chunk := range it.Chunks {
				content = append(content, g.get(t, chunk.ID)...)
				want = append(want, chunk.ID)
			}
			c.Reset(bytes.NewReader(content))
			for {
				data, err := c.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, g.key.ID(data))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", it.Path, got, want)
			}
		}
	})
}

func TestGoldenItemStreamsAreCutAndNamedAsTheyWere(t *testing.T) {
	forArchives(t, func(t *testing.T, g *goldenRepo, _ string, a *Archive) {
		w := NewItemWriter(g.key.ChunkSeed(), func(data []byte) (repository.ID, error) { return g.key.ID(data), nil })
		for _, it := range g.items(t, a) {
			if err := w.Add(it); err != nil {
				t.Fatal(err)
			}
		}
		ids, err := w.Flush()
		if err != nil || !slices.Equal(ids, a.Items) {
			t.Errorf("%v, %v, want %v", ids, err, a.Items)
		}
	})
}
