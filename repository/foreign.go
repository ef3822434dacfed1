package repository

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"garret/repository/segment"
	"garret/repository/storage"
)

// A ForeignError says whose a repository is that is not Attic's, nor ours. It matches ErrForeign and ErrInvalid. Nothing
// there has been changed, nor locked.
type ForeignError struct {
	Path   string
	What   string // such as "a Borg 1 repository"
	Opener string // the program that opens it
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%q is %s, which %s opens; nothing in it has been changed", e.Path, e.What, e.Opener)
}

// Is makes the error match ErrForeign and ErrInvalid.
func (e *ForeignError) Is(target error) bool { return target == ErrForeign || target == ErrInvalid }

// traces are what tells whose the files in a folder are.
type traces struct {
	s      storage.Storage
	files  []string
	readme string
	config map[string]string // the keys of an INI file's section [repository]; nil: it is none
}

func (t *traces) has(names ...string) bool {
	for _, name := range names {
		if !slices.Contains(t.files, name) {
			return false
		}
	}
	return true
}

// foreignPrograms are those whose repositories are recognised. What a repository of Attic's may turn into by damage is none
// of these: its README, its config and the magics of its files would have to become those of another program.
var foreignPrograms = []struct {
	what, opener string
	is           func(t *traces) bool
}{
	{"a Borg 2 repository", "borg 2", func(t *traces) bool {
		return isBorgReadme(t.read("config/readme")) || isBorgReadme(t.readme) && t.config["version"] == "2"
	}},
	{"a Borg 1 repository", "borg", func(t *traces) bool {
		return isBorgReadme(t.readme) || t.hasBorgFiles()
	}},
	{"a restic repository", "restic", func(t *traces) bool {
		return t.config == nil && t.has("config", "index", "keys", "snapshots")
	}},
	{"a kopia repository", "kopia", func(t *traces) bool {
		return t.has("kopia.repository.f") || t.has("kopia.repository")
	}},
	{"a bupstash repository", "bupstash", func(t *traces) bool {
		return t.has("items", "meta", "repo.lock") || t.has("bupstash.sqlite3")
	}},
	{"a duplicacy storage", "duplicacy", func(t *traces) bool {
		return t.config == nil && t.has("config", "chunks", "snapshots")
	}},
	{"a Git repository, as bup makes them,", "bup or git", func(t *traces) bool {
		return t.config == nil && t.has("HEAD", "config", "objects", "refs")
	}},
}

// recognize returns a *ForeignError if a storage holds another program's repository, before anything there is believed. A
// config of a later version is not looked at: see parseConfig.
func recognize(s storage.Storage) error {
	t := traces{s: s}
	if t.readme = t.read(readmeName); t.readme == storage.ReadmeText {
		return nil // and if segments have another's magic after all, who reads them says so
	}
	var err error
	if t.files, err = s.Files(); err != nil {
		return fmt.Errorf("open repository %q: %w", s, err)
	}
	if text := t.read(configName); text != "" {
		t.config = parseSection(text)
	}
	for _, p := range foreignPrograms {
		if p.is(&t) {
			return &ForeignError{Path: s.String(), What: p.what, Opener: p.opener}
		}
	}
	return nil
}

// recognizeFolder is recognize of a folder in which a repository is not to be made.
func recognizeFolder(path string) error {
	d, err := storage.OpenDir(path)
	if err != nil {
		return nil // that is for others to tell
	}
	if err := recognize(d); errors.Is(err, ErrForeign) {
		return err
	}
	return nil
}

// read returns the content of a small file, or nothing if it cannot be read.
func (t *traces) read(name string) string {
	b, err := storage.ReadFile(t.s, name, configLimit)
	if err != nil {
		return ""
	}
	return string(b)
}

func isBorgReadme(text string) bool { return strings.HasPrefix(text, "This is a Borg ") }

// hasBorgFiles reports whether the segments, or else the index and the config, are Borg's. Those of Attic have the same
// names, and its config most of the keys; people who come from Borg put others into it.
func (t *traces) hasBorgFiles() bool {
	switch t.segmentMagic() {
	case segment.Magic:
		return false
	case segment.BorgMagic:
		return true
	}
	for _, name := range t.files {
		if _, ok := numberOf(name, indexPrefix); ok && t.magic(t.s.OpenFile(name)) == "BORG_IDX" {
			return true
		}
	}
	for _, key := range []string{"append_only", "storage_quota", "additional_free_space"} {
		if _, ok := t.config[key]; ok {
			return true
		}
	}
	return false
}

// foreignLog returns a *ForeignError if the segments are Borg's, whatever else says that they are ours: a conversion may have
// been interrupted.
func foreignLog(s storage.Storage) error {
	if t := (traces{s: s, config: parseSection((&traces{s: s}).read(configName))}); t.segmentMagic() == segment.BorgMagic {
		return &ForeignError{Path: s.String(), What: "a Borg 1 repository", Opener: "borg"}
	}
	return nil
}

// segmentMagic returns the magic of the first segment in which there is one of those that are known.
func (t *traces) segmentMagic() string {
	c, err := parseKeys(t.config)
	if err != nil || c.segmentsPerFolder < 1 {
		c.segmentsPerFolder = DefaultSegmentsPerFolder
	}
	t.s.SetSegmentsPerFolder(c.segmentsPerFolder)
	numbers, err := t.s.Segments(-1)
	if err != nil {
		return ""
	}
	const few = 10
	for _, n := range numbers[:min(len(numbers), few)] {
		if m := t.magic(t.s.OpenSegment(n)); m == segment.Magic || m == segment.BorgMagic {
			return m
		}
	}
	return ""
}

// magic returns what a file begins with, or nothing if it cannot be read.
func (t *traces) magic(r storage.Reader, err error) string {
	if err != nil {
		return ""
	}
	defer r.Close()
	b := make([]byte, segment.MagicSize)
	if n, _ := r.ReadAt(b, 0); n < len(b) {
		return ""
	}
	return string(b)
}

// mustKnow returns an error if a segment holds something that another program, or a later version of this one, has written.
// It is for those that seem to be of an aborted transaction and are about to be removed: what ends a transaction may be what
// is not known.
func (r *Repository) mustKnow(numbers []uint32) error {
	for _, n := range numbers {
		in, err := r.store.OpenSegment(n)
		if err != nil {
			continue
		}
		_, err = headersOf(in, func(segment.Entry) error { return nil })
		in.Close()
		if errors.Is(err, ErrNewer) || errors.Is(err, ErrForeign) {
			return fmt.Errorf("segment %d: %w", n, err)
		}
	}
	return nil
}

// noConfig says what a folder without a config is.
func noConfig(s storage.Storage) error {
	files, err := s.Files()
	if err != nil || slices.Contains(files, readmeName) {
		return fmt.Errorf("%w: it has no config", ErrInvalid)
	}
	if len(files) == 0 {
		if numbers, err := s.Segments(-1); err == nil && len(numbers) == 0 {
			return fmt.Errorf("%w: it is an empty folder", ErrInvalid)
		}
	}
	return fmt.Errorf("%w: it is a folder without a config", ErrInvalid)
}
