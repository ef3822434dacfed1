package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"garret/internal/ui"
)

// An output is where results go. Once a write has failed, so do all that follow, and Run tells of it even if the command
// did not look.
type output struct {
	io.Writer
	err error
}

// Write implements io.Writer. Its errors match errOutput.
func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.Writer.Write(p)
	if err != nil {
		o.err = &outputError{err}
	}
	return n, o.err
}

func (o *output) isTerminal() bool { return ui.IsTerminal(o.Writer) }

// errOutput is matched by an error about the results, and not about the repository.
var errOutput = errors.New("standard output could not be written")

type outputError struct{ error }

func (e *outputError) Error() string   { return errOutput.Error() + ": " + e.error.Error() }
func (e *outputError) Unwrap() []error { return []error{errOutput, e.error} }

// emit prints one JSON value on a line of its own: the one result of a command, or one of its items. That it could not be
// written is no reason not to go on: Run tells of it.
func (a *app) emit(v any) error {
	if err := newEncoder(a.stdout).Encode(v); !errors.Is(err, errOutput) {
		return err
	}
	return nil
}

// newEncoder returns what writes JSON values, each on a line of its own. A writer's buffer is for the command to flush.
func newEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc
}

// jsonPath is a path, or another text of the file system, as JSON objects have it. JSON knows no text that is not
// Unicode, so that such a path is there twice: for people, and byte for byte.
type jsonPath struct {
	Path   string `json:"path"`
	Base64 string `json:"path_base64,omitempty"` // only if the path is not UTF-8
}

func newJSONPath(path string) jsonPath { return jsonPath{path, base64IfNotUTF8(path)} }

// base64IfNotUTF8 returns the text in base64 if JSON cannot have it as it is, and nothing otherwise.
func base64IfNotUTF8(s string) string {
	if utf8.ValidString(s) {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(s))
}
