// Package rpc is the repository over a pipe: what `garret serve` and `attic serve` speak, and who speaks to them.
//
// Messages are msgpack of the old specification (see rawpack), one after another, without anything between them:
//
//	request    [1, id, method, [argument, ...]]
//	response   [1, id, nil, result]
//	           [1, id, name of an error, its arguments]
//
// A server answers in the order of the requests. A client need not wait for an answer before it asks again, and Attic's
// leaves up to 100 requests unanswered. The methods of version 1 are those of Attic 0.17:
//
//	negotiate(version)        the version that both know
//	open(path, create)        the id of the repository
//	get(id)                   the object
//	put(id, data)             nil
//	delete(id)                nil
//	commit(), rollback()      nil
//	list(limit, marker)       [id, ...]; either may be nil
//	__len__()                 how many objects there are
//	check(repair)             whether all was sound, or is now
//
// The names of errors are those of Attic's classes, see errorNames.
package rpc

import (
	"fmt"
	"math"

	"garret/internal/rawpack"
	"garret/repository"
)

// messageType is what every message begins with. It is wire format.
const messageType = 1

// The methods. They are wire format.
const (
	methodNegotiate = "negotiate"
	methodOpen      = "open"
	methodGet       = "get"
	methodPut       = "put"
	methodDelete    = "delete"
	methodCommit    = "commit"
	methodRollback  = "rollback"
	methodList      = "list"
	methodLen       = "__len__"
	methodCheck     = "check"
)

// Bounds of the length of a message, in bytes, which are far above what either side says: to a server, a batch that ends
// with the largest of objects; to a client, an answer of maxAnswer that does so, a page of ids, or a report.
const (
	maxRequest  = repository.MaxObjectSize + maxBatch + 64<<10
	maxResponse = 64 << 20
)

// A request is one that was read. Its arguments are a part of the message, and have not been looked at.
type request struct {
	id     uint64
	method string
	args   *rawpack.Reader
	n      int // how many arguments there are
}

// parseRequest reads a message.
func parseRequest(msg []byte) (request, error) {
	r := rawpack.NewReader(msg)
	if n := r.ArrayLen(); n != 4 {
		r.Failf("it has %d parts, not 4", n)
	}
	if t := r.Int(math.MinInt64, math.MaxInt64); t != messageType {
		r.Failf("its type is %d, not %d", t, messageType)
	}
	q := request{id: r.Uint(math.MaxUint64)}
	if m := r.Raw(); len(m) <= 64 {
		q.method = string(m)
	} else {
		r.Failf("the name of its method has %d bytes", len(m))
	}
	rest := rawpack.NewReader(r.Value())
	r.End()
	if err := r.Err(); err != nil {
		return q, fmt.Errorf("malformed request: %w", err)
	}
	q.args, q.n = rest, rest.ArrayLen()
	if err := rest.Err(); err != nil {
		return q, fmt.Errorf("malformed request: its arguments: %w", err)
	}
	return q, nil
}

// beginRequest appends a request up to its arguments, of which there must follow as many as is said.
func beginRequest(b []byte, id uint64, method string, args int) []byte {
	b = rawpack.AppendArrayHeader(b, 4)
	b = rawpack.AppendInt(b, messageType)
	b = rawpack.AppendUint(b, id)
	b = rawpack.AppendRaw(b, method)
	return rawpack.AppendArrayHeader(b, args)
}

// beginResponse appends a response up to its result.
func beginResponse(b []byte, id uint64) []byte {
	b = rawpack.AppendArrayHeader(b, 4)
	b = rawpack.AppendInt(b, messageType)
	b = rawpack.AppendUint(b, id)
	return rawpack.AppendNil(b)
}

// beginFailure appends a response that tells of an error, up to its arguments.
func beginFailure(b []byte, id uint64, name string, args int) []byte {
	b = rawpack.AppendArrayHeader(b, 4)
	b = rawpack.AppendInt(b, messageType)
	b = rawpack.AppendUint(b, id)
	b = rawpack.AppendRaw(b, name)
	return rawpack.AppendArrayHeader(b, args)
}

// A response is one that was read.
type response struct {
	id     uint64
	err    string // the name of an error; empty: none
	result *rawpack.Reader
}

// parseResponse reads a message.
func parseResponse(msg []byte) (response, error) {
	r := rawpack.NewReader(msg)
	if n := r.ArrayLen(); n != 4 {
		r.Failf("it has %d parts, not 4", n)
	}
	if t := r.Int(math.MinInt64, math.MaxInt64); t != messageType {
		r.Failf("its type is %d, not %d", t, messageType)
	}
	p := response{id: r.Uint(math.MaxUint64)}
	if !r.Nil() {
		p.err = readErrorName(r)
	}
	p.result = rawpack.NewReader(r.Value())
	r.End()
	if err := r.Err(); err != nil {
		return p, fmt.Errorf("malformed response: %w", err)
	}
	return p, nil
}

// readErrorName reads the name of an error, which is that of a class.
func readErrorName(r *rawpack.Reader) string {
	name := r.Raw()
	if r.Err() == nil && (len(name) == 0 || len(name) > 100) {
		r.Failf("the name of an error has %d bytes", len(name))
		return ""
	}
	return string(name)
}

// readID reads the id of an object.
func readID(r *rawpack.Reader) (id repository.ID) {
	raw := r.Raw()
	if r.Err() == nil && len(raw) != len(id) {
		r.Failf("an id has %d bytes", len(raw))
		return id
	}
	copy(id[:], raw)
	return id
}

// readBool reads a truth value, which to Attic any integer is too.
func readBool(r *rawpack.Reader) bool {
	switch v := r.Value(); {
	case len(v) == 1 && (v[0] == 0xc2 || v[0] == 0xc0 || v[0] == 0):
		return false
	case len(v) == 1 && (v[0] == 0xc3 || v[0] < 0x80):
		return true
	}
	r.Failf("it is neither true nor false")
	return false
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}
