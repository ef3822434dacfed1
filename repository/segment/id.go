package segment

import (
	"encoding/hex"
	"fmt"
)

// KeySize is the length in bytes of every object's key.
const KeySize = 32

// ID is the key of an object: 32 bytes that the store does not interpret.
type ID [KeySize]byte

// String returns the key in 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads a key from 64 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	if hex.DecodedLen(len(s)) != KeySize || len(s)%2 != 0 {
		return id, fmt.Errorf("%q is not an object id: it must have %d hexadecimal digits", s, 2*KeySize)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("%q is not an object id: %w", s, err)
	}
	return id, nil
}
