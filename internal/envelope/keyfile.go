package envelope

import "garret/repository"

// SaveKeyfile writes the key to a new file at path, encrypted with the passphrase. The file is durable on return; one that
// exists is not replaced, and the error then matches fs.ErrExist.
func (k *Key) SaveKeyfile(path, passphrase string) error { panic("not yet") }

// LoadKeyfile reads the key of a repository from a file. Errors match ErrKeyfile, ErrWrongPassphrase or those of os.
func LoadKeyfile(path string, repoID repository.ID, passphrase string) (*Key, error) {
	panic("not yet")
}

// KeyfilePath returns the path in dir of a new key file for the repository at path on host, which is empty for a local
// one. It is named as Attic names it, with .2, .3 and so on where the name is taken.
func KeyfilePath(dir, host, path string) string { panic("not yet") }

// FindKeyfile returns the path of the repository's key file in the first of the directories that has one. The error matches ErrNoKeyfile.
func FindKeyfile(dirs []string, repoID repository.ID) (string, error) { panic("not yet") }

// KeysDir returns the directory for new key files: $GARRET_KEYS_DIR, else $ATTIC_KEYS_DIR, else garret/keys under the
// user's configuration directory.
func KeysDir() (string, error) { panic("not yet") }

// KeysDirs returns the directories in which to look for key files: those of KeysDir and, unless one is set in the
// environment, ~/.attic/keys.
func KeysDirs() ([]string, error) { panic("not yet") }
