// Package rottest damages the contents of files by chance, as media and careless people do, and counts what came of it. It is
// for tests.
package rottest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"garret/internal/campaign"
)

// CasesVariable is the environment variable that says how many cases a test has of each kind of file.
const CasesVariable = "GARRET_ROT_CASES"

// Cases returns how many cases there are of each kind of file: as many as CasesVariable says, else full in a whole campaign
// and share in the plain tests.
func Cases(t testing.TB, full, share int) int {
	t.Helper()
	return campaign.Set(t, CasesVariable, full, share)
}

// block is what a disk reads and writes as a whole, in bytes.
const block = 512

// OldCopy and Missing are two of the ways in which Rot damages a file.
const (
	OldCopy = "an old copy"
	Missing = "missing"
)

// Rot returns a content damaged in one of many ways, and says in which; nil stands for a file that is gone. Now and then the
// two are the same. old is what a copy of some time ago has, nil if it has no such file. It keeps neither of the slices.
func Rot(rng *rand.Rand, content, old []byte) (how string, damaged []byte) {
	b := bytes.Clone(content)
	if len(b) == 0 {
		return "garbage", []byte{byte(rng.Uint32())}
	}
	from := rng.IntN(len(b))
	to := min(len(b), from+1+rng.IntN(1+rng.IntN(700)))
	switch rng.IntN(11) {
	case 0, 1:
		b[from] ^= 1 << rng.IntN(8)
		return fmt.Sprintf("bit at %d", from), b
	case 2:
		for range 2 + rng.IntN(6) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		return "bits", b
	case 3:
		from, to = from/block*block, min(len(b), from/block*block+block)
		clear(b[from:to])
		return fmt.Sprintf("zeros %d to %d", from, to), b
	case 4:
		scramble(rng, b[from:to])
		return fmt.Sprintf("garbage %d to %d", from, to), b
	case 5:
		return fmt.Sprintf("cut at %d", from), b[:from]
	case 6:
		return fmt.Sprintf("without %d to %d", from, to), slices.Delete(b, from, to)
	case 7:
		return fmt.Sprintf("twice %d to %d", from, to), slices.Insert(b, from, bytes.Clone(b[from:to])...)
	case 8: // a write that went to the wrong place
		at := rng.IntN(len(b))
		n := copy(b[at:], bytes.Clone(b[from:to]))
		return fmt.Sprintf("%d to %d at %d too", from, from+n, at), b
	case 9:
		more := make([]byte, 1+rng.IntN(600))
		if rng.IntN(2) == 0 {
			scramble(rng, more)
		}
		return fmt.Sprintf("%d bytes more", len(more)), append(b, more...)
	default:
		if old == nil || bytes.Equal(old, b) || rng.IntN(3) == 0 {
			return Missing, nil
		}
		return OldCopy, bytes.Clone(old)
	}
}

func scramble(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// A Tally counts what came of the cases of one kind of file. The zero value is empty.
type Tally struct {
	cases    int
	outcomes map[string]int
}

// Add counts a case and all that came of it. What is empty is not counted.
func (c *Tally) Add(outcomes ...string) {
	if c.outcomes == nil {
		c.outcomes = map[string]int{}
	}
	c.cases++
	for _, o := range outcomes {
		if o != "" {
			c.outcomes[o]++
		}
	}
}

// Cases returns how many cases were counted.
func (c *Tally) Cases() int { return c.cases }

// Log writes down how many cases there were, and how often what came of them.
func (c *Tally) Log(t testing.TB) {
	t.Helper()
	var parts []string
	for _, o := range slices.Sorted(maps.Keys(c.outcomes)) {
		parts = append(parts, fmt.Sprintf("%d %s", c.outcomes[o], o))
	}
	t.Logf("%d cases: %s", c.cases, strings.Join(parts, ", "))
}
