package rpc

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"garret/internal/rottest"
	"garret/repository"
)

// TestRottenObjects damages what a client knows of the objects of a repository on another machine. It must know of those that
// are there, and of no other, whatever is in the file.
func TestRottenObjects(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	path, file := filepath.Join(dir, "repo"), filepath.Join(dir, "garret.objects")
	r, err := repository.Create(t.Context(), path, nil)
	must(err)
	state := map[repository.ID]uint32{}
	change := func(n int) {
		t.Helper()
		for range n {
			id, data := numbered(rng.IntN(300))
			data = data[:min(len(data), 10+rng.IntN(100))]
			if _, ok := state[id]; ok && rng.IntN(3) == 0 {
				must(r.Delete(t.Context(), id))
				delete(state, id)
			} else {
				must(r.Put(t.Context(), id, data))
				state[id] = uint32(len(data))
			}
		}
		must(r.Commit(t.Context()))
	}
	// follow is one session of a client. It returns what it knows.
	follow := func() map[repository.ID]uint32 {
		t.Helper()
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- errors.Join(Serve(t.Context(), far, far, ServerOptions{}), far.Close())
		}()
		c, err := NewClient(t.Context(), near, near, near, path, ClientOptions{Exclusive: true})
		must(err)
		must(c.Follow(t.Context(), file, func(err error) { t.Error(err) }))
		for range 5 {
			id, _ := numbered(rng.IntN(300))
			size, err := c.Size(t.Context(), id)
			if want, ok := state[id]; ok != (err == nil) || uint32(size) != want {
				t.Errorf("%v has %d bytes (%v), want %d (%v)", id, size, err, want, ok)
			}
		}
		must(c.Close())
		must(near.Close())
		<-done
		return c.known.sizes
	}
	change(200)
	must(r.Close())
	follow()
	old, err := os.ReadFile(file)
	must(err)
	r, err = repository.Open(t.Context(), path, &repository.Options{Exclusive: true})
	must(err)
	change(60)
	must(r.Close())
	follow()
	now, err := os.ReadFile(file)
	must(err)
	if bytes.Equal(old, now) {
		t.Fatal("there is no older file")
	}
	var tally rottest.Tally
	for i, cases := 0, rottest.Cases(t, 200, 30); tally.Cases() < cases; i++ {
		how, rotten := rottest.Rot(rng, now, old)
		if rotten != nil && bytes.Equal(rotten, now) {
			continue
		}
		must(os.RemoveAll(file))
		if rotten != nil {
			must(os.WriteFile(file, rotten, 0o600))
		}
		if got := follow(); !maps.Equal(got, state) {
			t.Fatalf("case %d: %s: it knows of %d objects, of %d", i, how, len(got), len(state))
		}
		after, err := os.ReadFile(file)
		must(err)
		if known := new(known); how != rottest.OldCopy {
			if _, err := known.load(file); err != nil || !maps.Equal(known.sizes, state) {
				t.Fatalf("case %d: %s: the file was not made anew: %v", i, how, err)
			}
		}
		if bytes.Equal(after, rotten) {
			tally.Add("harmless")
		} else {
			tally.Add("made anew")
		}
	}
	tally.Log(t)
	r, err = repository.Open(t.Context(), path, nil)
	must(err)
	report, err := r.Check(t.Context(), repository.CheckOptions{})
	if err = errors.Join(err, r.Close()); err != nil || !report.OK() {
		t.Errorf("%v, %v", report.Findings, err)
	}
}
