package cli

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"garret/internal/fsck"
	"garret/internal/rottest"
)

// TestRottenCheckParts damages what is remembered of a check in parts. A position that is not the one that was written would
// leave something out that nobody has checked.
func TestRottenCheckParts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	file := filepath.Join(dir, "check.json")
	write := func(p checkParts) []byte {
		t.Helper()
		p.file, p.wantStore, p.wantsArchives = file, true, true
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	read := func() string {
		p := readCheckParts(dir, true, true, true)
		p.Sum = ""
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var tally rottest.Tally
	for i, cases := 0, rottest.Cases(t, 1000, 100); tally.Cases() < cases; i++ {
		p := checkParts{Segment: 1 + rng.Uint32N(5000), Data: true, Archives: fsck.Position{Archive: "monday"}}
		before := p
		before.Segment /= 2
		old := write(before)
		atOld := read()
		now := write(p)
		want := read()
		how, rotten := rottest.Rot(rng, now, old)
		if rotten != nil && bytes.Equal(rotten, now) {
			continue
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		beginning := read()
		if rotten != nil {
			if err := os.WriteFile(file, rotten, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		switch got := read(); {
		case got == beginning:
			tally.Add("begun anew")
		case got == want:
			tally.Add("harmless")
		case how == rottest.OldCopy && got == atOld:
			tally.Add("gone on with from an older position")
		default:
			t.Fatalf("case %d: %s: %s is read as %s", i, how, rotten, got)
		}
	}
	tally.Log(t)
}
