package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"garret/internal/campaign"
	"garret/repository"
)

// The model-based test: random histories through a client and a server, against a map.

type model map[repository.ID]string

// history is one, on a repository in a real folder.
type history struct {
	t    *testing.T
	rng  *rand.Rand
	path string
	dir  string // of what a client remembers
	o    ServerOptions

	c         *Client
	closed    chan error // what the server ended with
	follows   bool
	committed model
	current   model // with the open transaction
	refused   error // matches why the open transaction cannot be committed
	values    int
	trace     []string
}

func (h *history) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(h.trace, "\n"))
}

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.fatalf("%v", err)
	}
}

// open connects with a version and a way of opening that chance chooses.
func (h *history) open() {
	o := ClientOptions{Version: 1 + h.rng.IntN(version), Exclusive: h.rng.IntN(2) == 0}
	h.follows = o.Exclusive && h.rng.IntN(3) > 0
	h.note("open with version %d, exclusive %v, follow %v", o.Version, o.Exclusive, h.follows)
	near, far := net.Pipe()
	h.closed = make(chan error, 1)
	go func() {
		err := Serve(context.Background(), far, far, h.o)
		far.Close()
		h.closed <- err
	}()
	c, err := NewClient(h.t.Context(), near, near, near, h.path, o)
	h.must(err)
	h.c, h.current, h.refused = c, maps.Clone(h.committed), nil
	if h.follows {
		h.must(c.Follow(h.t.Context(), filepath.Join(h.dir, "objects"), func(err error) { h.t.Error(err) }))
	}
}

// close closes the client, or drops the connection in the middle of what it does.
func (h *history) close() {
	h.must(h.c.Close())
	if err := <-h.closed; err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "closed pipe") {
		h.fatalf("the server ended with %v", err)
	}
}

func (h *history) id() (id repository.ID) {
	id[0] = byte(h.rng.IntN(24)) // few, so that much is replaced; zero is the manifest
	return id
}

func (h *history) value() string {
	n := h.rng.IntN(200)
	if h.rng.IntN(10) == 0 {
		n = h.rng.IntN(100_000)
	}
	h.values++
	return string(bytes.Repeat([]byte{byte(h.rng.Uint32())}, n)) + strconv.Itoa(h.values)
}

// refusal notes that a call is refused: at once, or by the next commit, which nothing then goes past.
func (h *history) refusal(err error, want error) {
	h.t.Helper()
	h.note("  refused: %v", err)
	if err == nil {
		h.refused = want
	} else if !errors.Is(err, want) && !errors.Is(err, repository.ErrFailed) {
		h.fatalf("refused with %v, want %v", err, want)
	}
}

func (h *history) put() {
	id, v := h.id(), h.value()
	h.note("put %x: %d bytes", id[0], len(v))
	data := []byte(v)
	err := h.c.Put(h.t.Context(), id, data)
	clear(data) // it is ours
	_, there := h.current[id]
	switch {
	case h.refused != nil && err != nil:
		h.refusal(err, h.refused)
	case h.o.ReadOnly:
		h.refusal(err, ErrNotAllowed)
	case h.o.AppendOnly && there && id != manifestID:
		h.refusal(err, ErrAppendOnly)
	default:
		h.must(err)
		h.current[id] = v
	}
}

func (h *history) delete() {
	id := h.id()
	h.note("delete %x", id[0])
	err := h.c.Delete(h.t.Context(), id)
	_, there := h.current[id]
	switch {
	case h.refused != nil && err != nil:
		if !errors.Is(err, repository.ErrNotFound) {
			h.refusal(err, h.refused)
		}
	case h.o.ReadOnly:
		if !h.follows || there || !errors.Is(err, repository.ErrNotFound) {
			h.refusal(err, ErrNotAllowed)
		}
	case h.o.AppendOnly:
		if !h.follows || there || !errors.Is(err, repository.ErrNotFound) {
			h.refusal(err, ErrAppendOnly)
		}
	case there:
		h.must(err)
		delete(h.current, id)
	default:
		if h.follows && h.refused == nil && err == nil && h.c.known.digest().Count > 0 {
			h.fatalf("what is not there was deleted")
		}
		h.refusal(err, repository.ErrNotFound)
	}
}

func (h *history) commit() {
	h.note("commit")
	err := h.c.Commit(h.t.Context())
	switch {
	case h.refused != nil:
		if err == nil || !errors.Is(err, h.refused) && !errors.Is(err, repository.ErrFailed) {
			h.fatalf("the commit ended with %v, want %v", err, h.refused)
		}
		h.rollback()
	case h.o.ReadOnly:
		// There is nothing to commit; that may be said.
	default:
		h.must(err)
		h.committed = maps.Clone(h.current)
	}
}

func (h *history) rollback() {
	h.note("rollback")
	h.must(h.c.Rollback())
	h.current, h.refused = maps.Clone(h.committed), nil
}

// settled makes sure that nothing is refused yet: what the server then holds is not defined until the rollback.
func (h *history) settled() {
	if h.refused != nil {
		h.rollback()
	}
}

func (h *history) getOne(id repository.ID) error {
	want, there := h.current[id]
	data, err := h.c.Get(h.t.Context(), id)
	if there && (err != nil || string(data) != want) || !there && !errors.Is(err, repository.ErrNotFound) {
		return fmt.Errorf("get %x: %d bytes, %v; want %d bytes", id[0], len(data), err, len(want))
	}
	size, err := h.c.Size(h.t.Context(), id)
	if there && (err != nil || size != len(want)) || !there && !errors.Is(err, repository.ErrNotFound) {
		return fmt.Errorf("size of %x: %d, %v; want %d", id[0], size, err, len(want))
	}
	if has, err := h.c.Has(h.t.Context(), id); err != nil || has != there {
		return fmt.Errorf("has %x: %v, %v", id[0], has, err)
	}
	return nil
}

func (h *history) getMany() {
	h.note("get many")
	var getting sync.WaitGroup
	errs := make(chan error, 32)
	for range cap(errs) {
		id := h.id()
		getting.Go(func() { errs <- h.getOne(id) })
	}
	getting.Wait()
	for range cap(errs) {
		h.must(<-errs)
	}
}

func (h *history) list() {
	limit := 1 + h.rng.IntN(10)
	h.note("list by %d", limit)
	if h.rng.IntN(2) == 0 {
		limit = 0
	}
	var marker *repository.ID
	seen := map[repository.ID]bool{}
	for {
		ids, err := h.c.List(h.t.Context(), limit, marker)
		h.must(err)
		if limit > 0 && len(ids) > limit {
			h.fatalf("%d ids", len(ids))
		}
		for _, id := range ids {
			if _, there := h.current[id]; !there || seen[id] {
				h.fatalf("%x is listed", id[0])
			}
			seen[id] = true
		}
		if len(ids) == 0 || limit == 0 {
			break
		}
		marker = &ids[len(ids)-1]
	}
	n, err := h.c.Len(h.t.Context())
	h.must(err)
	if len(seen) != len(h.current) || n != len(seen) {
		h.fatalf("%d listed, length %d, want %d", len(seen), n, len(h.current))
	}
}

func (h *history) check() {
	h.commit()
	repair := h.rng.IntN(3) == 0
	h.note("check, repair %v", repair)
	report, err := h.c.Check(h.t.Context(), repository.CheckOptions{Repair: repair})
	if repair && (h.o.ReadOnly || h.o.AppendOnly) {
		if !errors.Is(err, ErrNotAllowed) {
			h.fatalf("the repair was not refused: %v", err)
		}
		return
	}
	if err != nil || !report.OK() || report.Objects != len(h.committed) {
		h.fatalf("%+v %v", report, err)
	}
}

func (h *history) compact() {
	h.commit()
	h.note("compact")
	_, err := h.c.Compact(h.t.Context())
	if h.c.Version() < 2 || h.o.ReadOnly || h.o.AppendOnly {
		if !errors.Is(err, ErrNotAllowed) {
			h.fatalf("it was not refused: %v", err)
		}
		return
	}
	h.must(err)
}

// loseIndex removes the files that can be made again, here and there.
func (h *history) loseIndex() {
	h.note("lose index files")
	entries, err := os.ReadDir(h.path)
	h.must(err)
	for _, e := range entries {
		for _, prefix := range []string{"index.", "hints.", "garret."} {
			if strings.HasPrefix(e.Name(), prefix) && h.rng.IntN(3) > 0 {
				h.must(os.Remove(filepath.Join(h.path, e.Name())))
			}
		}
	}
	if h.rng.IntN(2) == 0 {
		os.Remove(filepath.Join(h.dir, "objects"))
	}
}

func (h *history) step() {
	switch k := h.rng.IntN(100); {
	case k < 40:
		h.put()
	case k < 52:
		if h.refused == nil && h.rng.IntN(2) == 0 && len(h.current) > 0 { // rather what is there
			h.settled()
		}
		h.delete()
	case k < 62:
		h.commit()
	case k < 66:
		h.rollback()
	case k < 74:
		h.settled()
		h.must(h.getOne(h.id()))
	case k < 80:
		h.settled()
		h.getMany()
	case k < 86:
		h.settled()
		h.list()
	case k < 89:
		h.check()
	case k < 92:
		h.compact()
	default:
		h.note("close")
		h.close()
		if h.rng.IntN(3) == 0 {
			h.loseIndex()
		}
		h.open()
	}
}

// verify compares what is there, without a server, with what was committed.
func (h *history) verify() {
	ctx := context.Background()
	r, err := repository.Open(ctx, h.path, &repository.Options{Exclusive: true})
	h.must(err)
	defer r.Close()
	n, err := r.Len(ctx)
	h.must(err)
	if n != len(h.committed) {
		h.fatalf("%d objects, want %d", n, len(h.committed))
	}
	for id, want := range h.committed {
		if data, err := r.Get(ctx, id); err != nil || string(data) != want {
			h.fatalf("%x: %d bytes, %v; want %d", id[0], len(data), err, len(want))
		}
	}
	if report, err := r.Check(ctx, repository.CheckOptions{}); err != nil || !report.OK() {
		h.fatalf("check: %+v %v", report, err)
	}
}

func TestHistoriesThroughAServerAgreeWithModel(t *testing.T) {
	seed, count := rand.Uint64(), campaign.Share(t, 12, 4)
	if s := os.Getenv("GARRET_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		count = 1
	}
	for _, mode := range []struct {
		name string
		o    ServerOptions
	}{
		{"all is allowed", ServerOptions{}},
		{"append-only", ServerOptions{AppendOnly: true}},
		{"read-only", ServerOptions{ReadOnly: true}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Logf("GARRET_TEST_SEED=%d and the %d that follow", seed, count-1)
			for i := range count {
				h := &history{
					t: t, rng: rand.New(rand.NewPCG(seed+uint64(i), 0)), path: filepath.Join(t.TempDir(), "repo"),
					dir: t.TempDir(), o: mode.o, committed: model{},
				}
				h.note("GARRET_TEST_SEED=%d", seed+uint64(i))
				// Something is there, in many small segments.
				r, err := repository.Create(t.Context(), h.path, &repository.Options{MaxSegmentSize: 8 << 10, Reserve: -1})
				h.must(err)
				for range 12 {
					id, v := h.id(), h.value()
					h.must(r.Put(t.Context(), id, []byte(v)))
					h.committed[id] = v
				}
				h.must(r.Commit(t.Context()))
				h.must(r.Close())
				h.open()
				for range 120 {
					h.step()
				}
				h.close()
				h.verify()
			}
		})
	}
}
