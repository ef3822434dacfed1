package envelope

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"garret/repository"
)

// The paper form of a key file: printed, and typed in again by a person. All of it is a format.
//
//	# garret paper key, version 1
//	 1: 0191 2e66 c5d1 c967 480a 7dc2 166f b398 - 3f0c
//	 2: 2e79 ...
//
// Lines that begin with # are for people. Each other line is its number, 16 bytes in hexadecimal digits (fewer in the last
// one), and a checksum: CRC-16/CCITT-FALSE (polynomial 0x1021, beginning with 0xffff) of the number as u16 and the bytes.
// It finds every mistake within four successive digits, and digits, groups and lines that have changed places. The bytes
// of all lines are, with big-endian integers:
//
//	version u8 = 1 | repository id [32] | length u16 | key file's msgpack [length] | digest [8]
//
// where digest begins the SHA-256 of all before it, and finds lines of different keys that were mixed.
const (
	paperVersion    = 1
	paperLineSize   = 16 // bytes
	paperHeaderSize = 1 + 32 + 2
	paperDigestSize = 8
)

// ErrPaper is matched by the errors about a paper key that was not typed in as it is printed.
var ErrPaper = errors.New("not a valid paper key")

// What a key on paper may have, in bytes of msgpack. It has 350 or so.
const (
	minPaperKey = 100
	maxPaperKey = 4096
)

// A PaperError says what is wrong with a line of a paper key. It matches ErrPaper.
type PaperError struct {
	Line    int
	Problem string
	lost    bool // it is of no use to look at the lines after it
}

func (e *PaperError) Error() string {
	return fmt.Sprintf("%v: line %d: %s", ErrPaper, e.Line, e.Problem)
}

// Is makes the error match ErrPaper.
func (e *PaperError) Is(target error) bool { return target == ErrPaper }

// Paper returns the paper form of the file: lines of text of at most 80 columns.
func (f *Keyfile) Paper() ([]byte, error) {
	if n := len(f.locked.packed); n < minPaperKey || n > maxPaperKey {
		return nil, fmt.Errorf("a key of %d bytes cannot be put on paper: it must have %d to %d", n, minPaperKey, maxPaperKey)
	}
	b := append([]byte{paperVersion}, f.repoID[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.locked.packed)))
	b = append(b, f.locked.packed...)
	digest := sha256.Sum256(b)
	b = append(b, digest[:paperDigestSize]...)

	out := fmt.Appendf(nil, "# garret paper key, version %d\n", paperVersion)
	id := f.repoID.String()
	out = fmt.Appendf(out, "# of the repository %s\n#                   %s\n", id[:32], id[32:])
	out = append(out, `#
# If the key has a passphrase, it is needed too, and is not on this paper.
# To bring the key back: garret key import --paper REPO
# and type the lines that follow; or type them into a file and add its name.
# Capital letters and spaces do not matter. The last group of each line is its
# checksum.
#
`...)
	number := 0
	for line := range slices.Chunk(b, paperLineSize) {
		number++
		out = fmt.Appendf(out, "%2d:", number)
		for group := range slices.Chunk(line, 2) {
			out = fmt.Appendf(out, " %x", group)
		}
		out = fmt.Appendf(out, " - %04x\n", paperSum(number, line))
	}
	return out, nil
}

// paperSum is the checksum of a line.
func paperSum(number int, line []byte) uint16 {
	sum := uint16(0xffff)
	for _, b := range append([]byte{byte(number >> 8), byte(number)}, line...) {
		sum ^= uint16(b) << 8
		for range 8 {
			carry := sum&0x8000 != 0
			if sum <<= 1; carry {
				sum ^= 0x1021
			}
		}
	}
	return sum
}

// A PaperKey is a paper key that is being typed in, line by line. The zero value has no line yet.
type PaperKey struct {
	data []byte
}

// Next returns the number of the line that comes next, and 0 when all are there.
func (p *PaperKey) Next() int {
	if size, known := p.size(); known && len(p.data) >= size {
		return 0
	}
	return len(p.data)/paperLineSize + 1
}

// size returns how many bytes all lines have, once that is known.
func (p *PaperKey) size() (int, bool) {
	if len(p.data) < paperHeaderSize {
		return 0, false
	}
	return paperHeaderSize + int(binary.BigEndian.Uint16(p.data[paperHeaderSize-2:])) + paperDigestSize, true
}

// Add adds the line that comes next, with its number before it or without. Empty lines and those that begin with # are
// passed over. An error says what is wrong with the line, and leaves the key as it was; it is a *PaperError.
func (p *PaperKey) Add(line string) error {
	line = strings.Join(strings.Fields(line), "")
	if line == "" || line[0] == '#' {
		return nil
	}
	number := p.Next()
	if number == 0 {
		return &PaperError{paperLines(len(p.data)) + 1, "there is one line too many", true}
	}
	if before, after, ok := strings.Cut(line, ":"); ok {
		if n, err := strconv.Atoi(before); err != nil || n != number {
			return &PaperError{number, fmt.Sprintf("it has the number %q", before), true}
		}
		line = after
	}
	b, problem := p.read(number, paperDigits.Replace(line))
	if problem != "" {
		return &PaperError{number, problem, number == paperLines(paperHeaderSize)}
	}
	p.data = append(p.data, b...)
	return nil
}

// read returns the bytes of a line, or what is wrong with it.
func (p *PaperKey) read(number int, line string) (b []byte, problem string) {
	for _, r := range line {
		if !strings.ContainsRune("0123456789abcdef", r) {
			return nil, fmt.Sprintf("%q is no hexadecimal digit", r)
		}
	}
	want := p.lineSize()
	if digits := 2*want + 4; len(line) != digits {
		return nil, fmt.Sprintf("it has %d digits instead of %d", len(line), digits)
	}
	b, err := hex.DecodeString(line)
	if err != nil {
		return nil, err.Error()
	}
	b, sum := b[:want], binary.BigEndian.Uint16(b[want:])
	if sum != paperSum(number, b) {
		return nil, "a digit in it is wrong, as its checksum tells"
	}
	switch number {
	case 1:
		if b[0] != paperVersion {
			return nil, fmt.Sprintf("version %d of paper keys is not known: a newer garret has printed it", b[0])
		}
	case paperLines(paperHeaderSize):
		n := binary.BigEndian.Uint16(b[(paperHeaderSize-2)%paperLineSize:])
		if n < minPaperKey || n > maxPaperKey {
			return nil, fmt.Sprintf("a key of %d bytes cannot be", n)
		}
	}
	return b, ""
}

// lineSize returns how many bytes the next line has.
func (p *PaperKey) lineSize() int {
	if size, known := p.size(); known {
		return min(paperLineSize, size-len(p.data))
	}
	return paperLineSize
}

// paperLines returns how many lines have so many bytes.
func paperLines(size int) int { return (size + paperLineSize - 1) / paperLineSize }

// paperDigits makes lower case of the digits, and digits of the letters that are read for them.
var paperDigits = strings.NewReplacer("-", "", "A", "a", "B", "b", "C", "c", "D", "d", "E", "e", "F", "f",
	"o", "0", "O", "0", "l", "1", "I", "1", "i", "1", "L", "1")

// Keyfile returns the key file of a repository once all lines are there. Errors match ErrPaper or ErrKeyfile.
func (p *PaperKey) Keyfile(repoID repository.ID) (*Keyfile, error) {
	if n := p.Next(); n != 0 {
		return nil, fmt.Errorf("%w: it ends before line %d", ErrPaper, n)
	}
	body, digest := p.data[:len(p.data)-paperDigestSize], p.data[len(p.data)-paperDigestSize:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:paperDigestSize], digest) {
		return nil, fmt.Errorf("%w: the lines are not of one key", ErrPaper)
	}
	id := repository.ID(body[1:33])
	return ParseKeyfile(keyfileText(id, body[paperHeaderSize:]), repoID)
}

// maxPaperErrors is how many lines that are wrong are told of at a time.
const maxPaperErrors = 10

// ParsePaper reads a paper key of a repository that was typed into a file. The error names the lines that are wrong; it
// matches ErrPaper or ErrKeyfile.
func ParsePaper(text []byte, repoID repository.ID) (*Keyfile, error) {
	var p PaperKey
	var problems []string
	for line := range bytes.Lines(text) {
		var wrong *PaperError
		if err := p.Add(string(line)); !errors.As(err, &wrong) {
			continue
		}
		problems = append(problems, fmt.Sprintf("line %d: %s", wrong.Line, wrong.Problem))
		if wrong.lost || len(problems) == maxPaperErrors {
			break
		}
		p.data = append(p.data, make([]byte, p.lineSize())...) // go on with the next
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrPaper, strings.Join(problems, "; "))
	}
	return p.Keyfile(repoID)
}

// keyfileText returns the text of a key file with the packed map.
func keyfileText(id repository.ID, packed []byte) []byte {
	out := fmt.Appendf(nil, "%s%v\n", keyfileMagic, id)
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(packed)), foldAt) {
		out = append(append(out, line...), '\n')
	}
	return out
}
