package rpc

import (
	"errors"
	"fmt"
	"syscall"

	"garret/internal/rawpack"
	"garret/repository"
)

var (
	// ErrPathNotAllowed is matched by the error about a repository that the server does not let us open.
	ErrPathNotAllowed = errors.New("the server does not allow this path")
	// ErrNotAllowed is matched by the error about a change that the server does not let us make.
	ErrNotAllowed = errors.New("the server does not allow this")
	// ErrConnection is matched by the errors about a connection that broke, or that does not speak as it should.
	ErrConnection = errors.New("the connection to the repository broke")
)

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
	{"InvalidRepository", repository.ErrInvalid},
	{"PathNotAllowed", ErrPathNotAllowed},
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

// appendError appends the response about an error. Attic's errors have the path as their argument, or the id and the
// path; the others have their text.
func appendError(b []byte, id uint64, err error, path string, object *repository.ID) []byte {
	name := otherError
	for _, e := range errorNames {
		if errors.Is(err, e.err) {
			name = e.name
			break
		}
	}
	switch name {
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
}

func (e *RemoteError) Error() string {
	switch {
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

// remoteError returns the error that a response tells of.
func remoteError(method string, p response) error {
	e := &RemoteError{Method: method, Name: p.err}
	for _, known := range errorNames {
		if known.name == p.err {
			e.err = known.err
		}
	}
	// What it has for arguments depends on the error and on the server.
	texts := 0
	for range p.result.ArrayLen() {
		if raw := rawpack.NewReader(p.result.Value()); raw.NextIsRaw() {
			if text := raw.Raw(); len(text) <= 4096 && texts < 4 {
				if len(text) == len(repository.ID{}) && p.err == "ObjectNotFound" {
					text = fmt.Appendf(nil, "%x", text)
				}
				if e.Text != "" {
					e.Text += ", "
				}
				e.Text += string(text)
				texts++
			}
		}
	}
	return e
}
