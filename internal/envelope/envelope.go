// Package envelope seals objects for storage and opens them again.
package envelope

import (
	"crypto/cipher"
	"errors"

	"garret/repository"
)

// Type says how an envelope is made. It is wire format: an envelope's first byte.
type Type byte

// The types of envelope, and of the key that makes them.
const (
	// KeyfileType is encrypted with a random key that is kept in a key file.
	KeyfileType Type = 0x00
	// PassphraseType is encrypted with a key that is derived from a passphrase and the repository's id.
	PassphraseType Type = 0x01
	// PlaintextType is compressed, but neither encrypted nor authenticated.
	PlaintextType Type = 0x02
)

// Encrypts reports whether envelopes of the type are encrypted and authenticated.
func (t Type) Encrypts() bool { return t == KeyfileType || t == PassphraseType }

// String returns the name that the -e flag of init has for the type.
func (t Type) String() string { panic("not yet") }

// ParseType reads the name of a type: none, passphrase or keyfile.
func ParseType(name string) (Type, error) { panic("not yet") }

// MaxDataSize is the length in bytes of the longest data that an envelope may hold.
const MaxDataSize = 64 << 20

// The errors that a caller may want to tell apart with errors.Is.
var (
	// ErrWrongPassphrase is returned when a key file or a manifest cannot be opened with the passphrase.
	ErrWrongPassphrase = errors.New("wrong passphrase")
	// ErrNoKeyfile is returned when no key file of the repository is found.
	ErrNoKeyfile = errors.New("no key file found")
	// ErrKeyfile is matched by the errors about a key file that is malformed or belongs to another repository.
	ErrKeyfile = errors.New("not a valid key file")
	// ErrNoPassphrase is returned when a passphrase is needed and there is nobody to ask.
	ErrNoPassphrase = errors.New("a passphrase is needed")
	// ErrNoncesUsedUp is returned by Seal when a key has no counter values left.
	ErrNoncesUsedUp = errors.New("the key's counters are used up")
)

// A Nonces gives out counter values of which none may be given out twice for the same key. It is safe for concurrent use.
type Nonces interface {
	// Reserve returns the first of a number of successive counter values that nobody else will ever be given.
	Reserve(blocks uint64) (first uint64, err error)
}

// A Key seals and opens the objects of one repository. Apart from UseNonces, it is safe for concurrent use.
type Key struct {
	typ    Type
	block  cipher.Block
	nonces Nonces
}

// Detect returns the type of an envelope. The error matches repository.ErrIntegrity.
func Detect(env []byte) (Type, error) { panic("not yet") }

// NonceEnd returns the counter value after the last one that an envelope uses, and 0 for one that is not encrypted or
// too short.
func NonceEnd(env []byte) uint64 { panic("not yet") }

// Type returns the type of the envelopes that the key makes.
func (k *Key) Type() Type { return k.typ }

// ID returns the id of an object with the data: its SHA-256, or its HMAC-SHA-256 under a key that encrypts.
func (k *Key) ID(data []byte) repository.ID { panic("not yet") }

// ChunkSeed returns the seed of the chunker.
func (k *Key) ChunkSeed() uint32 { panic("not yet") }

// UseNonces sets where the counter values of Seal come from. It must be called before Seal on a key that encrypts.
func (k *Key) UseNonces(n Nonces) { k.nonces = n }

// Seal appends the envelope of data to dst and returns the extended slice. An error leaves dst as it was.
func (k *Key) Seal(dst, data []byte) ([]byte, error) { panic("not yet") }

// Open returns the data in an envelope, in a slice that the caller owns. The data must have the id, unless that is nil.
// Every error matches repository.ErrIntegrity.
func (k *Key) Open(id *repository.ID, env []byte) ([]byte, error) { panic("not yet") }

// NewPlaintext returns the key of a repository without encryption.
func NewPlaintext() *Key { return &Key{typ: PlaintextType} }

// NewPassphrase returns the key that is derived from a repository's id and a passphrase.
func NewPassphrase(repoID repository.ID, passphrase string) (*Key, error) { panic("not yet") }

// NewKeyfile returns a fresh random key, which should be saved with SaveKeyfile before anything is sealed with it.
func NewKeyfile(repoID repository.ID) (*Key, error) { panic("not yet") }
