package cli

import (
	"encoding/json"

	"garret/internal/fsck"
	"garret/repository"
)

// A checkFinding is what JSON has of a finding.
type checkFinding struct {
	Type    string  `json:"type"`
	Part    string  `json:"part"`
	Kind    string  `json:"kind"`
	Segment *uint32 `json:"segment,omitempty"`
	Object  string  `json:"object,omitempty"`
	Archive string  `json:"archive,omitempty"`
	*jsonPath
	Offset  *int64 `json:"offset,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Message string `json:"message"`
}

func storeFinding(f repository.Finding) checkFinding {
	j := checkFinding{Part: "repository", Kind: string(f.Kind), Segment: &f.Segment, Offset: &f.Offset, Size: f.Length}
	if f.Object != nil {
		j.Object = f.Object.String()
	}
	return j
}

func archiveFinding(f fsck.Finding) checkFinding {
	j := checkFinding{Part: "archives", Kind: string(f.Kind), Archive: f.Archive, Size: f.Size}
	if f.Size > 0 {
		j.Offset = &f.Offset
	}
	if f.Path != "" {
		path := newJSONPath(f.Path)
		j.jsonPath = &path
	}
	if f.Object != nil {
		j.Object = f.Object.String()
	}
	return j
}

// tell prints a finding, if it has not been printed yet.
func (c *check) tell(f checkFinding, text string) error {
	if c.told[text] {
		return nil
	}
	c.told[text] = true
	c.findings++
	if !c.json {
		return c.ui.Result(c.stdout, c.line(text))
	}
	f.Type, f.Message = "finding", text
	return c.tellJSON(f)
}

func (c *check) tellJSON(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.ui.Result(c.stdout, string(data))
}

// summarize prints the summary of --json.
func (c *check) summarize() error {
	if !c.json {
		return nil
	}
	s := struct {
		Type     string `json:"type"`
		Sound    bool   `json:"sound"`
		Complete bool   `json:"complete"`
		Repaired bool   `json:"repaired"`
		Findings int    `json:"findings"`
		Segments int    `json:"segments"`
		Bytes    int64  `json:"bytes"`
		Objects  int    `json:"objects"`
		Verified int64  `json:"verified"`
		Archives int64  `json:"archives"`
		Items    int64  `json:"items"`
		Chunks   int64  `json:"chunks"`
		Patched  int64  `json:"patched"`
	}{Type: "summary", Sound: c.findings == 0, Repaired: c.repaired, Findings: c.findings}
	s.Complete = !c.partial && (c.archives != nil || c.repositoryOnly)
	if r := c.store; r != nil {
		s.Segments, s.Bytes, s.Objects = r.Segments, r.Bytes, r.Objects
	}
	if r := c.archives; r != nil {
		s.Verified, s.Archives, s.Items, s.Chunks, s.Patched = r.Verified, r.Archives, r.Items, r.Chunks, r.Wounded
		if c.store == nil {
			s.Objects = int(r.Objects)
		}
	}
	return c.tellJSON(s)
}
