package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"garret/internal/rawpack"
	"garret/repository"
)

// What is in a key file. All of it is wire format.
const (
	keyfileMagic = "ATTIC KEY "
	foldAt       = 70 // columns of base64 in a line
	algorithm    = "sha256"
)

// Bounds for key files from elsewhere.
const (
	maxKeyfileSize   = 64 << 10   // bytes; a file has 550 or so
	maxKDFIterations = 10_000_000 // some seconds
)

// SaveKeyfile writes a key of the KeyfileType to a new file at path, encrypted with the passphrase, and makes the folder if
// need be. The file is durable on return; one that exists is not replaced, and the error then matches fs.ErrExist.
func (k *Key) SaveKeyfile(path, passphrase string) error {
	data, err := k.encodeKeyfile(passphrase)
	if err != nil {
		return fmt.Errorf("save key file %q: %w", path, err)
	}
	return saveKeyfile(path, data, createFile)
}

// LoadKeyfile reads the key of a repository from a file: it is ReadKeyfile and Open. Errors match ErrKeyfile,
// ErrWrongPassphrase or those of os.
func LoadKeyfile(path string, repoID repository.ID, passphrase string) (*Key, error) {
	f, err := ReadKeyfile(path, repoID)
	if err != nil {
		return nil, err
	}
	return f.Open(passphrase)
}

// A Keyfile is what a key file holds, which is well-formed and the right repository's. Its key is still locked.
//
//	ATTIC KEY <repository id, hex>
//	<base64, folded at 70 columns>
//
// The base64 is msgpack {version: 1, salt [32], iterations, algorithm: "sha256", hash [32], data}. The key of the file is
// PBKDF2-HMAC-SHA-256(passphrase, salt, iterations), 32 bytes; data is encrypted with it in AES-256-CTR, the
// counter beginning at zero, and hash is the HMAC-SHA-256 under it of what was encrypted: msgpack {version: 1,
// repository_id [32], enc_key [32], enc_hmac_key [32], id_key [32], chunk_seed}.
type Keyfile struct {
	path   string // empty: it does not come from a file
	text   []byte
	repoID repository.ID
	locked *lockedKey
}

// ReadKeyfile reads a key file of a repository. Errors match ErrKeyfile or those of os.
func ReadKeyfile(path string, repoID repository.ID) (*Keyfile, error) {
	data, err := readKeyfile(path)
	if err == nil {
		var f *Keyfile
		if f, err = ParseKeyfile(data, repoID); err == nil {
			f.path = path
			return f, nil
		}
	}
	return nil, fmt.Errorf("load key file %q: %w", path, err)
}

// ParseKeyfile reads the text of a key file of a repository. Errors match ErrKeyfile.
func ParseKeyfile(text []byte, repoID repository.ID) (*Keyfile, error) {
	if len(text) > maxKeyfileSize {
		return nil, invalid("it is longer than %d bytes", maxKeyfileSize)
	}
	locked, err := parseKeyfile(text, repoID)
	if err != nil {
		return nil, err
	}
	return &Keyfile{text: bytes.Clone(text), repoID: repoID, locked: locked}, nil
}

// Path returns where the file was read from, and nothing for one that was not.
func (f *Keyfile) Path() string { return f.path }

// Text returns the file's content, which the caller must not change.
func (f *Keyfile) Text() []byte { return f.text }

// Open returns the key. The error matches ErrWrongPassphrase, or ErrKeyfile if what was locked is malformed.
func (f *Keyfile) Open(passphrase string) (*Key, error) {
	packed, err := f.locked.open(passphrase)
	if err == nil {
		var k *Key
		if k, err = decodeKey(packed, f.repoID); err == nil {
			return k, nil
		}
	}
	if f.path != "" {
		err = fmt.Errorf("load key file %q: %w", f.path, err)
	}
	return nil, err
}

// Save writes the file to a new one at path, as [Key.SaveKeyfile] does.
func (f *Keyfile) Save(path string) error { return saveKeyfile(path, f.text, createFile) }

// Replace writes the file in the place of the key file at path, atomically and durably: after an error and after a crash
// either the old one is there or the new one, whole.
func (f *Keyfile) Replace(path string) error { return saveKeyfile(path, f.text, replaceKeyfile) }

// ChangePassphrase locks the key in the file at path, which must be this key's, with another passphrase. It replaces
// the file atomically and durably: after an error and after a crash it can be opened with the old passphrase or with the
// new one. Copies of the file are not changed, and still open with the old passphrase.
func (k *Key) ChangePassphrase(path, passphrase string) error {
	data, err := k.encodeKeyfile(passphrase)
	if err == nil { // nothing else has this key, so make sure that it can be had back
		var again *Key
		if again, err = decodeKeyfile(data, k.repoID, passphrase); err == nil && again.material != k.material {
			err = errors.New("the new file does not give the key back")
		}
	}
	if err != nil {
		return fmt.Errorf("save key file %q: %w", path, err)
	}
	return saveKeyfile(path, data, replaceKeyfile)
}

// saveKeyfile writes a key file in one way or another, and makes its folder if need be.
func saveKeyfile(path string, data []byte, write func(string, []byte) error) error {
	err := MakeDir(filepath.Dir(path))
	if err == nil {
		err = write(path, data)
	}
	if err != nil {
		return fmt.Errorf("save key file %q: %w", path, err)
	}
	return nil
}

func readKeyfile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyfileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyfileSize {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrKeyfile, maxKeyfileSize)
	}
	return data, nil
}

func (k *Key) encodeKeyfile(passphrase string) ([]byte, error) {
	if k.typ != KeyfileType {
		return nil, fmt.Errorf("a %v is not kept in a file", k)
	}
	plain := rawpack.AppendMapHeader(nil, 6)
	plain = rawpack.AppendInt(rawpack.AppendRaw(plain, "version"), 1)
	plain = rawpack.AppendRaw(rawpack.AppendRaw(plain, "repository_id"), k.repoID[:])
	plain = rawpack.AppendRaw(rawpack.AppendRaw(plain, "enc_key"), k.encKey())
	plain = rawpack.AppendRaw(rawpack.AppendRaw(plain, "enc_hmac_key"), k.macKey())
	plain = rawpack.AppendRaw(rawpack.AppendRaw(plain, "id_key"), k.idKey())
	plain = rawpack.AppendInt(rawpack.AppendRaw(plain, "chunk_seed"), int64(int32(k.ChunkSeed())))

	var salt [32]byte
	rand.Read(salt[:]) // never fails
	fileKey, err := pbkdf2.Key(sha256.New, passphrase, salt[:], kdfIterations, 32)
	if err != nil {
		return nil, err
	}
	digest := keyfileMAC(fileKey, plain)
	// The counter may begin at zero: with a fresh salt, the key of the file is used this once.
	if err := keyfileXOR(fileKey, plain); err != nil {
		return nil, err
	}

	packed := rawpack.AppendMapHeader(nil, 6)
	packed = rawpack.AppendInt(rawpack.AppendRaw(packed, "version"), 1)
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "salt"), salt[:])
	packed = rawpack.AppendInt(rawpack.AppendRaw(packed, "iterations"), kdfIterations)
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "algorithm"), algorithm)
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "hash"), digest)
	packed = rawpack.AppendRaw(rawpack.AppendRaw(packed, "data"), plain)

	return keyfileText(k.repoID, packed), nil
}

func decodeKeyfile(data []byte, repoID repository.ID, passphrase string) (*Key, error) {
	l, err := parseKeyfile(data, repoID)
	if err != nil {
		return nil, err
	}
	packed, err := l.open(passphrase)
	if err != nil {
		return nil, err
	}
	return decodeKey(packed, repoID)
}

// invalid returns an error about a key file that is not as it must be.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrKeyfile}, args...)...)
}

// newerKeyfile is the error of a key file that a later version has made. It matches ErrKeyfile and repository.ErrNewer.
type newerKeyfile struct{ what string }

func (e *newerKeyfile) Error() string {
	return fmt.Sprintf("%v: %s is not known", repository.ErrNewer, e.what)
}

func (e *newerKeyfile) Is(target error) bool {
	return target == ErrKeyfile || target == repository.ErrNewer
}

// lockedKey is what a key file holds, before it is opened with the passphrase.
type lockedKey struct {
	packed            []byte // the msgpack with all of it
	iterations        int64
	salt, digest, box []byte
}

// parseKeyfile reads a key file, which must be the repository's.
func parseKeyfile(data []byte, repoID repository.ID) (*lockedKey, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	id, err := parseKeyfileHead(head)
	if err != nil {
		return nil, invalid("%w", err)
	}
	if id != repoID {
		return nil, invalid("it is for the repository %v, not %v", id, repoID)
	}
	packed, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
	if err != nil {
		return nil, invalid("%w", err)
	}
	l := lockedKey{packed: packed}
	var version int64
	var alg string
	r := rawpack.NewReader(packed)
	r.Map(func(key string) {
		switch key {
		case "version":
			version = r.Int(0, 1<<32)
		case "salt":
			l.salt = r.Raw()
		case "iterations":
			l.iterations = r.Int(1, maxKDFIterations)
		case "algorithm":
			alg = r.Text()
		case "hash":
			l.digest = r.Raw()
		case "data":
			l.box = r.Raw()
		default:
			r.Value()
		}
	})
	switch {
	case version > 1:
		return nil, &newerKeyfile{fmt.Sprintf("its version %d", version)}
	case r.Err() != nil:
		return nil, invalid("%w", r.Err())
	case version != 1:
		return nil, invalid("its version is %d", version)
	case alg != algorithm:
		return nil, &newerKeyfile{fmt.Sprintf("its algorithm %q", alg)}
	case l.iterations == 0 || len(l.salt) == 0 || len(l.digest) != sha256.Size || len(l.box) == 0:
		return nil, invalid("something is missing in it")
	}
	return &l, nil
}

// open returns the record of the key, or ErrWrongPassphrase.
func (l *lockedKey) open(passphrase string) ([]byte, error) {
	fileKey, err := pbkdf2.Key(sha256.New, passphrase, l.salt, int(l.iterations), 32)
	if err != nil {
		return nil, err
	}
	packed := bytes.Clone(l.box)
	if err := keyfileXOR(fileKey, packed); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(keyfileMAC(fileKey, packed), l.digest) != 1 {
		return nil, ErrWrongPassphrase
	}
	return packed, nil
}

// decodeKey reads the record of a key, which must be the repository's.
func decodeKey(packed []byte, repoID repository.ID) (*Key, error) {
	var material [keyMaterialSize]byte
	var innerID []byte
	var version int64
	found := 0
	r := rawpack.NewReader(packed)
	part := func(dst []byte) {
		if raw := r.Raw(); len(raw) == len(dst) {
			copy(dst, raw)
			found++
		} else {
			r.Failf("a key of %d bytes instead of %d", len(raw), len(dst))
		}
	}
	r.Map(func(key string) {
		switch key {
		case "version":
			version = r.Int(0, 1<<32)
		case "repository_id":
			innerID = r.Raw()
		case "enc_key":
			part(material[:32])
		case "enc_hmac_key":
			part(material[32:64])
		case "id_key":
			part(material[64:96])
		case "chunk_seed":
			binary.BigEndian.PutUint32(material[96:], uint32(r.Int(-1<<31, 1<<31-1)))
			found++
		default:
			r.Value()
		}
	})
	switch {
	case version > 1:
		return nil, &newerKeyfile{fmt.Sprintf("the version %d of its key", version)}
	case r.Err() != nil:
		return nil, invalid("%w", r.Err())
	case version != 1:
		return nil, invalid("the version of its key is %d", version)
	case found != 4:
		return nil, invalid("a key is missing in it")
	case !bytes.Equal(innerID, repoID[:]):
		return nil, invalid("the key in it is for the repository %x, not %v", innerID, repoID)
	}
	return newKey(KeyfileType, repoID, material)
}

func keyfileMAC(fileKey, plain []byte) []byte {
	h := hmac.New(sha256.New, fileKey)
	h.Write(plain)
	return h.Sum(nil)
}

// keyfileXOR encrypts or decrypts data in place.
func keyfileXOR(fileKey, data []byte) error {
	block, err := aes.NewCipher(fileKey)
	if err != nil {
		return err
	}
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(data, data)
	return nil
}

// parseKeyfileHead returns the id of the repository in a key file's first line.
func parseKeyfileHead(line []byte) (repository.ID, error) {
	hex, ok := strings.CutPrefix(strings.TrimRight(string(line), "\r\n"), keyfileMagic)
	if !ok {
		return repository.ID{}, fmt.Errorf("it does not begin with %q", keyfileMagic)
	}
	return repository.ParseID(hex)
}

// notWord is what a key file's name does not have.
var notWord = regexp.MustCompile(`[^\pL\pN_]`)

// KeyfilePath returns the path in dir of a new key file for the repository at path on host, which is empty for a local
// one. It is named as Attic names it, with .2, .3 and so on where the name is taken.
func KeyfilePath(dir, host, path string) string {
	name := strings.Trim(notWord.ReplaceAllString(path, "_"), "_")
	if host != "" {
		// The host comes from the command line, but must not lead elsewhere either.
		name = strings.ReplaceAll(host, string(filepath.Separator), "_") + "__" + name
	}
	if name == "" {
		name = "key" // of the repository "/"
	}
	base := filepath.Join(dir, name)
	free := base
	for i := 2; ; i++ {
		if _, err := os.Lstat(free); err != nil {
			return free // or SaveKeyfile tells what is wrong
		}
		free = fmt.Sprintf("%s.%d", base, i)
	}
}

// FindKeyfile returns the path of the repository's key file in the first of the directories that has one. Directories that
// do not exist are passed over, and so are files that cannot be read; one that is damaged is returned only if there is no
// other. The error matches ErrNoKeyfile if there is none.
func FindKeyfile(dirs []string, repoID repository.ID) (string, error) {
	damaged := ""
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for key files: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if strings.HasPrefix(e.Name(), tempPrefix) || !keyfileIsFor(path, repoID) {
				continue
			}
			if data, err := readKeyfile(path); err == nil {
				if _, err = parseKeyfile(data, repoID); err == nil {
					return path, nil
				}
			}
			if damaged == "" {
				damaged = path
			}
		}
	}
	if damaged != "" {
		return damaged, nil
	}
	return "", fmt.Errorf("%w for the repository %v in %s", ErrNoKeyfile, repoID, strings.Join(dirs, ", "))
}

// keyfileIsFor reports whether a file begins as the repository's key file does.
func keyfileIsFor(path string, repoID repository.ID) bool {
	if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() { // a FIFO would block
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(keyfileMagic)+2*len(repoID)+2)
	n, _ := io.ReadFull(f, head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	id, err := parseKeyfileHead(line)
	return err == nil && id == repoID
}

// KeysDir returns the directory for new key files: $GARRET_KEYS_DIR, else $ATTIC_KEYS_DIR, else garret/keys under the
// user's configuration directory ($XDG_CONFIG_HOME, else ~/.config).
func KeysDir() (string, error) {
	if dir, ok := envKeysDir(); ok {
		return dir, nil
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "garret", "keys"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for key files: %w; set GARRET_KEYS_DIR", err)
	}
	return filepath.Join(home, ".config", "garret", "keys"), nil
}

// KeysDirs returns the directories in which to look for key files: that of KeysDir and, unless it is set in the
// environment, ~/.attic/keys.
func KeysDirs() ([]string, error) {
	dir, err := KeysDir()
	if err != nil {
		return nil, err
	}
	dirs := []string{dir}
	if _, ok := envKeysDir(); !ok {
		if home, err := os.UserHomeDir(); err == nil {
			dirs = append(dirs, filepath.Join(home, ".attic", "keys"))
		}
	}
	return dirs, nil
}

func envKeysDir() (string, bool) {
	for _, name := range []string{"GARRET_KEYS_DIR", "ATTIC_KEYS_DIR"} {
		if dir := os.Getenv(name); dir != "" {
			return dir, true
		}
	}
	return "", false
}
