package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"garret/internal/cache"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

// A known is what this machine remembers of a repository that it has had to do with. As in Attic, it is there so that
// nobody is made to store into a repository other than the one they mean:
//
//   - An unencrypted repository that is not known can be anybody's, put in the place of the right one.
//   - A repository that has moved can be one that was moved by somebody else.
//   - A repository that has gone back in time can be an older copy that was put in the place of the right one, and so lack
//     archives.
//   - A repository that had a key and has none now, or one of another type, is not the same.
//
// The last is refused always, the others raise a question before anything is stored. To read asks nothing.
type known struct {
	dir    string // this repository's own folder, which may not exist
	record *knownRecord
}

// knownRecord is the content of the file known.json in that folder.
type knownRecord struct {
	Location string    `json:"location"`
	KeyType  string    `json:"key_type"`
	Manifest time.Time `json:"manifest"` // when the latest manifest was written that we know of; zero: of none
	Told     time.Time `json:"told"`     // the manifest of the older copy that was told of last; zero: none was
}

// lookUp returns what is known of the repository with an id. A record that cannot be read is none.
func (a *app) lookUp(id repository.ID) (*known, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	k := &known{dir: filepath.Join(cache, id.String())}
	data, err := os.ReadFile(k.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, nil
	case err != nil:
		a.ui.Printf("garret: what was known of the repository cannot be read: %s", oneLine(err))
		return k, nil
	}
	var r knownRecord
	if err := json.Unmarshal(data, &r); err != nil {
		a.ui.Printf("garret: what was known of the repository is damaged, and forgotten: %q: %v", k.file(), err)
		return k, nil
	}
	k.record = &r
	return k, nil
}

func (k *known) file() string { return filepath.Join(k.dir, "known.json") }

// files opens what is known of the files that were stored in the repository. The error is no reason not to use it. Attic has
// a file of its own by the name of files in such a folder, which may be the same.
func (k *known) files() (*cache.Files, error) {
	return cache.OpenFiles(filepath.Join(k.dir, "garret.files"))
}

// chunks opens what is known of the chunks that the repository's archives use.
func (k *known) chunks(a *app, id repository.ID) *cache.Chunks {
	return cache.OpenChunks(k.dir, id, func(err error) { a.ui.Printf("garret: %s", oneLine(err)) })
}

// isAt reports whether the repository is known, and known to be at a location. A folder has as many names as links lead to
// it.
func (k *known) isAt(loc location.Location) bool {
	if k.record == nil {
		return false
	}
	if k.record.Location == loc.Repository().String() {
		return true
	}
	then, err := location.Parse(k.record.Location)
	if err != nil || then.Host != "" || loc.Host != "" {
		return false
	}
	a, errA := os.Stat(then.Path)
	b, errB := os.Stat(loc.Path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// admit decides whether a repository may be used, for storing or for reading alone.
func (k *known) admit(ctx context.Context, a *app, loc location.Location, typ envelope.Type, store bool) error {
	where := loc.Repository().String()
	if k.record == nil {
		if typ.Encrypts() || !store {
			return nil
		}
		return a.ask(ctx, "UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK",
			fmt.Sprintf("repository %q is not encrypted, and this machine has not used it before", where), "Store into it?")
	}
	if k.record.KeyType != typ.String() {
		return &refusedError{fmt.Sprintf("repository %q had encryption %q when it was last used, and has %q now: "+
			"it is not the same; if it is meant to be, remove %q", where, k.record.KeyType, typ, k.file())}
	}
	if !k.isAt(loc) && store {
		return a.ask(ctx, "RELOCATED_REPO_ACCESS_IS_OK",
			fmt.Sprintf("repository %q was at %q when it was last used", where, k.record.Location), "Store into it?")
	}
	return nil
}

// ask tells something and asks whether to go on all the same.
func (a *app) ask(ctx context.Context, variable, what, question string) error {
	if yes(variable) {
		return nil
	}
	ok, err := a.ui.Confirm(ctx, what+". "+question)
	switch {
	case errors.Is(err, ui.ErrNoTerminal):
		return &refusedError{what + "; set GARRET_" + variable + "=yes if that is right"}
	case err != nil:
		return err
	case !ok:
		return &refusedError{"not done, as you said"}
	}
	return nil
}

// compare decides whether a repository may be used that has gone back in time. To read it is told, once of each copy, and no
// more; so is the counters' safety no question, as they are kept here too (see envelope).
func (k *known) compare(ctx context.Context, a *app, loc location.Location, manifest time.Time, store bool) error {
	if !k.isNewerThan(manifest) {
		return nil
	}
	now, then := timesApart(manifest, k.record.Manifest)
	why := "an older copy has taken its place, or its last changes are lost"
	if !k.isAt(loc) {
		why = fmt.Sprintf("it is an older copy of the one at %q", k.record.Location)
	}
	what := fmt.Sprintf("repository %q is older (its last change is of %s) than when it was last used (%s): %s",
		loc.Repository(), now, then, why)
	if store {
		return a.ask(ctx, "OLDER_REPO_ACCESS_IS_OK", what, "Store into it?")
	}
	if k.record.Told.Equal(manifest) {
		return nil
	}
	a.ui.Printf("garret: %s", what)
	r := *k.record
	r.Told = manifest
	_ = k.write(r) // else it is told again
	return nil
}

// timesApart returns two times as people write them, to the second, or as much more exactly as it takes to tell them apart.
func timesApart(a, b time.Time) (string, string) {
	layout := time.DateTime
	for _, more := range []string{".000", "000", "000"} {
		if a.Local().Format(layout) != b.Local().Format(layout) {
			break
		}
		layout += more
	}
	return a.Local().Format(layout), b.Local().Format(layout)
}

// isNewerThan reports whether the repository had a newer manifest when it was last used.
func (k *known) isNewerThan(manifest time.Time) bool {
	return k.record != nil && manifest.Before(k.record.Manifest)
}

// remember writes down how a repository is now, if that is not known.
func (k *known) remember(loc location.Location, typ envelope.Type, manifest time.Time) error {
	r := knownRecord{Location: loc.Repository().String(), KeyType: typ.String(), Manifest: manifest}
	if k.record != nil {
		r.Told = k.record.Told
		if *k.record == r {
			return nil
		}
	}
	return k.write(r)
}

func (k *known) write(r knownRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := replaceFile(k.file(), append(data, '\n')); err != nil {
		return fmt.Errorf("remember the repository: %w", err)
	}
	k.record = &r
	return nil
}

// replaceFile writes a file as a whole or not at all. It need not outlive a power failure.
func replaceFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
