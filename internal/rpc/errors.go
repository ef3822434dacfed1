package rpc

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"garret/internal/rawpack"
	"garret/repository"
)

var (
	// ErrPathNotAllowed is matched by the error about a repository that the server does not let us open.
	ErrPathNotAllowed = errors.New("the server does not allow this path")
	// ErrNotAllowed is matched by the error about a change that the server does not let us make.
	ErrNotAllowed = errors.New("the server does not allow this")
	// ErrAppendOnly is the same about one that would remove something.
	ErrAppendOnly = fmt.Errorf("%w: the %w", ErrNotAllowed, repository.ErrAppendOnly)
	// ErrConnection is matched by the errors about a connection that broke, or that does not speak as it should.
	ErrConnection = errors.New("the connection to the repository broke")
	// ErrNoServer is matched by those of them that are about one over which no server has ever answered.
	ErrNoServer error = noServerError{}
)

type noServerError struct{}

func (noServerError) Error() string { return "no server answers" }

// Is makes the error match ErrConnection.
func (noServerError) Is(target error) bool { return target == ErrConnection }

// errorNames are the names of errors, which are wire format. Those before OSError are Attic's.
var errorNames = []struct {
	name string
	err  error
}{
	{"DoesNotExist", repository.ErrNotExist},
	{"AlreadyExists", repository.ErrExists},
	{"CheckNeeded", repository.ErrCheckNeeded},
	{"ObjectNotFound", repository.ErrNotFound},
	{"IntegrityError", repository.ErrIntegrity},
	{"ForeignRepository", repository.ErrForeign},
	{"NewerGarret", repository.ErrNewer},
	{"InvalidRepository", repository.ErrInvalid},
	{"PathNotAllowed", ErrPathNotAllowed},
	{"AppendOnly", repository.ErrAppendOnly}, // by its config
	{"AppendOnly", ErrAppendOnly},            // that is what the name stands for to a client
	{"NotAllowed", ErrNotAllowed},
	{"LockTimeout", repository.ErrLocked},
	{"ObjectTooLarge", repository.ErrTooLarge},
	{"ReadOnly", repository.ErrReadOnly},
	{"TransactionFailed", repository.ErrFailed},
	{"NoSpaceLeft", syscall.ENOSPC},
	{"QuotaExceeded", syscall.EDQUOT},
}

// otherError names an error that is none of these.
const otherError = "OSError"

func errorName(err error) string {
	for _, e := range errorNames {
		if errors.Is(err, e.err) {
			return e.name
		}
	}
	return otherError
}

// appendError appends the response about an error. In version 1 it has what Attic's has for arguments: the path, or the id
// and the path; otherwise its text.
func appendError(b []byte, v int, id uint64, err error, path string, object *repository.ID) []byte {
	name := errorName(err)
	if v > 1 {
		return rawpack.AppendRaw(beginFailure(b, id, name, 1), err.Error())
	}
	switch name {
	case "ForeignRepository", "NewerGarret": // Attic has no names for these
		name = "InvalidRepository"
	case "ObjectNotFound":
		if object != nil {
			b = beginFailure(b, id, name, 2)
			return rawpack.AppendRaw(rawpack.AppendRaw(b, object[:]), path)
		}
	case "DoesNotExist", "AlreadyExists", "PathNotAllowed":
		return rawpack.AppendRaw(beginFailure(b, id, name, 1), path)
	}
	return rawpack.AppendRaw(beginFailure(b, id, name, 1), err.Error())
}

// RemoteError is an error that the server told of. It matches the error that it had there, if that is one of the
// repository's.
type RemoteError struct {
	Method string
	Name   string // of the error
	Text   string // what more was said; may be empty
	err    error
	whole  bool // the text says all there is to say
}

func (e *RemoteError) Error() string {
	switch {
	case e.whole:
		return e.Text
	case e.err != nil && e.Text != "":
		return fmt.Sprintf("%s: %s", e.err, e.Text)
	case e.err != nil:
		return e.err.Error()
	case e.Text != "":
		return fmt.Sprintf("the server failed to %s: %s: %s", e.Method, e.Name, e.Text)
	default:
		return fmt.Sprintf("the server failed to %s: %s", e.Method, e.Name)
	}
}

// Unwrap returns the error of the repository, if it is one.
func (e *RemoteError) Unwrap() error { return e.err }

// newRemoteError returns the error of a name. A server of version 2 says all of it in the text.
func newRemoteError(v int, method, name, text string) *RemoteError {
	e := &RemoteError{Method: method, Name: name, Text: text, whole: v > 1 && text != ""}
	for _, known := range errorNames {
		if known.name == name {
			e.err = known.err
		}
	}
	return e
}

// shortened returns a text that the server has chosen, which a person is to read.
func shortened(text []byte) string {
	const most = 8 << 10 // two paths and some words
	if len(text) > most {
		return string(text[:most]) + "..."
	}
	return string(text)
}

// remoteError returns the error that a response tells of. What it has for arguments depends on the error and on the
// server.
func remoteError(v int, method string, p response) error {
	var texts []string
	for range min(p.result.ArrayLen(), 16) {
		arg := rawpack.NewReader(p.result.Value())
		if !arg.NextIsRaw() || len(texts) == 4 {
			continue
		}
		text := arg.Raw()
		switch {
		case len(text) == idSize && p.err == "ObjectNotFound":
			texts = append(texts, fmt.Sprintf("%x", text))
		default:
			texts = append(texts, shortened(text))
		}
	}
	return newRemoteError(v, method, p.err, strings.Join(texts, ", "))
}
