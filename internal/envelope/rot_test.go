package envelope

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"garret/internal/rottest"
)

// TestRottenPaper damages a key on paper, as a file. What is read of it is the key file that was written, or an error that says
// what is wrong.
func TestRottenPaper(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	id := goldenID(t)
	paper, want := goldenPaper(t)
	var tally rottest.Tally
	for i, cases := 0, rottest.Cases(t, 2000, 300); tally.Cases() < cases; i++ {
		how, rotten := rottest.Rot(rng, paper, nil)
		if bytes.Equal(rotten, paper) || rotten == nil { // there is nothing to read
			continue
		}
		f, err := ParsePaper(rotten, id)
		switch {
		case err == nil && !bytes.Equal(f.Text(), want):
			t.Fatalf("case %d: %s: it gives another key file", i, how)
		case err == nil:
			tally.Add("harmless")
		case errors.Is(err, ErrPaper) || errors.Is(err, ErrKeyfile):
			tally.Add("found")
		default:
			t.Fatalf("case %d: %s: %v", i, how, err)
		}
	}
	tally.Log(t)
}
