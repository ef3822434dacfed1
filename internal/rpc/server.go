package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// ServerOptions say what a server lets its client do.
type ServerOptions struct {
	// RestrictTo are the folders in which, and below which, repositories may be opened and made. None: everywhere.
	RestrictTo []string
	ReadOnly   bool // nothing may be changed
	// AppendOnly: nothing may be removed or replaced but the manifest, the object whose id is zero, and nothing is
	// compacted. So all that was ever committed stays in the log.
	AppendOnly bool
	// MaxObjectSize bounds what the client may store, in bytes; 0: repository.MaxObjectSize.
	MaxObjectSize int
	LockWait      time.Duration // see repository.Options
	// Warn is told of what is found and mended by the way, and of what a check finds.
	Warn func(error)

	heartbeat time.Duration // how often the client is told that there is somebody; 0: a while
}

// Serve answers the requests that come from in until there are no more, or ctx is done, when a read of in may still be
// under way. A message that is none ends it with an error; so does the end of the stream in the midst of one. What was not
// committed by then is rolled back.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o ServerOptions) error {
	if o.MaxObjectSize <= 0 || o.MaxObjectSize > repository.MaxObjectSize {
		o.MaxObjectSize = repository.MaxObjectSize
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	if o.heartbeat <= 0 {
		o.heartbeat = heartbeat
	}
	s := &server{
		o:       o,
		out:     bufio.NewWriterSize(out, 64<<10),
		version: 1,
	}
	ctx, s.cancel = context.WithCancelCause(ctx)
	reading := newCanceledReader(ctx, in)
	s.in = frameReader{r: reading, limit: maxRequest}
	err := s.serve(ctx)
	s.cancel(nil)
	reading.close()
	s.living.Wait()
	s.endChanges()
	if s.repo != nil {
		err = errors.Join(err, s.repo.Close())
	}
	return err
}

// manifestID is the object that an append-only server lets be replaced. It is wire format.
var manifestID repository.ID

// mayRemove returns an error if nothing may be removed.
func (s *server) mayRemove(what string) error {
	switch {
	case s.o.ReadOnly:
		return fmt.Errorf("%s: %w", what, ErrNotAllowed)
	case s.o.AppendOnly:
		return fmt.Errorf("%s: %w", what, ErrAppendOnly)
	}
	return nil
}

// heartbeat is how often a server that is at work says so, and a client that has nothing to do.
const heartbeat = 15 * time.Second

// A server is one conversation.
type server struct {
	o       ServerOptions
	in      frameReader
	buf     []byte // of the response at hand
	version int
	cancel  context.CancelCauseFunc // ends it
	living  sync.WaitGroup          // what tells the client that there is somebody
	repo    *repository.Repository
	path    string // of repo, as the client gave it

	nextChange  func() (repository.Change, error, bool) // nil: no changes are being told
	stopChanges func()

	writing sync.Mutex
	out     *bufio.Writer
	greeted bool // the answer that settles the version is on its way: before, a client knows of no notes
}

func (s *server) serve(ctx context.Context) error {
	for {
		msg, err := s.in.next()
		if err == io.EOF {
			return brokenClient(s.flush())
		}
		if err != nil {
			return err
		}
		q, err := parseRequest(msg)
		if err != nil {
			return err
		}
		if s.buf, err = s.answer(ctx, s.buf[:0], q); err != nil {
			return err
		}
		if err := brokenClient(s.send(s.buf)); err != nil {
			return err
		}
		if cap(s.buf) > 1<<20 {
			s.buf = nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// brokenClient says what an error of the connection is about: a client shows what the server says beside its own messages.
func brokenClient(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the connection to the client broke: %w", err)
}

// send sends a response, at once if no request waits that can be answered with it.
func (s *server) send(msg []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.greeted = s.version > 1
	if _, err := s.out.Write(msg); err != nil || s.in.buffered() {
		return err
	}
	return s.out.Flush()
}

func (s *server) flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.out.Flush()
}

// A method does what a request asks for and appends its result to the response. The error is told to the client, unless
// it is of the arguments.
type method struct {
	args int
	call func(s *server, ctx context.Context, b []byte, q *request) ([]byte, error)
	open bool // a repository must be open
	v2   bool // version 1 does not have it
}

// methods are those that exist; there is no way to others.
var methods = map[string]method{
	methodNegotiate: {args: 1, call: (*server).negotiate},
	methodOpen:      {args: 2, call: (*server).openRepository},
	methodGet:       {args: 1, call: (*server).get, open: true},
	methodPut:       {args: 2, call: (*server).put, open: true},
	methodDelete:    {args: 1, call: (*server).delete, open: true},
	methodCommit:    {args: 0, call: (*server).commit, open: true},
	methodRollback:  {args: 0, call: (*server).rollback, open: true},
	methodList:      {args: 2, call: (*server).list, open: true},
	methodLen:       {args: 0, call: (*server).len, open: true},
	methodCheck:     {args: 1, call: (*server).check, open: true},

	methodGetMany:     {args: 1, call: (*server).getMany, open: true, v2: true},
	methodPutMany:     {args: 1, call: (*server).putMany, open: true, v2: true},
	methodSizes:       {args: 1, call: (*server).sizes, open: true, v2: true},
	methodDigest:      {args: 0, call: (*server).digest, open: true, v2: true},
	methodChanges:     {args: 3, call: (*server).changes, open: true, v2: true},
	methodNextChanges: {args: 0, call: (*server).nextChanges, open: true, v2: true},
	methodReadFile:    {args: 1, call: (*server).readFile, open: true, v2: true},
	methodWriteFile:   {args: 2, call: (*server).writeFile, open: true, v2: true},
	methodCompact:     {args: 0, call: (*server).compact, open: true, v2: true},
	methodDead:        {args: 0, call: (*server).dead, open: true, v2: true},
	methodCheckStore:  {args: 1, call: (*server).checkStore, open: true, v2: true},
	methodPing:        {args: 0, call: (*server).ping, v2: true},
}

// opens are how the later versions open a repository.
var opens = map[int]method{
	2: {args: 4, call: (*server).openRepository},
	3: {args: 5, call: (*server).openRepository},
}

// errArguments is a request whose arguments make no sense: it ends the conversation.
var errArguments = errors.New("malformed request")

// answer returns b with the response to a request.
func (s *server) answer(ctx context.Context, b []byte, q request) ([]byte, error) {
	m, ok := methods[q.method]
	if s.version > 1 && q.method == methodOpen {
		m = opens[s.version]
	}
	if !ok || m.v2 && s.version < 2 {
		// As Attic says it, for whoever looks at the text.
		b = beginFailure(b, q.id, "AttributeError", 1)
		return rawpack.AppendRaw(b, fmt.Sprintf("'Repository' object has no attribute '%s'", q.method)), nil
	}
	if q.n != m.args {
		return nil, fmt.Errorf("%w: %s has %d arguments, not %d", errArguments, q.method, q.n, m.args)
	}
	var object *repository.ID
	err := error(nil)
	if m.open && s.repo == nil {
		err = errors.New("no repository is open")
	} else {
		start := len(b)
		args := *q.args
		var done []byte
		done, err = m.call(s, ctx, beginResponse(b, q.id), &q)
		if argErr := q.args.Err(); argErr != nil {
			return nil, fmt.Errorf("%w: %s: %w", errArguments, q.method, argErr)
		}
		if err == nil {
			return done, nil
		}
		b = b[:start]
		if m.open && m.args > 0 && args.NextIsRaw() { // what it is about, if it is about an object
			if raw := args.Raw(); len(raw) == len(repository.ID{}) {
				object = (*repository.ID)(raw)
			}
		}
	}
	return appendError(b, s.version, q.id, err, s.path, object), nil
}

func (s *server) negotiate(ctx context.Context, b []byte, q *request) ([]byte, error) {
	v := q.args.Int(1, math.MaxInt32)
	if q.args.Err() != nil {
		return nil, nil
	}
	before := s.version
	s.version = int(max(min(v, version), int64(before))) // there is no way back
	if s.version > 1 && before < 2 {
		s.living.Go(func() { s.alive(ctx) })
	}
	return rawpack.AppendInt(b, int64(s.version)), nil
}

func (s *server) openRepository(ctx context.Context, b []byte, q *request) ([]byte, error) {
	asked := q.args.Text()
	create := readBool(q.args)
	o := &repository.Options{LockWait: s.o.LockWait, ReadOnly: s.o.ReadOnly, Warn: s.o.Warn}
	if s.o.AppendOnly {
		o.CompactThreshold = 2 // never
		o.AppendOnly = !create // for a repository that is made, it would be so for everybody and for ever
	}
	if s.version > 1 {
		o.Exclusive = readBool(q.args)
		if wait := q.args.Int(-1, math.MaxInt32); wait != 0 {
			o.LockWait = time.Duration(wait) * time.Millisecond
		}
	}
	if s.version > 2 {
		o.Damaged = readBool(q.args)
	}
	if q.args.Err() != nil {
		return nil, nil
	}
	s.endChanges()
	if s.repo != nil {
		if err := s.repo.Close(); err != nil {
			return nil, err
		}
		s.repo = nil
	}
	s.path = expandHome(asked)
	path, err := s.admit(s.path)
	if err != nil {
		return nil, err
	}
	if create {
		if s.o.ReadOnly {
			return nil, fmt.Errorf("make a repository: %w", ErrNotAllowed)
		}
		s.repo, err = repository.Create(ctx, path, o)
	} else {
		s.repo, err = repository.OpenForCheck(ctx, path, o)
	}
	if err != nil {
		s.repo = nil
		return nil, err
	}
	id := s.repo.ID()
	if s.version < 2 {
		return rawpack.AppendRaw(b, id[:]), nil
	}
	parts := 3
	if s.version > 2 {
		parts = 4
	}
	b = rawpack.AppendArrayHeader(b, parts)
	b = rawpack.AppendRaw(b, id[:])
	b = appendBool(appendBool(b, s.o.AppendOnly || s.repo.AppendOnly()), s.o.ReadOnly)
	switch damage := s.repo.Damage(); {
	case s.version < 3:
	case damage == nil:
		b = rawpack.AppendNil(b)
	default:
		b = rawpack.AppendRaw(b, damage.Error())
	}
	return b, nil
}

// expandHome returns a path as the client means it: "/~/x" and "~/x" are in the home of the server's user.
func expandHome(path string) string {
	trimmed := strings.TrimPrefix(path, "/")
	if trimmed != "~" && !strings.HasPrefix(trimmed, "~/") {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, trimmed[1:])
}

// admit returns the path of a repository without links in it, if it is within the folders that are allowed.
func (s *server) admit(path string) (string, error) {
	if len(s.o.RestrictTo) == 0 {
		return path, nil
	}
	real, err := resolve(path)
	if err != nil {
		return "", notAllowed(path)
	}
	for _, dir := range s.o.RestrictTo {
		allowed, err := resolve(expandHome(dir))
		if err != nil {
			return "", fmt.Errorf("the folder that is allowed cannot be found: %w", err)
		}
		if real == allowed || strings.HasPrefix(real, strings.TrimSuffix(allowed, "/")+"/") {
			return real, nil
		}
	}
	return "", notAllowed(path)
}

func notAllowed(path string) error {
	return fmt.Errorf("open repository %q: %w", path, ErrPathNotAllowed)
}

// resolve returns an absolute path without links and "..". What does not exist yet, at its end, has none.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	rest := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if _, err := os.Lstat(path); err == nil { // a link to what does not exist
			return "", os.ErrNotExist
		}
		path, rest = filepath.Dir(path), filepath.Join(filepath.Base(path), rest)
	}
}

func (s *server) get(ctx context.Context, b []byte, q *request) ([]byte, error) {
	id := readID(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	data, err := s.repo.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return rawpack.AppendRaw(b, data), nil
}

func (s *server) put(ctx context.Context, b []byte, q *request) ([]byte, error) {
	id, data := readID(q.args), q.args.Raw()
	if q.args.Err() != nil {
		return nil, nil
	}
	return rawpack.AppendNil(b), s.putOne(ctx, id, data)
}

func (s *server) putOne(ctx context.Context, id repository.ID, data []byte) error {
	if s.o.ReadOnly {
		return ErrNotAllowed
	}
	if len(data) > s.o.MaxObjectSize {
		return fmt.Errorf("put %v: %w: %d bytes are more than %d", id, repository.ErrTooLarge, len(data), s.o.MaxObjectSize)
	}
	if s.o.AppendOnly && id != manifestID {
		has, err := s.repo.Has(ctx, id)
		if err != nil {
			return err
		}
		if has {
			return fmt.Errorf("replace %v: %w", id, ErrAppendOnly)
		}
	}
	return s.repo.Put(ctx, id, data)
}

func (s *server) delete(ctx context.Context, b []byte, q *request) ([]byte, error) {
	id := readID(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	if s.o.ReadOnly {
		return nil, ErrNotAllowed
	}
	if s.o.AppendOnly {
		return nil, fmt.Errorf("delete %v: %w", id, ErrAppendOnly)
	}
	return rawpack.AppendNil(b), s.repo.Delete(ctx, id)
}

func (s *server) commit(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	return rawpack.AppendNil(b), s.repo.Commit(ctx)
}

func (s *server) rollback(_ context.Context, b []byte, _ *request) ([]byte, error) {
	return rawpack.AppendNil(b), s.repo.Rollback()
}

func (s *server) list(ctx context.Context, b []byte, q *request) ([]byte, error) {
	limit, none := 0, false
	if !q.args.Nil() {
		limit = int(q.args.Int(0, math.MaxInt32))
		none = limit == 0
	}
	var marker *repository.ID
	if !q.args.Nil() {
		id := readID(q.args)
		marker = &id
	}
	if q.args.Err() != nil {
		return nil, nil
	}
	if none {
		return rawpack.AppendArrayHeader(b, 0), nil
	}
	ids, err := s.repo.List(ctx, limit, marker)
	if err != nil {
		return nil, err
	}
	b = rawpack.AppendArrayHeader(b, len(ids))
	for i := range ids {
		b = rawpack.AppendRaw(b, ids[i][:])
	}
	return b, nil
}

func (s *server) len(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	n, err := s.repo.Len(ctx)
	return rawpack.AppendInt(b, int64(n)), err
}

func (s *server) check(ctx context.Context, b []byte, q *request) ([]byte, error) {
	repair := readBool(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	if repair {
		if err := s.mayRemove("repair"); err != nil {
			return nil, err
		}
	}
	report, err := s.repo.Check(ctx, repository.CheckOptions{Repair: repair})
	if err != nil {
		return nil, err
	}
	for _, f := range report.Findings {
		s.o.Warn(errors.New(f.String()))
	}
	return appendBool(b, report.OK() || report.Repaired), nil
}

// checkStore is check with all that a report has, and with notes of how far it is.
func (s *server) checkStore(ctx context.Context, b []byte, q *request) ([]byte, error) {
	o := readCheckOptions(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	if o.Repair {
		if err := s.mayRemove("repair"); err != nil {
			return nil, err
		}
	}
	var last time.Time
	o.Progress = func(done, total int) {
		if now := time.Now(); now.Sub(last) > 200*time.Millisecond {
			last = now
			s.note(q.id, noteProgress, int64(done), int64(total))
		}
	}
	report, err := s.repo.Check(ctx, o)
	if err != nil {
		return nil, err
	}
	return appendReport(b, report), nil
}
