package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/repository"
)

func (a *app) initCommand() *cobra.Command {
	var encryption string
	var appendOnly bool
	cmd := &cobra.Command{
		Use:   "init [-e none|passphrase|keyfile] [REPO]",
		Short: "Make a new repository",
		Long: `Make a new repository in a folder that does not exist or is empty.

  -e none        nothing is encrypted
  -e passphrase  the key is derived from a passphrase, which cannot be changed later
  -e keyfile     the key is random, and kept in a file on this machine that is protected by a passphrase; to read the
                 repository takes both, so keep a copy of the file elsewhere: see "garret key"

With --append-only, archives can be added and nothing else: delete, prune, compact and check --repair remove nothing, for
everyone, until garret_append_only = 0 stands in the repository's config. Attic does not heed that. All that was ever
committed stays in the log, and "garret rollback" brings it back.

A passphrase is asked for twice, or taken from GARRET_PASSPHRASE. That of a key file may be empty.

With --json, an object: "repository", "id", "encryption" and, with encryption keyfile, "keyfile", the path of that file.`,
		Example: `  garret init -e keyfile /backup/photos
  GARRET_PASSPHRASE="$(pass backup)" garret init -e passphrase /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			typ, err := envelope.ParseType(encryption)
			if err != nil {
				return &usageError{err.Error()}
			}
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			s, keyfile, err := a.create(cmd.Context(), loc, typ, appendOnly)
			if err != nil {
				return err
			}
			if a.json {
				err = a.emit(struct {
					Repository string `json:"repository"`
					ID         string `json:"id"`
					Encryption string `json:"encryption"`
					Keyfile    string `json:"keyfile,omitempty"`
				}{loc.String(), s.repo.ID().String(), typ.String(), keyfile})
			} else {
				a.tellInit(loc, typ, keyfile)
			}
			return errors.Join(err, s.Close())
		},
	}
	cmd.Flags().StringVarP(&encryption, "encryption", "e", "none", "none, passphrase or keyfile")
	cmd.RegisterFlagCompletionFunc("encryption",
		cobra.FixedCompletions([]string{"none", "passphrase", "keyfile"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&appendOnly, "append-only", false, "let nothing be removed from it, by anybody")
	return cmd
}

// tellInit says what was made, and what is to be done now.
func (a *app) tellInit(loc location.Location, typ envelope.Type, keyfile string) {
	switch typ {
	case envelope.PlaintextType:
		a.ui.Printf("Repository %q is made. It is not encrypted: whoever can read it can read what is backed up.", loc)
	case envelope.PassphraseType:
		a.ui.Printf("Repository %q is made. Without the passphrase nobody can read it, you neither.", loc)
	case envelope.KeyfileType:
		a.ui.Printf("Repository %q is made. Its key is %q: without that file nobody can read it, you neither. "+
			"Keep a copy of it elsewhere:\n  %s FILE", loc, keyfile, shellLine(a.commandAbout(loc, "key", "export")))
	}
}

// create makes a repository and opens it for storing. It also returns the path of the key file, if there is one.
func (a *app) create(ctx context.Context, loc location.Location, typ envelope.Type, appendOnly bool) (_ *session, keyfile string, err error) {
	var pass, dir string
	if typ.Encrypts() {
		if pass, err = a.newPassphrase(ctx, typ); err != nil {
			return nil, "", err
		}
	}
	if typ == envelope.KeyfileType { // find out early that it cannot be written
		if dir, err = envelope.KeysDir(); err != nil {
			return nil, "", err
		}
		if err := envelope.MakeDir(dir); err != nil {
			return nil, "", fmt.Errorf("make the folder for key files: %w", err)
		}
	}
	repo, err := a.make(ctx, loc, appendOnly)
	if errors.Is(err, repository.ErrExists) {
		begun := a.openBegun(ctx, loc)
		switch {
		case begun == nil:
		case appendOnly && !isAppendOnly(begun):
			begun.Close()
		default:
			repo, err = begun, nil
		}
	}
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			repo.Close()
		}
	}()
	key := envelope.NewPlaintext()
	switch typ {
	case envelope.PassphraseType:
		key, err = envelope.NewPassphrase(repo.ID(), pass)
	case envelope.KeyfileType:
		key, keyfile, err = newKeyfile(dir, loc, repo.ID(), pass)
	}
	if err != nil {
		return nil, "", err
	}
	known, err := a.lookUp(repo.ID())
	if err != nil {
		return nil, "", err
	}
	// Whatever ends us after the commit, this machine has made the repository, and need not ask whether it is the right one.
	_ = known.remember(loc, typ, time.Time{}) // Close tells what is wrong
	useNonces(key, repo, known, nil)
	cat, err := catalog.New(repo, key, nil)
	if err != nil {
		return nil, "", err
	}
	if err := cat.Save(ctx, repo, cat.Manifest.Archives); err != nil {
		return nil, "", err
	}
	if err := repo.Commit(ctx); err != nil {
		return nil, "", err
	}
	s := &session{app: a, write: true, repo: repo, cat: cat, loc: loc, known: known}
	s.tell()
	return s, keyfile, nil
}

// make makes the store of a repository. One that is append-only is made on its own machine: the server's --append-only is
// what others have.
func (a *app) make(ctx context.Context, loc location.Location, appendOnly bool) (store, error) {
	opts := a.storeOptions(true)
	if !appendOnly {
		return a.openAt(ctx, loc, toCreate, opts)
	}
	if err := onOwnMachine(loc); err != nil {
		return nil, err
	}
	opts.AppendOnly = true
	repo, err := repository.Create(ctx, loc.Path, opts)
	if err != nil {
		return nil, err
	}
	return repo, nil
}

// isAppendOnly reports whether a store is a repository of this machine that is append-only.
func isAppendOnly(s store) bool {
	r, ok := s.(*repository.Repository)
	return ok && r.AppendOnly()
}

// newKeyfile makes a key and its file in a folder. If there is one already, since the making of the repository was
// interrupted behind that, it is taken: the passphrase must open it.
func newKeyfile(dir string, loc location.Location, id repository.ID, pass string) (*envelope.Key, string, error) {
	path, err := envelope.FindKeyfile([]string{dir}, id)
	if err == nil {
		key, err := envelope.LoadKeyfile(path, id, pass)
		if err != nil {
			err = fmt.Errorf("the making of repository %q was interrupted when its key was there: %w", loc, err)
		}
		return key, path, err
	}
	if !errors.Is(err, envelope.ErrNoKeyfile) {
		return nil, "", err
	}
	path = envelope.KeyfilePath(dir, loc.Host, loc.Path)
	key, err := envelope.NewKeyfile(id)
	if err == nil {
		err = key.SaveKeyfile(path, pass)
	}
	return key, path, err
}

// openBegun opens a repository in which nothing is yet, as when its making was interrupted or the key file found no
// room. It returns nil if there is none.
func (a *app) openBegun(ctx context.Context, loc location.Location) store {
	repo, err := a.openStore(ctx, loc, true)
	if err != nil {
		return nil
	}
	n, err := repo.Len(ctx)
	if err != nil || n != 0 {
		repo.Close()
		return nil
	}
	return repo
}

// newPassphrase returns the passphrase for a new repository. Only that of a key file may be empty: a key that is made of
// the passphrase could then be made by anybody.
func (a *app) newPassphrase(ctx context.Context, typ envelope.Type) (string, error) {
	prompt := "New passphrase: "
	if typ == envelope.KeyfileType {
		prompt = "New passphrase (empty for none): "
	}
	for {
		pass, given := envelope.EnvPassphrase()
		if !given {
			var err error
			if pass, err = passphrase(a.ui.NewPassphrase(ctx, prompt)); err != nil {
				return "", err
			}
		}
		if pass != "" || typ == envelope.KeyfileType {
			return pass, nil
		}
		if given {
			return "", &usageError{"the passphrase is empty: whoever has the repository could read it; for that, take -e none"}
		}
		a.ui.Printf("The passphrase must not be empty.")
	}
}
