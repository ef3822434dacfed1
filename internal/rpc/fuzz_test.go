package rpc

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"

	"garret/internal/rawpack"
	"garret/repository"
)

// Whatever a client sends, the server ends in order, and what was committed before is there after.
func FuzzServer(f *testing.F) {
	g := readGolden(&testing.T{})
	for _, session := range g.Sessions {
		var all []byte
		for _, c := range session.Calls {
			all = append(all, unhex(&testing.T{}, c.RequestHex)...)
		}
		f.Add(all)
	}
	path := filepath.Join(f.TempDir(), "repo")
	r, err := repository.Create(context.Background(), path, nil)
	if err != nil {
		f.Fatal(err)
	}
	kept := repository.ID{0xee}
	if err := r.Put(context.Background(), kept, []byte("kept")); err != nil {
		f.Fatal(err)
	}
	if err := r.Commit(context.Background()); err != nil {
		f.Fatal(err)
	}
	if err := r.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, conversation []byte) {
		var in bytes.Buffer
		in.Write(beginRequest(nil, 1, methodOpen, 2))
		in.Write(appendBool(rawpack.AppendRaw(nil, path), false))
		in.Write(conversation)
		// Nothing outside may be made or opened, nothing changed.
		_ = Serve(context.Background(), &in, io.Discard, ServerOptions{RestrictTo: []string{path}, ReadOnly: true})
		r, err := repository.Open(context.Background(), path, &repository.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if v, err := r.Get(context.Background(), kept); err != nil || string(v) != "kept" {
			t.Errorf("%q, %v", v, err)
		}
		if n, err := r.Len(context.Background()); n != 1 || err != nil {
			t.Errorf("%d objects, %v", n, err)
		}
	})
}

// Whatever a server answers, the client ends in order.
func FuzzClient(f *testing.F) {
	g := readGolden(&testing.T{})
	var all []byte
	for _, c := range g.Sessions[0].Calls {
		all = append(all, unhex(&testing.T{}, c.ResponseHex)...)
	}
	f.Add(all)
	f.Add(all[:len(all)/2])
	f.Fuzz(func(t *testing.T, answers []byte) {
		c, err := NewClient(t.Context(), bytes.NewReader(answers), io.Discard, io.NopCloser(nil), "/repo", ClientOptions{})
		if err != nil {
			return
		}
		defer c.Close()
		ctx := t.Context()
		c.Put(ctx, repository.ID{1}, []byte("x"))
		c.Get(ctx, repository.ID{1})
		c.List(ctx, 3, nil)
		c.Len(ctx)
		c.Check(ctx, repository.CheckOptions{})
		c.Size(ctx, repository.ID{1})
		c.Follow(ctx, filepath.Join(t.TempDir(), "objects"), func(error) {})
		c.Commit(ctx)
		c.Rollback()
	})
}
