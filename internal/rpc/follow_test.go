package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"garret/repository"
)

func TestWhoFollowsKnowsWhatIsThere(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		dir := t.TempDir()
		path, file := filepath.Join(dir, "repo"), filepath.Join(dir, "cache", "objects")
		ctx := t.Context()
		r, err := repository.Create(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		state := map[repository.ID]int{}
		change := func(n int) {
			t.Helper()
			for range n {
				id, data := numbered(rng.IntN(2000))
				if _, ok := state[id]; ok && rng.IntN(3) == 0 {
					must(r.Delete(ctx, id))
					delete(state, id)
				} else {
					must(r.Put(ctx, id, data))
					state[id] = len(data)
				}
			}
			must(r.Commit(ctx))
			must(r.Close())
		}
		change(1500)
		for round := range 8 {
			switch round {
			case 3:
				must(os.MkdirAll(filepath.Dir(file), 0o700))
				must(os.WriteFile(file, []byte("rubbish"), 0o600))
			case 5:
				os.Remove(file)
			}
			c, err := connect(t, path, ClientOptions{Version: v, Exclusive: true}, ServerOptions{})
			must(err)
			must(c.Follow(ctx, file, func(err error) { t.Error(err) }))
			for i := range 2000 {
				id, data := numbered(i)
				_, want := state[id]
				if has, ok := c.known.has(id); !ok || has != want {
					t.Fatalf("round %d: %v: has %v, known %v, want %v", round, id, has, ok, want)
				}
				if size, err := c.Size(ctx, id); want && (err != nil || size != len(data)) || !want && !errors.Is(err, repository.ErrNotFound) {
					t.Fatalf("round %d: %v has size %d, %v", round, id, size, err)
				}
			}
			mine := repository.ID{9, 9, 9}
			must(c.Put(ctx, mine, []byte("mine")))
			if has, err := c.Has(ctx, mine); err != nil || !has {
				t.Error("what was put is not known")
			}
			must(c.Delete(ctx, mine))
			if has, err := c.Has(ctx, mine); err != nil || has {
				t.Error("what was deleted is known")
			}
			must(c.Commit(ctx))
			must(c.Close())
			r, err = repository.Open(ctx, path, &repository.Options{Exclusive: true, LockWait: time.Minute})
			must(err)
			change(20)
		}
	})
}

func TestASilentServerIsGivenUp(t *testing.T) {
	id := append([]byte{0xda, 0, 32}, make([]byte, 32)...)
	for version, opened := range map[byte][]byte{
		1: id,
		2: slices.Concat([]byte{0x93}, id, []byte{0xc2, 0xc2}),
		3: slices.Concat([]byte{0x94}, id, []byte{0xc2, 0xc2, 0xc0}),
	} {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testSilence(t, version, opened) })
	}
}

func testSilence(t *testing.T, version byte, opened []byte) {
	t.Parallel()
	near, far := net.Pipe()
	go func() {
		in := frameReader{r: far, limit: 1 << 20}
		in.next()
		far.Write(append(beginResponse(nil, 1), version))
		in.next()
		far.Write(append(beginResponse(nil, 2), opened...))
		io.Copy(io.Discard, far) // and says nothing any more
	}()
	c, err := NewClient(t.Context(), near, near, near, "/repo", ClientOptions{Silence: 2 * time.Second, patience: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Get(t.Context(), repository.ID{}); !errors.Is(err, ErrConnection) {
		t.Errorf("got %v", err)
	}
	if err := c.Commit(t.Context()); !errors.Is(err, ErrConnection) {
		t.Errorf("got %v", err)
	}
}

func TestAServerAtWorkIsNotGivenUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "repo")
	r, err := repository.Create(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The server waits for the lock, and says that it is there meanwhile.
	time.AfterFunc(3*time.Second, func() { r.Close() })
	c, err := connect(t, path, ClientOptions{Exclusive: true, LockWait: time.Minute, Silence: 2 * time.Second},
		ServerOptions{heartbeat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // nothing is waited for, so that nothing is missed
	if n, err := c.Len(context.Background()); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}
