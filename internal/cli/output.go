package cli

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// emit prints one JSON value on a line of its own: the one result of a command, or one of its items. A writer's buffer
// is for the command to flush.
func (a *app) emit(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// jsonPath is a path, or another text of the file system, as JSON objects have it. JSON knows no text that is not
// Unicode, so that such a path is there twice: for people, and byte for byte.
type jsonPath struct {
	Path   string `json:"path"`
	Base64 string `json:"path_base64,omitempty"` // only if the path is not UTF-8
}

func newJSONPath(path string) jsonPath {
	p := jsonPath{Path: path}
	if !utf8.ValidString(path) {
		p.Base64 = base64.StdEncoding.EncodeToString([]byte(path))
	}
	return p
}
