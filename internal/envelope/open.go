package envelope

import "garret/repository"

// A PassphraseFunc asks a person for a passphrase.
type PassphraseFunc func(prompt string) (string, error)

// EnvPassphrase returns the passphrase in $GARRET_PASSPHRASE, else in $ATTIC_PASSPHRASE, and whether there is one.
func EnvPassphrase() (string, bool) { panic("not yet") }

// OpenOptions say which repository's key OpenKey is to find.
type OpenOptions struct {
	RepositoryID repository.ID
	Location     string         // of the repository, for prompts and errors
	Envelope     []byte         // the manifest's, or any other of the repository's; it tells the type
	KeysDirs     []string       // where to look for a key file; nil: KeysDirs()
	Ask          PassphraseFunc // for when the environment has no passphrase; nil: fail with ErrNoPassphrase
}

// OpenKey finds out which type of key a repository has, gets it, and makes sure that it opens the envelope.
func OpenKey(o OpenOptions) (*Key, error) { panic("not yet") }
