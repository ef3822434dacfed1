package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/repository/segment"
	"garret/repository/storage"
)

// A layout is what a folder holds: files by their path, and folders where the path ends with a slash.
type layout map[string]string

func (l layout) make(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "repo")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range l {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// with returns the layout with other files in it; one whose content is "-" is left out.
func (l layout) with(other layout) layout {
	all := maps.Clone(l)
	maps.Copy(all, other)
	maps.DeleteFunc(all, func(_, content string) bool { return content == "-" })
	return all
}

const (
	borgReadme = "This is a Borg Backup repository.\nSee https://borgbackup.readthedocs.io/\n"
	borgKeys   = "append_only = 0\nstorage_quota = 0\nadditional_free_space = 0\n"
	plainKeys  = "[repository]\nversion = 1\nsegments_per_dir = 1000\nmax_segment_size = 524288000\n" +
		"id = cb77666061b35f1a02ec4d16f0fd14ea49e19dccb5a4967208aa6b8aa530551a\n"
)

var (
	commit    = string(segment.CommitEntry[:])
	borgOne   = layout{"README": borgReadme, "config": plainKeys + borgKeys, "data/0/1": segment.BorgMagic + commit, "index.1": "BORG_IDX..."}
	atticOwn  = layout{"README": storage.ReadmeText, "config": plainKeys, "data/0/1": segment.Magic + commit, "index.1": "ATTICIDX..."}
	resticOne = layout{"config": "\x8a\x01\xff", "data/00/": "", "index/": "", "keys/0a": "{}", "locks/": "", "snapshots/": ""}
)

// everyWay calls do with each way to come at the repository in a folder that writes, repairs or makes one.
func everyWay(do func(what string, open func(path string) error)) {
	ctx := context.Background()
	do("open", func(path string) error {
		r, err := Open(ctx, path, &Options{Exclusive: true})
		return closed(r, err)
	})
	do("open to read", func(path string) error {
		r, err := Open(ctx, path, &Options{ReadOnly: true})
		return closed(r, err)
	})
	do("repair", func(path string) error {
		r, err := OpenForCheck(ctx, path, &Options{Exclusive: true})
		if err != nil {
			return err
		}
		_, err = r.Check(ctx, CheckOptions{Repair: true})
		return errors.Join(err, r.Close())
	})
	do("create", func(path string) error {
		r, err := Create(ctx, path, nil)
		return closed(r, err)
	})
}

func closed(r *Repository, err error) error {
	if err == nil {
		r.Close()
	}
	return err
}

// treeOf returns all that there is to see of a folder.
func treeOf(t *testing.T, root string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(b)
		}
		tree[path] = info.Mode().String() + " " + info.ModTime().String() + " " + content
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestForeignRepositoriesAreRecognised(t *testing.T) {
	for name, c := range map[string]struct {
		layout layout
		what   string
	}{
		"Borg 1":                             {borgOne, "a Borg 1 repository"},
		"Borg 1, another README":             {borgOne.with(layout{"README": "mine"}), "a Borg 1 repository"},
		"Borg 1, no README, no keys":         {borgOne.with(layout{"README": "-", "config": plainKeys}), "a Borg 1 repository"},
		"Borg 1, no README, index":           {borgOne.with(layout{"README": "-", "config": plainKeys, "data/0/1": "-"}), "a Borg 1 repository"},
		"Borg 1, only its config":            {layout{"config": plainKeys + borgKeys}, "a Borg 1 repository"},
		"Borg 1, no config":                  {borgOne.with(layout{"config": "-"}), "a Borg 1 repository"},
		"Borg 1 of old":                      {borgOne.with(layout{"README": "This is a Borg repository\n"}), "a Borg 1 repository"},
		"Borg 1, converted, but for its end": {atticOwn.with(layout{"data/0/1": segment.BorgMagic + commit}), "a Borg 1 repository"},
		"Borg 2, as it began":                {borgOne.with(layout{"config": strings.Replace(plainKeys, "= 1\n", "= 2\n", 1)}), "a Borg 2 repository"},
		"Borg 2":                             {layout{"config/readme": borgReadme, "config/version": "3", "archives/": "", "keys/": "", "packs/": ""}, "a Borg 2 repository"},
		"restic":                             {resticOne, "a restic repository"},
		"kopia":                              {layout{"kopia.repository.f": "{}", "kopia.blobcfg.f": "x", ".shards": "{}"}, "a kopia repository"},
		"bupstash":                           {layout{"data/": "", "items/": "", "meta/schema_version": "7", "repo.lock": ""}, "a bupstash repository"},
		"bupstash of old":                    {layout{"bupstash.sqlite3": "SQLite", "data/": ""}, "a bupstash repository"},
		"duplicacy":                          {layout{"chunks/": "", "config": "{}", "snapshots/": ""}, "a duplicacy storage"},
		"bup":                                {layout{"HEAD": "ref", "config": "[core]\n\tbare = true\n", "objects/": "", "refs/": ""}, "a Git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.layout.make(t)
			before := treeOf(t, path)
			everyWay(func(way string, open func(string) error) {
				err := open(path)
				if way == "create" && c.layout["README"] == storage.ReadmeText && errors.Is(err, ErrExists) {
					return
				}
				var foreign *ForeignError
				if !errors.As(err, &foreign) || !strings.HasPrefix(foreign.What, c.what) || foreign.Opener == "" || foreign.Path != path {
					t.Errorf("%s: %v", way, err)
				}
				if !errors.Is(err, ErrForeign) || !errors.Is(err, ErrInvalid) || errors.Is(err, ErrCheckNeeded) {
					t.Errorf("%s: %v matches what it should not", way, err)
				}
				if after := treeOf(t, path); !maps.Equal(before, after) {
					t.Errorf("%s: it is %q, and was %q", way, after, before)
				}
			})
		})
	}
}

// TestWhatIsNoRepositoryIsSaidSo is about folders and files that are nobody's.
func TestWhatIsNoRepositoryIsSaidSo(t *testing.T) {
	for name, c := range map[string]struct {
		layout layout
		want   error
		text   string
	}{
		"empty":          {layout{}, ErrInvalid, "it is an empty folder"},
		"folder":         {layout{"notes.txt": "x", "keys/": ""}, ErrInvalid, "it is a folder without a config"},
		"only data":      {layout{"data/0/1": segment.Magic + commit}, ErrInvalid, "without a config"},
		"no config":      {atticOwn.with(layout{"config": "-"}), ErrInvalid, "it has no config"},
		"other config":   {layout{"config": "a = 1\n"}, ErrInvalid, "version"},
		"later":          {atticOwn.with(layout{"config": strings.Replace(plainKeys, "= 1\n", "= 2\n", 1)}), ErrNewer, "version 2"},
		"later, alone":   {layout{"config": strings.Replace(plainKeys, "= 1\n", "= 3\n", 1)}, ErrNewer, "version 3"},
		"no such config": {atticOwn.with(layout{"config": strings.Replace(plainKeys, "= 1\n", "= -1\n", 1)}), ErrInvalid, "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := c.layout.make(t)
			before := treeOf(t, path)
			everyWay(func(way string, open func(string) error) {
				if way == "create" {
					return
				}
				if err := open(path); !errors.Is(err, c.want) || errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("%s: %v", way, err)
				}
			})
			if after := treeOf(t, path); !maps.Equal(before, after) {
				t.Errorf("it is %q, and was %q", after, before)
			}
		})
	}
	file := filepath.Join(layout{"file": "x"}.make(t), "file")
	if err := closed(Open(context.Background(), file, nil)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "it is a file") {
		t.Error(err)
	}
}

// TestDamagedRepositoriesAreStillOurs takes away, and spoils, what recognition goes by.
func TestDamagedRepositoriesAreStillOurs(t *testing.T) {
	for name, spoil := range map[string]layout{
		"no README":         {"README": "-"},
		"spoilt README":     {"README": strings.Repeat("\x00", len(storage.ReadmeText))},
		"keys of Borg":      {"config": plainKeys + borgKeys, "README": "-"},
		"no magic":          {"README": "-", "data/0/1": "\x00\x00\x00\x00\x00\x00\x00\x00" + commit},
		"half a magic":      {"README": "-", "data/0/1": "ATTI"},
		"garbage":           {"README": "-", "data/0/1": "BORGSEG_" + commit},
		"another's segment": {"data/0/2": segment.BorgMagic + commit},
		"folders beside":    {"README": "-", "keys/": "", "snapshots/": "", "index/": "", "chunks/": ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := atticOwn.with(spoil).make(t)
			d, err := storage.OpenDir(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(recognize(d), foreignLog(d)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForeignSegmentIsLeftAlone puts a segment of Borg's among ours.
func TestForeignSegmentIsLeftAlone(t *testing.T) {
	testUnknownSegment(t, ErrForeign, segment.BorgMagic+commit)
}

// testUnknownSegment puts a segment in each place where one can be, and expects an error and that nothing changes.
func testUnknownSegment(t *testing.T, want error, content string) {
	ctx := context.Background()
	for name, n := range map[string]string{"in the log": "1", "behind the last commit": "4"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "repo")
			r, err := Create(ctx, path, &Options{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				mustPut(t, r, i, "value")
				mustCommit(t, r)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			removeIndex(t, path)
			if err := os.WriteFile(filepath.Join(path, "data", "0", n), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			before := treeOf(t, filepath.Join(path, "data"))
			r, err = OpenForCheck(ctx, path, &Options{Exclusive: true})
			if err == nil {
				_, err = r.Check(ctx, CheckOptions{Repair: true})
				if n == "4" {
					err = errors.Join(err, r.Put(ctx, ID{77}, []byte("x")))
				}
				err = errors.Join(err, r.Close())
			}
			if !errors.Is(err, want) || errors.Is(err, ErrCheckNeeded) || isDamage(err) {
				t.Errorf("%v, want %v", err, want)
			}
			if after := treeOf(t, filepath.Join(path, "data")); !maps.Equal(before, after) {
				t.Errorf("it is %q, and was %q", after, before)
			}
		})
	}
}

// TestNewerSegmentIsLeftAlone does the same with an entry whose tag is not known, and whose checksum is right.
func TestNewerSegmentIsLeftAlone(t *testing.T) {
	testUnknownSegment(t, ErrNewer, segment.Magic+newerEntry())
}

// newerEntry returns an entry with a tag that is not known.
func newerEntry() string {
	const body = "key and value"
	b := binary.LittleEndian.AppendUint32(nil, uint32(segment.HeaderSize+len(body)))
	b = append(append(b, 7), body...)
	return string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))) + string(b)
}

// TestNewerFilesBesideTheLogAreMadeAnew gives the files of the index versions that are to come: what they say of the log can
// be had from it.
func TestNewerFilesBesideTheLogAreMadeAnew(t *testing.T) {
	var told []error
	r := newRepository(t, nil)
	mustPut(t, r, 1, "one")
	mustCommit(t, r)
	if err := r.flush(); err != nil { // it would not be worth it
		t.Fatal(err)
	}
	path := filepath.Join(r.String(), tablesName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[8] = tablesVersion + 1
	body := b[:len(b)-4]
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	b = binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), r.String(), &Options{Warn: func(err error) { told = append(told, err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := contents(t, again); len(got) != 1 {
		t.Errorf("it holds %v", got)
	}
	if len(told) == 0 || !errors.Is(told[0], ErrNewer) {
		t.Errorf("told %v", told)
	}
	h := (&hints{}).encode()
	h = []byte(strings.Replace(string(h), "version\x01", "version\x02", 1))
	if _, err := parseHints(h); !errors.Is(err, ErrNewer) || errors.Is(err, ErrIntegrity) {
		t.Errorf("hints: %v", err)
	}
}

// TestNewerEntryOfAnObjectIsNoDamage has the index name an entry that is not known.
func TestNewerEntryOfAnObjectIsNoDamage(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "repo")
	r, err := Create(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, r, 1, "one")
	mustCommit(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err = Open(ctx, path, nil) // with its index, which is not read again
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	segmentPath := filepath.Join(path, "data", "0", "1")
	b, err := os.ReadFile(segmentPath)
	if err != nil {
		t.Fatal(err)
	}
	entry := b[segment.MagicSize : len(b)-segment.HeaderSize]
	entry[8] = 9
	binary.LittleEndian.PutUint32(entry, crc32.ChecksumIEEE(entry[4:]))
	if err := os.WriteFile(segmentPath, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for id, err := range r.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(ctx, id); !errors.Is(err, ErrNewer) || errors.Is(err, ErrIntegrity) {
			t.Errorf("it is %v", err)
		}
	}
	if _, err := r.Check(ctx, CheckOptions{Repair: true}); !errors.Is(err, ErrNewer) {
		t.Errorf("check: %v", err)
	}
	if after, err := os.ReadFile(segmentPath); err != nil || string(after) != string(b) {
		t.Error("the segment has changed")
	}
}
