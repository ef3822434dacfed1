package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"garret/repository"
)

// connect starts a server and returns a client of it, at both ends of a pipe.
func connect(t *testing.T, path string, how ClientOptions, o ServerOptions) (*Client, error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Serve(context.Background(), far, far, o)
		far.Close()
		done <- err
	}()
	c, err := NewClient(t.Context(), near, near, near, path, how)
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
		near.Close()
		<-done
		r, err := repository.Open(context.Background(), path, nil)
		if errors.Is(err, repository.ErrNotExist) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if report, err := r.Check(context.Background(), repository.CheckOptions{}); err != nil || !report.OK() {
			t.Errorf("check: %v %v", report, err)
		}
	})
	return c, err
}

// atticServer answers as was recorded, and holds every request against what was.
type atticServer struct {
	t         *testing.T
	requests  [][]byte
	responses [][]byte
}

func (s *atticServer) run(conn net.Conn) {
	in := frameReader{r: conn, limit: 1 << 20}
	for i, want := range s.requests {
		msg, err := in.next()
		if err != nil {
			s.t.Errorf("request %d: %v", i, err)
			return
		}
		if !bytes.Equal(msg, want) {
			s.t.Errorf("request %d is\n%q, want\n%q", i, msg, want)
		}
		if _, err := conn.Write(s.responses[i]); err != nil {
			s.t.Errorf("response %d: %v", i, err)
			return
		}
	}
}

func TestTheClientAsksAsAtticDoes(t *testing.T) {
	g := readGolden(t)
	session := g.Sessions[0]
	s := &atticServer{t: t}
	for _, c := range session.Calls {
		s.requests = append(s.requests, unhex(t, c.RequestHex))
		s.responses = append(s.responses, unhex(t, c.ResponseHex))
	}
	near, far := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { s.run(far) })
	ctx := t.Context()
	c, err := NewClient(ctx, near, near, near, g.TmpDir+"/repo", ClientOptions{Create: true, Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, recorded := range session.Calls[2:] {
		q, err := parseRequest(unhex(t, recorded.RequestHex))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := parseResponse(unhex(t, recorded.ResponseHex))
		if err != nil {
			t.Fatal(err)
		}
		err = nil
		switch q.method {
		case methodPut:
			id := readID(q.args)
			err = c.Put(ctx, id, q.args.Raw())
		case methodDelete:
			if err = c.Delete(ctx, readID(q.args)); err == nil {
				err = c.settle(ctx)
				c.failed = nil // as who waited for it and goes on
			}
		case methodGet:
			var data []byte
			if data, err = c.Get(ctx, readID(q.args)); err == nil && !bytes.Equal(data, answer.result.Raw()) {
				t.Errorf("got %q", data)
			}
		case methodLen:
			var n int
			if n, err = c.Len(ctx); int64(n) != answer.result.Int(0, 100) {
				t.Errorf("length %d", n)
			}
		case methodList:
			limit := 0
			if !q.args.Nil() {
				limit = int(q.args.Int(0, 100))
			}
			var ids []repository.ID
			if ids, err = c.list(ctx, limit, nil); len(ids) != answer.result.ArrayLen() {
				t.Errorf("listed %v", ids)
			}
		case methodCommit:
			err = c.Commit(ctx)
		case methodRollback:
			err = c.Rollback()
		case methodCheck:
			a := &call{done: make(chan struct{})}
			repair := readBool(q.args)
			_, err = c.await(ctx, a, methodCheck, 1, func(b []byte) []byte { return appendBool(b, repair) })
		default:
			t.Fatalf("unknown method %q", q.method)
		}
		if want := answer.err == "ObjectNotFound"; want != errors.Is(err, repository.ErrNotFound) || !want && err != nil {
			t.Errorf("%s: %v", q.method, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	serving.Wait()
}

// eachVersion runs a test with every version of the protocol.
func eachVersion(t *testing.T, test func(t *testing.T, v int)) {
	for v := 1; v <= version; v++ {
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) { test(t, v) })
	}
}

func numbered(i int) (repository.ID, []byte) {
	return repository.ID{byte(i), byte(i >> 8), 7}, bytes.Repeat([]byte(fmt.Sprint(i, " ")), i%5000)
}

func TestWhatIsStoredThroughAServerIsThere(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		path := filepath.Join(t.TempDir(), "repo")
		ctx := t.Context()
		c, err := connect(t, path, ClientOptions{Create: true, Version: v}, ServerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		const n = 3000
		for i := range n {
			id, data := numbered(i)
			if err := c.Put(ctx, id, data); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		for range 20 {
			reading.Go(func() {
				for range 100 {
					id, want := numbered(rand.IntN(n))
					if got, err := c.Get(ctx, id); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%v: %v", id, err)
					}
				}
			})
		}
		reading.Wait()
		seen := map[repository.ID]bool{}
		for id, err := range c.All(ctx) {
			if err != nil || seen[id] {
				t.Fatal(id, err)
			}
			seen[id] = true
		}
		if count, err := c.Len(ctx); err != nil || count != n || len(seen) != n {
			t.Errorf("%d objects, %d listed, %v", count, len(seen), err)
		}
		if report, err := c.Check(ctx, repository.CheckOptions{}); err != nil || !report.OK() || report.Objects != n {
			t.Errorf("check: %+v %v", report, err)
		}
	})
}

func TestAPutThatFailedMakesTheCommitFail(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		path := filepath.Join(t.TempDir(), "repo")
		ctx := t.Context()
		c, err := connect(t, path, ClientOptions{Create: true, Version: v}, ServerOptions{MaxObjectSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Put(ctx, repository.ID{1}, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(ctx, repository.ID{2}, make([]byte, 1001)); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(ctx); !errors.Is(err, repository.ErrTooLarge) || !errors.Is(err, repository.ErrFailed) {
			t.Errorf("commit: %v", err)
		}
		if err := c.Put(ctx, repository.ID{3}, nil); !errors.Is(err, repository.ErrFailed) {
			t.Errorf("put: %v", err)
		}
		if err := c.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := c.Put(ctx, repository.ID{3}, nil); err != nil {
			t.Error(err)
		}
		if err := c.Commit(ctx); err != nil {
			t.Error(err)
		}
		if n, err := c.Len(ctx); n != 1 || err != nil {
			t.Errorf("%d objects: %v", n, err)
		}
	})
}

// cutter is a connection that breaks after some bytes from the client.
type cutter struct {
	net.Conn
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) > c.left {
		n, _ := c.Conn.Write(b[:c.left])
		c.left = 0
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	c.left -= len(b)
	return c.Conn.Write(b)
}

func TestAConnectionThatBreaksLeavesTheLastCommit(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		path := filepath.Join(t.TempDir(), "repo")
		ctx := t.Context()
		if r, err := repository.Create(ctx, path, nil); err != nil {
			t.Fatal(err)
		} else if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		acknowledged := 0
		for left := 0; ; left += 37 {
			near, far := net.Pipe()
			done := make(chan error, 1)
			go func() {
				err := Serve(context.Background(), far, far, ServerOptions{LockWait: time.Minute})
				far.Close()
				done <- err
			}()
			conn := &cutter{near, left}
			err := func() error {
				c, err := NewClient(ctx, conn, conn, conn, path, ClientOptions{Version: v})
				if err != nil {
					return err
				}
				defer c.Close()
				for round := range 3 {
					for i := range 5 {
						if err := c.Put(ctx, repository.ID{byte(i), 1}, fmt.Append(nil, left, round)); err != nil {
							return err
						}
					}
					if err := c.Commit(ctx); err != nil {
						return err
					}
					acknowledged = left*10 + round
				}
				return nil
			}()
			near.Close()
			<-done
			if err != nil && !errors.Is(err, ErrConnection) {
				t.Fatalf("after %d bytes: %v", left, err)
			}
			r, openErr := repository.Open(ctx, path, nil)
			if openErr != nil {
				t.Fatal(openErr)
			}
			var values []string
			for i := range 5 {
				if v, err := r.Get(ctx, repository.ID{byte(i), 1}); err == nil {
					values = append(values, string(v))
				}
			}
			if report, err := r.Check(ctx, repository.CheckOptions{}); err != nil || !report.OK() {
				t.Fatalf("after %d bytes: %v %v", left, report, err)
			}
			r.Close()
			for _, v := range values {
				var l, round int
				if _, err := fmt.Sscan(v, &l, &round); err != nil || v != values[0] || l*10+round < acknowledged {
					t.Fatalf("after %d bytes: values %v, acknowledged %d", left, values, acknowledged)
				}
			}
			if err == nil {
				break
			}
		}
	})
}

func TestOnlyAllowedPathsAreOpened(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	make := func(path string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := repository.Create(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		return path
	}
	inside, beside := make("a/b/c"), make("a/bc")
	link := filepath.Join(dir, "a/b/link")
	if err := os.Symlink(beside, link); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(dir, "back")
	if err := os.Symlink(filepath.Join(dir, "a/b"), back); err != nil {
		t.Fatal(err)
	}
	o := ServerOptions{RestrictTo: []string{filepath.Join(dir, "a/b")}}
	for path, allowed := range map[string]bool{
		inside: true, filepath.Join(back, "c"): true, filepath.Join(dir, "a/b") + "/./c/": true,
		beside: false, dir + "/a/b/../bc": false, link: false, "/": false, "": false,
		dir + "/a/b/c/../../bc": false,
	} {
		near, far := net.Pipe()
		go func() {
			Serve(context.Background(), far, far, o)
			far.Close()
		}()
		c, err := NewClient(t.Context(), near, near, near, path, ClientOptions{})
		if c != nil {
			c.Close()
		}
		near.Close()
		if allowed != (err == nil) || err != nil && !errors.Is(err, ErrPathNotAllowed) {
			t.Errorf("%q: %v", path, err)
		}
	}
	// What does not exist yet may be made inside alone.
	for path, allowed := range map[string]bool{"a/b/new": true, "a/new": false, "a/b/../new2": false, "a/b/link/new": false} {
		near, far := net.Pipe()
		go func() {
			Serve(context.Background(), far, far, o)
			far.Close()
		}()
		c, err := NewClient(t.Context(), near, near, near, dir+"/"+path, ClientOptions{Create: true})
		if c != nil {
			c.Close()
		}
		near.Close()
		if allowed != (err == nil) || err != nil && !errors.Is(err, ErrPathNotAllowed) {
			t.Errorf("create %q: %v", path, err)
		}
	}
}

// pipe returns both ends of a connection.
func pipe(t *testing.T) (near, far net.Conn) {
	near, far = net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(data, nil)
}

// The client opens as Attic's does in every recorded conversation, and knows the errors that were the answers.
func TestTheClientUnderstandsHowAtticOpens(t *testing.T) {
	g := readGolden(t)
	opened, refused := 0, 0
	for _, session := range g.Sessions {
		for i, recorded := range session.Calls {
			if recorded.Method != methodOpen {
				continue
			}
			// As the second message of a conversation. The id is the third byte.
			request, response := unhex(t, recorded.RequestHex), unhex(t, recorded.ResponseHex)
			request[2], response[2] = 2, 2
			q, err := parseRequest(request)
			if err != nil {
				t.Fatal(err)
			}
			path, create := q.args.Text(), readBool(q.args)
			s := &atticServer{
				t:         t,
				requests:  [][]byte{unhex(t, session.Calls[0].RequestHex), request},
				responses: [][]byte{unhex(t, session.Calls[0].ResponseHex), response},
			}
			near, far := pipe(t)
			var serving sync.WaitGroup
			serving.Go(func() { s.run(far) })
			c, err := NewClient(t.Context(), near, near, near, path, ClientOptions{Create: create, Version: 1})
			answer, parseErr := parseResponse(response)
			if parseErr != nil {
				t.Fatal(parseErr)
			}
			var want error
			for _, e := range errorNames {
				if e.name == answer.err {
					want = e.err
				}
			}
			if answer.err == "" {
				opened++
				if err != nil || c.ID() != repository.ID(unhex(t, g.RepositoryID)) {
					t.Errorf("%s, %d: %v", session.Name, i, err)
				}
			} else {
				refused++
				if want == nil || !errors.Is(err, want) {
					t.Errorf("%s, %d: %v, want %s", session.Name, i, err, answer.err)
				}
			}
			if c != nil {
				c.Close()
			}
			serving.Wait()
		}
	}
	if opened < 2 || refused < 3 {
		t.Errorf("%d were opened, %d refused", opened, refused)
	}
}

// Folders that are allowed are compared as folders, however they are written.
func TestFoldersThatAreAllowed(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	for _, name := range []string{"a/b/c", "a/bc", "x"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Symlink(dir+"/a/b", dir+"/link"), os.Symlink(dir+"/x", dir+"/a/b/out"),
		os.Symlink(dir+"/nowhere", dir+"/a/b/dangling"), os.Symlink("loop", dir+"/a/b/loop"),
		os.WriteFile(dir+"/a/b/file", nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, allowed := range []string{"/a/b", "/a/b/", "/link", "/a/../a//b/.", "~/a/b", "a/b", "/nowhere and b"} {
		var dirs []string
		switch allowed[0] {
		case '~', 'a':
			dirs = []string{allowed}
		default:
			dirs = []string{dir + allowed}
		}
		if allowed == "/nowhere and b" {
			dirs = []string{dir + "/not/there", dir + "/a/b"}
		}
		s := &server{o: ServerOptions{RestrictTo: dirs}}
		for path, want := range map[string]bool{
			"/a/b": true, "/a/b/c": true, "/a/b/c/": true, "/a/b/new/er": true, "/link/c": true, "/a/b/../b/c": true,
			"/a": false, "/a/bc": false, "/a/b/../bc": false, "/a/b/out": false, "/a/b/out/new": false,
			"/a/b/dangling": false, "/a/b/dangling/x": false, "/a/b/loop": false, "/a/b/file/x": false,
			"/a/b/new/../../../x": false, "": false, "/..": false,
		} {
			got, err := s.admit(dir + path)
			if want != (err == nil) || want && got != filepath.Clean(got) {
				t.Errorf("%v, %q: %q, %v", dirs, path, got, err)
			}
		}
	}
	s := &server{o: ServerOptions{RestrictTo: []string{"/"}}}
	if got, err := s.admit(dir + "/link/c"); err != nil || got != dir+"/a/b/c" {
		t.Errorf("%q, %v", got, err)
	}
}
