package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

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
	kept := repository.ID{0xee}
	paths := map[bool]string{}
	for _, readOnly := range []bool{true, false} {
		path := filepath.Join(f.TempDir(), "repo")
		paths[readOnly] = path
		r, err := repository.Create(context.Background(), path, nil)
		if err != nil {
			f.Fatal(err)
		}
		if err := r.Put(context.Background(), kept, []byte("kept")); err != nil {
			f.Fatal(err)
		}
		if err := r.Commit(context.Background()); err != nil {
			f.Fatal(err)
		}
		if err := r.Close(); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, conversation []byte) {
		for readOnly, path := range paths {
			var in bytes.Buffer
			in.Write(beginRequest(nil, 1, methodOpen, 2))
			in.Write(appendBool(rawpack.AppendRaw(nil, path), false))
			in.Write(conversation)
			// Nothing outside may be made or opened, nothing changed, and where something may be added, nothing removed.
			_ = Serve(context.Background(), &in, io.Discard, ServerOptions{
				RestrictTo: []string{path}, ReadOnly: readOnly, AppendOnly: !readOnly,
			})
			r, err := repository.Open(context.Background(), path, &repository.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			if v, err := r.Get(context.Background(), kept); err != nil || string(v) != "kept" {
				t.Errorf("%q, %v", v, err)
			}
			if n, err := r.Len(context.Background()); n != 1 && readOnly || n < 1 || err != nil {
				t.Errorf("%d objects, %v", n, err)
			}
			r.Close()
		}
	})
}

// askEverything calls all that a client has.
func askEverything(ctx context.Context, c *Client, dir string) {
	c.Put(ctx, repository.ID{1}, []byte("x"))
	c.Get(ctx, repository.ID{1})
	c.List(ctx, 3, nil)
	c.Len(ctx)
	c.Check(ctx, repository.CheckOptions{Progress: func(int, int) {}})
	c.Size(ctx, repository.ID{1})
	c.WriteFile("garret.nonce", []byte("1"))
	c.ReadFile("garret.nonce")
	c.Commit(ctx)
	c.Dead(ctx)
	c.Compact(ctx)
	c.Follow(ctx, filepath.Join(dir, "objects"), func(error) {})
	c.Has(ctx, repository.ID{1})
	c.Delete(ctx, repository.ID{1})
	c.Rollback()
	c.Get(ctx, repository.ID{2})
}

// Whatever a server answers, the client ends in order.
func FuzzClient(f *testing.F) {
	g := readGolden(&testing.T{})
	var all []byte
	for _, c := range g.Sessions[0].Calls {
		all = append(all, unhex(&testing.T{}, c.ResponseHex)...)
	}
	f.Add(1, all)
	f.Add(2, all[:len(all)/2])
	f.Fuzz(func(t *testing.T, v int, answers []byte) {
		c, err := NewClient(t.Context(), bytes.NewReader(answers), io.Discard, io.NopCloser(nil), "/repo", ClientOptions{Version: v})
		if err != nil {
			return
		}
		defer c.Close()
		askEverything(t.Context(), c, t.TempDir())
	})
}

// Messages are found wherever the stream is cut, and what can be read of one can be written again.
func FuzzMessages(f *testing.F) {
	for _, session := range readGolden(&testing.T{}).Sessions {
		for _, c := range session.Calls {
			f.Add(append(unhex(&testing.T{}, c.RequestHex), unhex(&testing.T{}, c.ResponseHex)...))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		whole := frameReader{r: bytes.NewReader(stream), limit: 1 << 20}
		parts := frameReader{r: iotest.OneByteReader(bytes.NewReader(stream)), limit: 1 << 20}
		for {
			msg, err := whole.next()
			same, sameErr := parts.next()
			if !bytes.Equal(msg, same) || (err == nil) != (sameErr == nil) || (err == io.EOF) != (sameErr == io.EOF) {
				t.Fatalf("%q, %v; byte by byte %q, %v", msg, err, same, sameErr)
			}
			if err != nil {
				return
			}
			if q, err := parseRequest(msg); err == nil {
				args := bytes.Clone(q.args.Value()) // of the first; there may be none
				again := append(beginRequest(nil, q.id, q.method, min(1, q.n)), args...)
				if p, err := parseRequest(again); err != nil || p.id != q.id || p.method != q.method {
					t.Errorf("%q was read as %+v; written %q, %v", msg, q, again, err)
				}
			}
			if p, err := parseResponse(msg); err == nil {
				if p.err != "" {
					remoteError(1, methodGet, p)
				} else {
					readReport(p.result)
				}
			}
		}
	})
}

// A file of what is known is what was saved, or damaged.
func FuzzKnown(f *testing.F) {
	k := known{sizes: map[repository.ID]uint32{{1}: 5, {2}: unsized}}
	file := filepath.Join(f.TempDir(), "objects")
	if err := k.save(file, repository.Mark{Transaction: 3, Size: 4, Tail: 5}); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:len(data)-4])
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum is made right, or nothing behind it would ever be reached.
		data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, crcTable))
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var k, again known
		mark, err := k.load(file)
		if err != nil {
			return
		}
		if err := k.save(file, mark); err != nil {
			t.Fatal(err)
		}
		if m, err := again.load(file); err != nil || m != mark || !maps.Equal(k.sizes, again.sizes) {
			t.Errorf("%v, %v, %d sizes; want %v, %d", m, err, len(again.sizes), mark, len(k.sizes))
		}
	})
}
