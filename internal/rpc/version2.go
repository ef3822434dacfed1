package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"garret/internal/rawpack"
	"garret/repository"
)

// The methods of versions 2 and 3, which two garrets speak. Ids are put together to one raw, 32 bytes each. What can take long
// is accompanied by notes, which are no answers: [2, id of the request, kind, number, number]. A server says every 15
// seconds that it is alive, in a note about request 0.
//
//	open(path, create, exclusive, milliseconds to wait for the lock)
//	                          [the id of the repository, whether it is append-only, whether it is read-only]
//	                          version 3 has one argument more, whether to read a repository that needs a repair, and one part
//	                          more in the answer: what is damaged, or nil
//	get_many(ids)             [object, or [name of an error, text], ...]
//	put_many([id, data, ...]) nil
//	sizes(ids)                the lengths of the objects, a u32 little-endian each; all ones: there is none
//	digest()                  [count, low, high]
//	changes(transaction, size, tail)
//	                          [transaction, size, tail, all], see repository.Changes; what has changed is then asked for with
//	next_changes()            zstd of: ids and their sizes, as sizes has them, but 0xfffffffe of what is there and damaged;
//	                          nothing at the end
//	read_file(name)           a named file of the repository, nil if there is none
//	write_file(name, data)    nil
//	compact()                 how many bytes have become free
//	dead()                    how many bytes compaction would free
//	check_store({...})        a report
//	ping()                    nil
const (
	methodGetMany     = "get_many"
	methodPutMany     = "put_many"
	methodSizes       = "sizes"
	methodDigest      = "digest"
	methodChanges     = "changes"
	methodNextChanges = "next_changes"
	methodReadFile    = "read_file"
	methodWriteFile   = "write_file"
	methodCompact     = "compact"
	methodDead        = "dead"
	methodCheckStore  = "check_store"
	methodPing        = "ping"
)

// noteType is what a note begins with in the place of messageType, and the kinds of notes. They are wire format.
const (
	noteType     = 2
	noteAlive    = 0 // the server is at work
	noteProgress = 1 // so many, of so many
)

// version is the latest that is spoken here.
const version = 3

const idSize = len(repository.ID{})

// maxMany is how many objects one request can be about.
const maxMany = 4096

// none is the size of an object that there is not.
const none = math.MaxUint32

func readIDs(r *rawpack.Reader) []repository.ID {
	raw := r.Raw()
	if r.Err() == nil && (len(raw)%idSize != 0 || len(raw)/idSize > maxMany) {
		r.Failf("%d bytes are not the ids of up to %d objects", len(raw), maxMany)
		return nil
	}
	ids := make([]repository.ID, len(raw)/idSize)
	for i := range ids {
		ids[i] = repository.ID(raw[i*idSize:])
	}
	return ids
}

// maxAnswer is about how many bytes of objects get_many answers with at most: those that come after are left to be asked
// for once more, as nil.
const maxAnswer = 8 << 20

func (s *server) getMany(ctx context.Context, b []byte, q *request) ([]byte, error) {
	ids := readIDs(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	b = rawpack.AppendArrayHeader(b, len(ids))
	n, begin := 0, len(b)
	for data, err := range s.repo.GetMany(ctx, slices.Values(ids)) {
		switch {
		case err == nil:
			b = rawpack.AppendRaw(b, data)
		case ctx.Err() != nil:
			return nil, err
		default:
			b = rawpack.AppendArrayHeader(b, 2)
			b = rawpack.AppendRaw(b, errorName(err))
			b = rawpack.AppendRaw(b, err.Error())
		}
		if n++; len(b)-begin > maxAnswer {
			break
		}
	}
	for ; n < len(ids); n++ {
		b = rawpack.AppendNil(b)
	}
	return b, nil
}

func (s *server) putMany(ctx context.Context, b []byte, q *request) ([]byte, error) {
	n := q.args.ArrayLen()
	if n%2 != 0 || n > 2*maxMany {
		q.args.Failf("%d are not the ids and values of up to %d objects", n, maxMany)
	}
	var failed error
	for range n / 2 {
		id, data := readID(q.args), q.args.Raw()
		if q.args.Err() != nil {
			return nil, nil
		}
		if failed == nil {
			failed = s.putOne(ctx, id, data)
		}
	}
	return rawpack.AppendNil(b), failed
}

func (s *server) sizes(ctx context.Context, b []byte, q *request) ([]byte, error) {
	ids := readIDs(q.args)
	if q.args.Err() != nil {
		return nil, nil
	}
	raw := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		size, err := s.repo.Size(ctx, id)
		switch {
		case errors.Is(err, repository.ErrNotFound), errors.Is(err, repository.ErrIntegrity):
			raw = binary.LittleEndian.AppendUint32(raw, none)
		case err != nil:
			return nil, err
		default:
			raw = binary.LittleEndian.AppendUint32(raw, uint32(size))
		}
	}
	return rawpack.AppendRaw(b, raw), nil
}

func (s *server) digest(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	d, err := s.repo.Digest(ctx)
	if err != nil {
		return nil, err
	}
	b = rawpack.AppendArrayHeader(b, 3)
	for _, n := range []uint64{d.Count, d.Low, d.High} {
		b = rawpack.AppendUint(b, n)
	}
	return b, nil
}

func (s *server) changes(ctx context.Context, b []byte, q *request) ([]byte, error) {
	since := repository.Mark{
		Transaction: uint32(q.args.Uint(math.MaxUint32)),
		Size:        q.args.Int(0, math.MaxInt64),
		Tail:        uint32(q.args.Uint(math.MaxUint32)),
	}
	if q.args.Err() != nil {
		return nil, nil
	}
	s.endChanges()
	now, all, changes, err := s.repo.Changes(ctx, since)
	if err != nil {
		return nil, err
	}
	s.nextChange, s.stopChanges = iter.Pull2(changes)
	b = rawpack.AppendArrayHeader(b, 4)
	b = rawpack.AppendUint(b, uint64(now.Transaction))
	b = rawpack.AppendInt(b, now.Size)
	b = rawpack.AppendUint(b, uint64(now.Tail))
	return appendBool(b, all), nil
}

// endChanges forgets changes that were not asked for to the end.
func (s *server) endChanges() {
	if s.stopChanges != nil {
		s.stopChanges()
		s.nextChange, s.stopChanges = nil, nil
	}
}

// changesPage is how many changes are told of at a time.
const changesPage = 50_000

func (s *server) nextChanges(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	if s.nextChange == nil {
		return nil, errors.New("no changes were asked for")
	}
	var page []byte
	for range changesPage {
		c, err, ok := s.nextChange()
		if !ok {
			break
		}
		if err != nil {
			return nil, err
		}
		page = append(page, c.ID[:]...)
		size := uint32(c.Size)
		if c.Size < 0 { // there is none, or it is damaged
			switch has, err := s.repo.Has(ctx, c.ID); {
			case err != nil:
				return nil, err
			case has:
				size = unsized
			default:
				size = none
			}
		}
		page = binary.LittleEndian.AppendUint32(page, size)
	}
	if len(page) == 0 {
		s.endChanges()
		return rawpack.AppendRaw(b, page), nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return rawpack.AppendRaw(b, enc.EncodeAll(page, nil)), nil
}

func (s *server) readFile(_ context.Context, b []byte, q *request) ([]byte, error) {
	name := q.args.Text()
	if q.args.Err() != nil {
		return nil, nil
	}
	data, err := s.repo.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return rawpack.AppendNil(b), nil
	}
	if err != nil {
		return nil, err
	}
	return rawpack.AppendRaw(b, data), nil
}

func (s *server) writeFile(_ context.Context, b []byte, q *request) ([]byte, error) {
	name, data := q.args.Text(), q.args.Raw()
	if q.args.Err() != nil {
		return nil, nil
	}
	if s.o.ReadOnly || s.o.AppendOnly && name != nonceFile {
		return nil, fmt.Errorf("write file %q: %w", name, ErrNotAllowed)
	}
	return rawpack.AppendNil(b), s.repo.WriteFile(name, data)
}

func (s *server) dead(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	n, err := s.repo.Dead(ctx)
	return rawpack.AppendInt(b, n), err
}

func (s *server) compact(ctx context.Context, b []byte, _ *request) ([]byte, error) {
	if err := s.mayRemove("compact"); err != nil {
		return nil, err
	}
	freed, err := s.repo.Compact(ctx)
	return rawpack.AppendInt(b, freed), err
}

func (s *server) ping(_ context.Context, b []byte, _ *request) ([]byte, error) {
	return rawpack.AppendNil(b), nil
}

// alive sends a note now and then, so that the client knows that there is somebody, whatever takes long: the server's
// work, or the client's own requests on their way over a slow line. When the client is gone it ends what is being done.
func (s *server) alive(ctx context.Context) {
	t := time.NewTicker(s.o.heartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.note(0, noteAlive, 0, 0)
		case <-ctx.Done():
			return
		}
	}
}

// note sends a note at once, unless the client has not been greeted.
func (s *server) note(id uint64, kind, a, b int64) {
	msg := rawpack.AppendArrayHeader(nil, 5)
	msg = rawpack.AppendInt(msg, noteType)
	msg = rawpack.AppendUint(msg, id)
	for _, n := range []int64{kind, a, b} {
		msg = rawpack.AppendInt(msg, n)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.greeted {
		return
	}
	s.out.Write(msg) // an error stays
	if err := s.out.Flush(); err != nil {
		s.cancel(brokenClient(err))
	}
}

// nonceFile is the named file that is written by whoever stores something, see envelope.
const nonceFile = "garret.nonce"

// decompress is for answers, of which none is large.
func decompress(data []byte, limit int) ([]byte, error) {
	dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	out, err := io.ReadAll(io.LimitReader(dec, int64(limit)+1))
	if err == nil && len(out) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return out, err
}
