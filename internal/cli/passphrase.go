package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
)

// newPassphraseVar names the environment variable with the passphrase to change to.
const newPassphraseVar = "GARRET_NEW_PASSPHRASE"

func (a *app) changePassphraseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "change-passphrase [REPO]",
		Short: "Change the passphrase of a repository's key file",
		Long: `Change the passphrase of a repository's key file. The new one is asked for twice, or taken from GARRET_NEW_PASSPHRASE;
an empty one means that the file can be opened without. The key itself stays the same: copies of the file, and what
"garret key export" wrote, can still be opened with the old passphrase.

Only encryption "keyfile" has such a file. With encryption "passphrase" the key is made from the passphrase, which so can
never change.

With --json, an object: "repository", "id" and "keyfile", the path of the key file.`,
		Example: `  garret change-passphrase /backup/photos`,
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			repo, err := a.openStoreToTry(cmd.Context(), loc)
			if err != nil {
				return err
			}
			defer repo.Close()
			return a.changePassphrase(cmd.Context(), repo, loc)
		},
	}
}

func (a *app) changePassphrase(ctx context.Context, repo store, loc location.Location) error {
	f, env, err := findKeyfile(ctx, repo, loc)
	if err != nil {
		return err
	}
	key, err := envelope.OpenKeyfile(f, a.openOptions(ctx, repo, loc, env))
	if err != nil {
		return fmt.Errorf("repository %q: %w", loc, err)
	}
	pass, ok := os.LookupEnv(newPassphraseVar)
	if !ok {
		pass, err = passphrase(a.ui.NewPassphrase(ctx, "New passphrase (empty for none): "))
		if errors.Is(err, envelope.ErrNoPassphrase) {
			return &refusedError{"a new passphrase is needed; set " + newPassphraseVar + ", or run it at a terminal"}
		}
		if err != nil {
			return err
		}
	}
	if err := key.ChangePassphrase(f.Path(), pass); err != nil {
		return err
	}
	if a.json {
		return a.emit(struct {
			Repository string `json:"repository"`
			ID         string `json:"id"`
			Keyfile    string `json:"keyfile"`
		}{loc.String(), repo.ID().String(), f.Path()})
	}
	a.ui.Printf("The passphrase of the key file %q is changed. Copies of it still open with the old one.", f.Path())
	if pass == "" {
		a.ui.Printf("It is empty: whoever has the file has the key.")
	}
	return nil
}

// findKeyfile returns the key file of a repository, and the envelope of its manifest, nil if it has none. A repository
// that needs no key file is an error.
func findKeyfile(ctx context.Context, repo store, loc location.Location) (*envelope.Keyfile, []byte, error) {
	env, err := catalog.Manifest(ctx, repo)
	if err != nil && !errors.Is(err, catalog.ErrNoManifest) {
		return nil, nil, fmt.Errorf("repository %q: %w", loc, err)
	}
	if err := needsKeyfile(env, loc); err != nil {
		return nil, nil, err
	}
	dirs, err := envelope.KeysDirs()
	if err != nil {
		return nil, nil, err
	}
	path, err := envelope.FindKeyfile(dirs, repo.ID())
	if err != nil {
		return nil, nil, fmt.Errorf("repository %q: %w", loc, err)
	}
	f, err := envelope.ReadKeyfile(path, repo.ID())
	return f, env, err
}

// needsKeyfile returns an error about a repository whose manifest is not sealed with a key from a file. A nil manifest
// tells nothing.
func needsKeyfile(env []byte, loc location.Location) error {
	if env == nil {
		return nil
	}
	typ, err := envelope.Detect(env)
	if err != nil {
		return fmt.Errorf("repository %q: %w", loc, err)
	}
	switch typ {
	case envelope.PassphraseType:
		return &refusedError{fmt.Sprintf("repository %q has no key file: its key is made from the passphrase, and neither "+
			"can be changed; for another passphrase make a new repository", loc)}
	case envelope.PlaintextType:
		return &refusedError{fmt.Sprintf("repository %q has no key file and no passphrase: it is not encrypted", loc)}
	}
	return nil
}
