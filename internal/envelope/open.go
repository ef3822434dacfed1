package envelope

import (
	"errors"
	"fmt"
	"os"

	"garret/repository"
)

// A PassphraseFunc asks a person for a passphrase.
type PassphraseFunc func(prompt string) (string, error)

// EnvPassphrase returns the passphrase in $GARRET_PASSPHRASE, else in $ATTIC_PASSPHRASE, and whether there is one. It may
// be empty.
func EnvPassphrase() (string, bool) {
	if p, ok := os.LookupEnv("GARRET_PASSPHRASE"); ok {
		return p, true
	}
	return os.LookupEnv("ATTIC_PASSPHRASE")
}

// maxAsked is how often a person may try a passphrase.
const maxAsked = 3

// OpenOptions say which repository's key OpenKey is to find.
type OpenOptions struct {
	RepositoryID repository.ID
	Location     string         // of the repository, for prompts
	Envelope     []byte         // the manifest's, or any other of the repository's; it tells the type
	KeysDirs     []string       // where to look for a key file; nil: KeysDirs()
	Ask          PassphraseFunc // for when the environment has no passphrase; nil: fail with ErrNoPassphrase
}

// OpenKey finds out which type of key a repository has, gets it, and makes sure that it opens the envelope. A passphrase
// comes from the environment, else from Ask, which is called again, three times in all, if it was wrong.
//
// Errors match ErrWrongPassphrase, ErrNoPassphrase, ErrNoKeyfile, ErrKeyfile, those of Ask and of os, or, where the
// envelope is at fault, repository.ErrIntegrity.
func OpenKey(o OpenOptions) (*Key, error) {
	typ, err := Detect(o.Envelope)
	if err != nil {
		return nil, fmt.Errorf("find out the type of the key: %w", err)
	}
	switch typ {
	case PassphraseType:
		return withPassphrase(o.Ask, fmt.Sprintf("Passphrase for %s: ", o.Location), func(passphrase string) (*Key, error) {
			k, err := NewPassphrase(o.RepositoryID, passphrase)
			if err != nil {
				return nil, err
			}
			// Nothing but the envelopes tells whether the passphrase is right.
			if _, err := k.Open(nil, o.Envelope); errors.Is(err, errMAC) {
				return nil, fmt.Errorf("%w for %s", ErrWrongPassphrase, o.Location)
			} else if err != nil {
				return nil, err
			}
			return k, nil
		})
	case KeyfileType:
		dirs := o.KeysDirs
		if dirs == nil {
			if dirs, err = KeysDirs(); err != nil {
				return nil, err
			}
		}
		path, err := FindKeyfile(dirs, o.RepositoryID)
		if err != nil {
			return nil, err
		}
		f, err := ReadKeyfile(path, o.RepositoryID)
		if err != nil {
			return nil, err
		}
		return OpenKeyfile(f, o)
	default:
		k := NewPlaintext()
		if _, err := k.Open(nil, o.Envelope); err != nil {
			return nil, err
		}
		return k, nil
	}
}

// OpenKeyfile opens a key file, and makes sure that its key opens the envelope, if there is one. As in Attic, a key file
// may have no passphrase, so that the empty one is tried before anybody is asked. Errors are those of OpenKey.
func OpenKeyfile(f *Keyfile, o OpenOptions) (*Key, error) {
	name := f.Path()
	if name == "" {
		name = "of " + o.Location
	}
	var k *Key
	var err error
	if _, ok := EnvPassphrase(); !ok {
		k, err = f.Open("")
	}
	if k == nil && (err == nil || errors.Is(err, ErrWrongPassphrase)) {
		k, err = withPassphrase(o.Ask, fmt.Sprintf("Passphrase for key file %s: ", name), f.Open)
	}
	if err != nil || o.Envelope == nil {
		return k, err
	}
	if _, err := k.Open(nil, o.Envelope); err != nil {
		return nil, fmt.Errorf("the key in %q does not fit the repository: %w", name, err)
	}
	return k, nil
}

// withPassphrase gets passphrases until one is right.
func withPassphrase(ask PassphraseFunc, prompt string, try func(passphrase string) (*Key, error)) (*Key, error) {
	if passphrase, ok := EnvPassphrase(); ok {
		return try(passphrase)
	}
	if ask == nil {
		return nil, fmt.Errorf("%w: set GARRET_PASSPHRASE", ErrNoPassphrase)
	}
	for asked := 1; ; asked++ {
		passphrase, err := ask(prompt)
		if err != nil {
			return nil, err
		}
		k, err := try(passphrase)
		if !errors.Is(err, ErrWrongPassphrase) || asked == maxAsked {
			return k, err
		}
	}
}
