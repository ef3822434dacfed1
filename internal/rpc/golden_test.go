package rpc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"garret/internal/rawpack"
)

// golden is the file of conversations with a real `attic serve`.
type golden struct {
	TmpDir       string `json:"tmp_dir"`
	RepositoryID string `json:"repository_id"`
	Sessions     []struct {
		Name  string
		Args  []string
		Calls []struct {
			Method      string
			RequestHex  string `json:"request_hex"`
			ResponseHex string `json:"response_hex"`
		}
	}
}

func readGolden(t *testing.T) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/rpc.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// rewrite encodes a message again with other texts in it.
func rewrite(t *testing.T, msg []byte, text func([]byte) []byte) []byte {
	t.Helper()
	r := rawpack.NewReader(msg)
	var out []byte
	var value func()
	value = func() {
		before := msg[len(msg)-r.Len():]
		switch lead := before[0]; {
		case r.NextIsRaw():
			out = rawpack.AppendRaw(out, text(r.Raw()))
		case lead&0xf0 == 0x90 || lead == 0xdc || lead == 0xdd:
			n := r.ArrayLen()
			out = rawpack.AppendArrayHeader(out, n)
			for range n {
				value()
			}
		default:
			out = append(out, r.Value()...)
		}
	}
	value()
	r.End()
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConversationsWithAtticAreAnsweredAsItDoes(t *testing.T) {
	g := readGolden(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	here := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(g.TmpDir), []byte(dir)) }
	recordedID := unhex(t, g.RepositoryID)
	for _, session := range g.Sessions {
		t.Run(session.Name, func(t *testing.T) {
			var o ServerOptions
			for i, arg := range session.Args {
				if arg == "--restrict-to-path" {
					o.RestrictTo = append(o.RestrictTo, strings.ReplaceAll(session.Args[i+1], "@TMP@", dir))
				}
			}
			var in bytes.Buffer
			var want [][]byte
			for _, c := range session.Calls {
				in.Write(rewrite(t, unhex(t, c.RequestHex), here))
				want = append(want, rewrite(t, unhex(t, c.ResponseHex), here))
			}
			var out bytes.Buffer
			if err := Serve(t.Context(), &in, &out, o); err != nil {
				t.Fatal(err)
			}
			got := frameReader{r: &out, limit: 1 << 20}
			var id []byte
			for i, w := range want {
				msg, err := got.next()
				if err != nil {
					t.Fatal(err)
				}
				if session.Calls[i].Method == "open" && len(msg) == len(w) && bytes.Contains(w, recordedID) {
					id = msg[len(msg)-32:]
				}
				if id != nil {
					w = bytes.ReplaceAll(w, recordedID, id)
				}
				if !bytes.Equal(msg, w) {
					t.Errorf("%d, %s: %s\nwant %s", i, session.Calls[i].Method, quote(msg), quote(w))
				}
			}
			if _, err := got.next(); err != io.EOF {
				t.Errorf("there is more: %v", err)
			}
		})
	}
}

func quote(b []byte) string { return fmt.Sprintf("%q", b) }
