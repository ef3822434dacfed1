package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"garret/internal/location"
	"garret/internal/rpc"
	"garret/repository"
)

// A store is a repository, on this machine or on another.
type store interface {
	ID() repository.ID
	AppendOnly() bool
	ReadOnly() bool
	Damage() error
	Has(ctx context.Context, id repository.ID) (bool, error)
	Size(ctx context.Context, id repository.ID) (int, error)
	Get(ctx context.Context, id repository.ID) ([]byte, error)
	Put(ctx context.Context, id repository.ID, data []byte) error
	Delete(ctx context.Context, id repository.ID) error
	List(ctx context.Context, limit int, marker *repository.ID) ([]repository.ID, error)
	Commit(ctx context.Context) error
	Rollback() error
	Len(ctx context.Context) (int, error)
	All(ctx context.Context) iter.Seq2[repository.ID, error]
	Check(ctx context.Context, o repository.CheckOptions) (*repository.Report, error)
	Compact(ctx context.Context) (freed int64, err error)
	Dead(ctx context.Context) (int64, error)
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
	Close() error
}

// opening is what a repository is opened for.
type opening int

const (
	toUse opening = iota
	toCheck
	toCreate
)

// elsewhere is set by tests, to have all repositories opened through a server.
var elsewhere func(location.Location) location.Location

// openAt opens the repository of a location, or makes it.
func (a *app) openAt(ctx context.Context, loc location.Location, to opening, o *repository.Options) (store, error) {
	if elsewhere != nil {
		loc = elsewhere(loc)
	}
	if loc.Remote() {
		return a.dial(ctx, loc, to, o)
	}
	open := repository.Open
	switch to {
	case toCheck:
		open = repository.OpenForCheck
	case toCreate:
		open = repository.Create
	}
	repo, err := open(ctx, loc.Path, o)
	if err != nil { // and no store that is a nil pointer
		return nil, err
	}
	return repo, nil
}

// dial opens a repository on another machine.
func (a *app) dial(ctx context.Context, loc location.Location, to opening, o *repository.Options) (store, error) {
	silence, err := serverSilence()
	if err != nil {
		return nil, err
	}
	c, err := rpc.Dial(ctx, rpc.Remote{
		Location: loc,
		RSH:      strings.Fields(os.Getenv("GARRET_RSH")),
		Path:     a.remotePath(),
		Message:  func(line string) { a.ui.Printf("%s", line) },
	}, rpc.ClientOptions{Create: to == toCreate, Exclusive: o.Exclusive, Damaged: o.Damaged, LockWait: o.LockWait, Silence: silence})
	if err != nil {
		return nil, a.aboutServer(loc, err)
	}
	if o.Exclusive && to == toUse {
		dir, err := cacheDir()
		if err == nil {
			err = c.Follow(ctx, filepath.Join(dir, c.ID().String(), "garret.objects"), o.Warn)
		}
		if err != nil {
			c.Close()
			return nil, a.aboutServer(loc, err)
		}
	}
	return c, nil
}

// aboutServer says which repository an error is about, unless the server has said so.
func (a *app) aboutServer(loc location.Location, err error) error {
	var told *rpc.RemoteError
	if errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("repository %q: %w", loc.Repository(), err)
}

// serverSilence returns how long a server may say nothing; 0: as long as it is by default.
func serverSilence() (d time.Duration, err error) {
	text := os.Getenv("GARRET_SILENCE")
	if text == "" {
		return 0, nil
	}
	if err := newSeconds(&d, 0).Set(text); err != nil {
		return 0, &usageError{"GARRET_SILENCE: " + err.Error()}
	}
	if d <= 0 {
		return 0, &usageError{fmt.Sprintf("GARRET_SILENCE: %q is no time to wait; it should be more than 0", text)}
	}
	return d, nil
}

// remotePath returns what the program is called on the other machine.
func (a *app) remotePath() string {
	if a.remote != "" {
		return a.remote
	}
	return os.Getenv("GARRET_REMOTE_PATH")
}
