package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
	"garret/repository/storage"
)

// A session is an open repository and its key.
type session struct {
	app   *app
	write bool // it was opened for storing
	repo  store
	cat   *catalog.Catalog
	loc   location.Location
	known *known
}

// openStore opens the repository of a location without its key: exclusively, for storing, or for reading, when it may be
// damaged.
func (a *app) openStore(ctx context.Context, loc location.Location, exclusive bool) (store, error) {
	repo, err := a.waitForLock(exclusive, func(o *repository.Options) (store, error) {
		return a.openAt(ctx, loc, toUse, o)
	})
	if err == nil {
		a.tellDamage(loc, repo)
	}
	return repo, err
}

// openStoreToWrite is openStore for storing, or, for a dry run, openStoreToTry.
func (a *app) openStoreToWrite(ctx context.Context, loc location.Location, dryRun bool) (store, error) {
	if dryRun {
		return a.openStoreToTry(ctx, loc)
	}
	return a.openStore(ctx, loc, true)
}

// openStoreToTry is openStore for what only tells what it would store, and for what goes by what it reads: it fails as
// storing would.
func (a *app) openStoreToTry(ctx context.Context, loc location.Location) (store, error) {
	return a.waitForLock(false, func(o *repository.Options) (store, error) {
		o.Damaged = false
		return a.openAt(ctx, loc, toUse, o)
	})
}

// tellDamage tells what is damaged in a repository that is read all the same.
func (a *app) tellDamage(loc location.Location, repo store) {
	if damage := repo.Damage(); damage != nil && !errors.Is(damage, syscall.EIO) { // of which Warn was told
		a.tellWrong(fmt.Errorf("open repository %q: %w", loc.Repository(), damage))
	}
}

// tellWrong tells of an error that is no failure of what is being done. Damage makes the exit code that of a warning.
func (a *app) tellWrong(err error) {
	if !errors.Is(err, repository.ErrCheckNeeded) {
		a.ui.Printf("garret: %s", oneLine(err))
		return
	}
	a.damaged.Store(true)
	advice := adviceRepair
	if errors.Is(err, syscall.EIO) {
		advice = `copy it to another medium as far as that can be read, and run "garret check --repair" there`
	}
	a.ui.Printf("garret: %s; what is sound is read all the same; %s", oneLine(err), advice)
}

// patience is how long a lock may take without a word.
const patience = time.Second

// waitForLock opens a repository and, where somebody watches, says who is in the way if that takes long.
func (a *app) waitForLock(
	exclusive bool, open func(*repository.Options) (store, error),
) (store, error) {
	o := a.storeOptions(exclusive)
	if !a.ui.Watched() && !a.verbose || o.LockWait >= 0 && o.LockWait <= patience {
		return open(o)
	}
	o.LockWait = patience
	repo, err := open(o)
	if !errors.Is(err, repository.ErrLocked) {
		return repo, err
	}
	a.ui.Printf("garret: waiting for the lock: %v", lockedBy(err))
	if o.LockWait = a.lockWait; o.LockWait >= 0 {
		o.LockWait -= patience
	}
	return open(o)
}

// lockedBy returns the part of an error that says who holds a lock.
func lockedBy(err error) error {
	var locked *storage.LockedError
	if errors.As(err, &locked) {
		return locked
	}
	if _, about, ok := strings.Cut(err.Error(), `: repository "`); ok { // as a server says it
		return errors.New(`repository "` + about)
	}
	return err
}

func (a *app) storeOptions(exclusive bool) *repository.Options {
	return &repository.Options{
		Exclusive: exclusive,
		Damaged:   !exclusive,
		LockWait:  a.lockWait,
		Warn:      a.tellWrong,
	}
}

// open opens the repository of a location for reading or, exclusively, for storing into it. The latter may raise a
// question, see known.
func (a *app) open(ctx context.Context, loc location.Location, exclusive bool) (*session, error) {
	repo, err := a.openStore(ctx, loc, exclusive)
	return a.unlockOpened(ctx, repo, err, loc, exclusive)
}

// openToWrite is open for storing, or, for a dry run, for telling what would be stored.
func (a *app) openToWrite(ctx context.Context, loc location.Location, dryRun bool) (*session, error) {
	repo, err := a.openStoreToWrite(ctx, loc, dryRun)
	return a.unlockOpened(ctx, repo, err, loc, !dryRun)
}

func (a *app) unlockOpened(
	ctx context.Context, repo store, err error, loc location.Location, exclusive bool,
) (*session, error) {
	if err != nil {
		return nil, err
	}
	s, err := a.unlock(ctx, repo, loc, exclusive)
	if err != nil {
		repo.Close()
	}
	return s, err
}

// unlock finds the key of an open repository, and what it opens. After an error the repository is still open.
func (a *app) unlock(ctx context.Context, repo store, loc location.Location, exclusive bool) (*session, error) {
	env, err := catalog.Manifest(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc.Repository(), err)
	}
	typ, err := envelope.Detect(env)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc.Repository(), err)
	}
	known, err := a.lookUp(repo.ID())
	if err != nil {
		return nil, err
	}
	if err := known.admit(ctx, a, loc, typ, exclusive); err != nil {
		return nil, err
	}
	key, err := envelope.OpenKey(a.openOptions(ctx, repo, loc, env))
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc.Repository(), err)
	}
	cat, err := catalog.New(repo, key, env)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", loc.Repository(), err)
	}
	if err := known.compare(ctx, a, loc, cat.Manifest.Timestamp, exclusive); err != nil {
		return nil, err
	}
	if exclusive {
		useNonces(key, repo, known, env)
	}
	s := &session{app: a, write: exclusive, repo: repo, cat: cat, loc: loc, known: known}
	s.tell()
	return s, nil
}

// tell says which repository this is, to who asked for it with --verbose.
func (s *session) tell() {
	s.app.say("Repository %q: id %v, encryption %v, %s.", s.loc.Repository(), s.repo.ID(), s.cat.Key.Type(),
		ui.Plural(int64(len(s.cat.Manifest.Archives)), "archive"))
}

// openOptions say which repository's key to open, and how to ask for its passphrase.
func (a *app) openOptions(
	ctx context.Context, repo store, loc location.Location, env []byte,
) envelope.OpenOptions {
	return envelope.OpenOptions{
		RepositoryID: repo.ID(),
		Location:     loc.Repository().String(),
		Envelope:     env,
		Ask: func(prompt string) (string, error) {
			return passphrase(a.ui.Passphrase(ctx, prompt))
		},
	}
}

// Close closes the repository, which rolls back what has not been committed. What is known of it is brought up to
// date, but only storing makes a repository known, or one known that has gone back in time, as only then somebody has been
// asked.
func (s *session) Close() error {
	if s.write || s.known.isAt(s.loc) && !s.known.isNewerThan(s.cat.Manifest.Timestamp) {
		if err := s.known.remember(s.loc, s.cat.Key.Type(), s.cat.Manifest.Timestamp); err != nil && s.write {
			s.app.ui.Printf("garret: %s", oneLine(err))
		}
	}
	return s.repo.Close()
}

// passphrase passes on the answer to a question for a passphrase.
func passphrase(pass string, err error) (string, error) {
	if errors.Is(err, ui.ErrNoTerminal) {
		return "", envelope.ErrNoPassphrase
	}
	return pass, err
}

// useNonces gives a key its counters. env is the manifest's envelope, nil if there is none yet.
func useNonces(key *envelope.Key, repo store, k *known, env []byte) {
	if key.Type().Encrypts() {
		key.UseNonces(envelope.NewNonceReserver(repo, filepath.Join(k.dir, "nonce"), envelope.NonceEnd(env)))
	}
}

// cacheDir returns the folder for what this machine remembers.
func cacheDir() (string, error) {
	for _, name := range []string{"GARRET_CACHE_DIR", "ATTIC_CACHE_DIR"} {
		if dir := os.Getenv(name); dir != "" {
			return dir, nil
		}
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for caches: %w; set GARRET_CACHE_DIR", err)
	}
	return filepath.Join(dir, "garret"), nil
}
