// Package envelope seals objects for storage and opens them again, and keeps the keys for it.
//
// Every object of a repository is an envelope. Its first byte is the [Type]; integers are big-endian:
//
//	plaintext              | 0x02 | zlib(data)                                                  |
//	passphrase, keyfile    | type | HMAC-SHA-256 [32] | nonce u64 | AES-256-CTR(zlib(data))     |
//
// The HMAC is over the nonce and the ciphertext. The cipher's counter block is a 128-bit big-endian number that begins
// with the nonce (so its upper half is zero) and grows by one for every 16 bytes: an envelope uses ceil(len/16) counter
// values. [NonceReserver] sees to it that none is used twice.
//
// The id of an object is the SHA-256 of its data or, under a key that encrypts, the HMAC-SHA-256. A key that encrypts is
// 100 bytes:
//
//	| enc_key [32] | enc_hmac_key [32] | id_key [32] | chunk_seed i32 |
//
// They are random and kept in a key file (see [LoadKeyfile] for its form), or they are
// PBKDF2-HMAC-SHA-256(passphrase, salt = repository id, 100,000 iterations).
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
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"math/bits"
	"sync"

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

// MaxType is the greatest type that a later version may come to use. What is beyond is no type, but damage. It is wire format.
const MaxType Type = 0x1f

// typeNames are what the -e flag of init calls the types.
var typeNames = [...]string{KeyfileType: "keyfile", PassphraseType: "passphrase", PlaintextType: "none"}

// Encrypts reports whether envelopes of the type are encrypted and authenticated.
func (t Type) Encrypts() bool { return t == KeyfileType || t == PassphraseType }

// String returns the name of the type: keyfile, passphrase or none.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("unknown type %#02x", byte(t))
}

// ParseType reads the name of a type: none, passphrase or keyfile.
func ParseType(name string) (Type, error) {
	for t, n := range typeNames {
		if n == name {
			return Type(t), nil
		}
	}
	return 0, fmt.Errorf("%q is not a type of encryption: it must be none, passphrase or keyfile", name)
}

// The lengths of the parts of an encrypted envelope, in bytes. They are wire format.
const (
	macSize    = sha256.Size
	nonceSize  = 8
	nonceAt    = 1 + macSize
	headerSize = nonceAt + nonceSize
)

// kdfIterations is the work that a guess at a passphrase costs. It is wire format for passphrase keys, and what new key
// files are written with.
const kdfIterations = 100_000

// keyMaterialSize is the number of bytes that make a key.
const keyMaterialSize = 3*32 + 4

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

// errMAC is the error of an envelope that was changed, or made with another key.
var errMAC = fmt.Errorf("the HMAC differs: %w", repository.ErrIntegrity)

// A Nonces gives out counter values of which none may be given out twice for the same key. It is safe for concurrent use.
type Nonces interface {
	// Reserve returns the first of a number of successive counter values that nobody else will ever be given.
	Reserve(blocks uint64) (first uint64, err error)
}

// A Key seals and opens the objects of one repository. Apart from UseNonces, it is safe for concurrent use.
type Key struct {
	typ    Type
	nonces Nonces

	// The rest is for keys that encrypt.
	repoID   repository.ID
	material [keyMaterialSize]byte
	block    cipher.Block
	idMACs   sync.Pool // of hash.Hash: hmac.New costs more than its Reset
	encMACs  sync.Pool
}

// String returns the key's type; the key itself is not for logs.
func (k *Key) String() string { return k.typ.String() + " key" }

// NewPlaintext returns the key of a repository without encryption.
func NewPlaintext() *Key { return &Key{typ: PlaintextType} }

// NewPassphrase returns the key that is derived from a repository's id and a passphrase.
func NewPassphrase(repoID repository.ID, passphrase string) (*Key, error) {
	material, err := pbkdf2.Key(sha256.New, passphrase, repoID[:], kdfIterations, keyMaterialSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key from the passphrase: %w", err)
	}
	return newKey(PassphraseType, repoID, [keyMaterialSize]byte(material))
}

// NewKeyfile returns a fresh random key, which should be saved with SaveKeyfile before anything is sealed with it.
func NewKeyfile(repoID repository.ID) (*Key, error) {
	var material [keyMaterialSize]byte
	rand.Read(material[:]) // never fails
	return newKey(KeyfileType, repoID, material)
}

func newKey(typ Type, repoID repository.ID, material [keyMaterialSize]byte) (*Key, error) {
	k := &Key{typ: typ, repoID: repoID, material: material}
	block, err := aes.NewCipher(k.encKey())
	if err != nil {
		return nil, fmt.Errorf("make the cipher: %w", err)
	}
	k.block = block
	k.encMACs.New = func() any { return hmac.New(sha256.New, k.macKey()) }
	k.idMACs.New = func() any { return hmac.New(sha256.New, k.idKey()) }
	return k, nil
}

func (k *Key) encKey() []byte { return k.material[:32] }
func (k *Key) macKey() []byte { return k.material[32:64] }
func (k *Key) idKey() []byte  { return k.material[64:96] }

// Type returns the type of the envelopes that the key makes.
func (k *Key) Type() Type { return k.typ }

// ChunkSeed returns the seed of the chunker: 0 without encryption, else secret, so that the lengths of the chunks do not
// tell what is in them.
func (k *Key) ChunkSeed() uint32 {
	return binary.BigEndian.Uint32(k.material[96:]) // zero in a plaintext key
}

// UseNonces sets where the counter values of Seal come from. It must be called before Seal on a key that encrypts.
func (k *Key) UseNonces(n Nonces) { k.nonces = n }

// ID returns the id of an object with the data: its SHA-256, or its HMAC-SHA-256 under a key that encrypts.
func (k *Key) ID(data []byte) repository.ID {
	if !k.typ.Encrypts() {
		return sha256.Sum256(data)
	}
	return sum(&k.idMACs, data)
}

func sum(pool *sync.Pool, data []byte) (digest [sha256.Size]byte) {
	h := pool.Get().(hash.Hash)
	h.Reset()
	h.Write(data)
	h.Sum(digest[:0])
	pool.Put(h)
	return digest
}

// Detect returns the type of an envelope. The error matches repository.ErrIntegrity, or repository.ErrNewer for a type that is
// not known yet.
func Detect(env []byte) (Type, error) {
	if len(env) == 0 {
		return 0, fmt.Errorf("the envelope is empty: %w", repository.ErrIntegrity)
	}
	t := Type(env[0])
	if int(t) >= len(typeNames) && t <= MaxType {
		return 0, fmt.Errorf("%w: the envelope has the %v", repository.ErrNewer, t)
	}
	if int(t) >= len(typeNames) {
		return 0, fmt.Errorf("the envelope has the %v: %w", t, repository.ErrIntegrity)
	}
	return t, nil
}

// NonceEnd returns the counter value after the last one that an envelope uses, and 0 for one that is not encrypted or
// too short. Where it would not fit into 64 bits it is the greatest value.
func NonceEnd(env []byte) uint64 {
	if len(env) < headerSize || !Type(env[0]).Encrypts() {
		return 0
	}
	first := binary.BigEndian.Uint64(env[nonceAt:])
	end, carry := bits.Add64(first, blocksOf(len(env)-headerSize), 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return end
}

// Overhead is the number of bytes by which an envelope that is encrypted is longer than its compressed data.
const Overhead = headerSize

// blocksOf returns how many counter values so many bytes of ciphertext use.
func blocksOf(n int) uint64 { return (uint64(n) + aes.BlockSize - 1) / aes.BlockSize }

// Seal appends the envelope of data to dst and returns the extended slice. An error, of the Nonces or for data longer than
// MaxDataSize, leaves dst as it was.
func (k *Key) Seal(dst, data []byte) ([]byte, error) {
	if len(data) > MaxDataSize {
		return dst, fmt.Errorf("seal %d bytes: %w", len(data), repository.ErrTooLarge)
	}
	start := len(dst)
	if !k.typ.Encrypts() {
		return deflate(append(dst, byte(k.typ)), data), nil
	}
	if k.nonces == nil {
		return dst, errors.New("seal: the key has no source of counter values")
	}
	var header [headerSize]byte
	header[0] = byte(k.typ)
	out := deflate(append(dst, header[:]...), data)
	env := out[start:]
	first, err := k.nonces.Reserve(blocksOf(len(env) - headerSize))
	if err != nil {
		return dst, fmt.Errorf("seal: %w", err)
	}
	binary.BigEndian.PutUint64(env[nonceAt:], first)
	k.xor(env[headerSize:], env[headerSize:], first)
	mac := sum(&k.encMACs, env[nonceAt:])
	copy(env[1:], mac[:])
	return out, nil
}

// Open returns the data in an envelope, in a slice that the caller owns; env is not changed. The data must have the id,
// unless that is nil, as for the manifest, whose id says nothing of its data. Every error matches repository.ErrIntegrity, or
// repository.ErrNewer where the type or the compression is one that is not known yet.
func (k *Key) Open(id *repository.ID, env []byte) ([]byte, error) {
	typ, err := Detect(env)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if typ != k.typ { // above all, plaintext must not pass for something that was authenticated
		return nil, fmt.Errorf("open: the envelope has the type %v and the key %v: %w", typ, k.typ, repository.ErrIntegrity)
	}
	var data []byte
	if typ.Encrypts() {
		data, err = k.decrypt(env)
	} else if comp := env[1:]; len(comp) > 1 && !isZlib(comp) && comp[0] <= maxCompression {
		err = newerCompression(comp)
	} else {
		data, err = inflate(comp)
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if id != nil {
		if got := k.ID(data); subtle.ConstantTimeCompare(got[:], id[:]) != 1 {
			return nil, fmt.Errorf("open: the content belongs to another id than %v: %w", *id, repository.ErrIntegrity)
		}
	}
	return data, nil
}

func (k *Key) decrypt(env []byte) ([]byte, error) {
	if len(env) < headerSize {
		return nil, fmt.Errorf("the envelope has only %d bytes: %w", len(env), repository.ErrIntegrity)
	}
	mac := sum(&k.encMACs, env[nonceAt:])
	if subtle.ConstantTimeCompare(mac[:], env[1:nonceAt]) != 1 {
		return nil, errMAC
	}
	buf := bufs.Get().(*bytes.Buffer)
	defer bufs.Put(buf)
	buf.Reset()
	buf.Grow(len(env) - headerSize)
	plain := buf.AvailableBuffer()[:len(env)-headerSize]
	k.xor(plain, env[headerSize:], binary.BigEndian.Uint64(env[nonceAt:]))
	if len(plain) > 1 && !isZlib(plain) { // who has the key has made it so
		return nil, newerCompression(plain)
	}
	return inflate(plain)
}

// bufs holds *bytes.Buffer, for what lies between ciphertext and data.
var bufs = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// xor encrypts or decrypts src into dst, which are the same or do not overlap.
func (k *Key) xor(dst, src []byte, first uint64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[aes.BlockSize-nonceSize:], first)
	cipher.NewCTR(k.block, counter[:]).XORKeyStream(dst, src)
}
