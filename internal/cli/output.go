package cli

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// emit prints one JSON value on a line of its own: the one result of a command, or one of its items.
func (a *app) emit(v any) error { return newEncoder(a.stdout).Encode(v) }

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
