package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/find"
	"garret/internal/location"
	"garret/internal/pattern"
	"garret/internal/ui"
)

func (a *app) findCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use:   "find [REPO][::ARCHIVE] PATTERN...",
		Short: "Find out which archives have a file, and which versions of it",
		Long: `Find out which archives have a file, and which versions of it. Each version is a line: its size and the time of its last
change, how many archives have it, the first and the last of these, and its path. "garret extract REPO::LAST PATH" brings
it back. Two files are the same version if their content, time and path are the same.

A PATTERN without a slash and without a prefix is held against the names of files and folders: "*.jpg", budget.ods. Others
are as those of --exclude, and are held against paths: "home/*/Mail", re:IMG_[0-9]+, pf:etc/hosts. A path that matches
a folder matches all that is in it.

With one argument, that is the PATTERN, and the repository is that of GARRET_REPO. With several, the first one is the
repository: :: for that of GARRET_REPO.

` + choiceHelp + `

The exit code is 0 if something was found, and 1 if nothing was or some archives could not be searched.

With --json, a line for each version:

  path             its path in the archives
  type             file, dir, symlink, hardlink, fifo, char, block or unknown
  size             of the content, in bytes
  mtime            when the content was last changed: RFC 3339, UTC
  source           of a symlink what it points to, of a hardlink the path of the same file elsewhere in the archive
  archives         the names of all archives that have it, the oldest first

Text that is not UTF-8 is approximated, and there in full in base64 as path_base64 or source_base64.`,
		Example: `  garret find /backup/photos 'IMG_1234*'
  garret find --last 10 /backup/photos pf:home/ann/budget.ods
  garret find --json /backup/photos budget.ods | jq -r '.archives[-1]'`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, texts, err := a.findArguments(args)
			if err != nil {
				return err
			}
			match, err := findMatch(texts)
			if err != nil {
				return err
			}
			if err := c.check(loc); err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			entries, err := c.entries(s)
			if err != nil {
				return err
			}
			return a.find(cmd.Context(), s.cat, entries, match)
		},
	}
	c.flags(cmd.Flags())
	return cmd
}

// findArguments tells the location from the patterns.
func (a *app) findArguments(args []string) (location.Location, []string, error) {
	repo, texts := args[0], args[1:]
	if len(args) == 1 {
		repo, texts = "", args
	}
	if repo == "::" {
		repo = ""
	}
	loc, err := a.anyLocation(repo)
	return loc, texts, err
}

// isNamePattern reports whether a pattern is meant for names, not for paths.
func isNamePattern(text string) bool {
	for _, style := range []string{"fm:", "sh:", "re:", "pp:", "pf:"} {
		if strings.HasPrefix(text, style) {
			return false
		}
	}
	return !strings.Contains(text, "/")
}

// findMatch returns what decides whether a path matches one of the patterns.
func findMatch(texts []string) (func(path string) bool, error) {
	var matches []func(path string) bool
	for _, text := range texts {
		names := isNamePattern(text)
		p, err := pattern.Parse(text)
		if err != nil {
			return nil, &usageError{fmt.Sprintf("the pattern %q %v", text, err)}
		}
		matches = append(matches, func(path string) bool {
			if names {
				path = path[strings.LastIndexByte(path, '/')+1:]
			}
			return p.Match(path)
		})
	}
	return func(path string) bool {
		for _, m := range matches {
			if m(path) {
				return true
			}
		}
		return false
	}, nil
}

// versionJSON is a version as JSON.
type versionJSON struct {
	jsonPath
	Type         string   `json:"type"`
	Size         int64    `json:"size"`
	MTime        string   `json:"mtime"`
	Source       string   `json:"source,omitempty"`
	SourceBase64 string   `json:"source_base64,omitempty"`
	Archives     []string `json:"archives"`
}

func (a *app) find(ctx context.Context, cat *catalog.Catalog, entries []catalog.Entry, match func(string) bool) (err error) {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	warned := false
	versions, err := find.Versions(ctx, cat, names, find.Options{
		Match: match,
		Warn: func(err error) {
			warned = true
			a.warn("", fmt.Errorf("some files are lost: %w", err))
		},
	})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.stdout)
	defer func() { err = cmp.Or(err, out.Flush()) }()
	enc := newEncoder(out)
	for _, v := range versions {
		if a.json {
			if err := enc.Encode(newVersionJSON(v, names)); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(out, a.line(versionLine(v, names)))
	}
	if len(versions) == 0 && !warned {
		a.ui.Printf("Nothing found in %s.", ui.Plural(int64(len(names)), "archive"))
	}
	if len(versions) == 0 || warned {
		return errWarnings
	}
	return nil
}

// versionLine describes a version, with its path at the end.
func versionLine(v *find.Version, names []string) string {
	kind := kindOf(&archive.Item{Mode: v.Mode, Source: v.Source})
	size, target := kind.name, ""
	switch kind.letter {
	case '-':
		size = ui.Bytes(v.Size)
	case 'l':
		target = " -> " + v.Source
	case 'h':
		target = " link to " + v.Source
	}
	where := names[v.Runs[0].First]
	if n := v.Archives(); n > 1 {
		where = fmt.Sprintf("%d: %s .. %s", n, where, names[v.Runs[len(v.Runs)-1].Last])
	}
	return fmt.Sprintf("%8s  %s  %-30s  %s%s", size, v.MTime.Time().Local().Format(time.DateTime), where, v.Path, target)
}

func newVersionJSON(v *find.Version, names []string) versionJSON {
	j := versionJSON{
		jsonPath:     newJSONPath(v.Path),
		Type:         kindOf(&archive.Item{Mode: v.Mode, Source: v.Source}).name,
		Size:         v.Size,
		MTime:        v.MTime.Time().Format(time.RFC3339Nano),
		Source:       v.Source,
		SourceBase64: base64IfNotUTF8(v.Source),
	}
	for _, r := range v.Runs {
		j.Archives = append(j.Archives, names[r.First:r.Last+1]...)
	}
	return j
}
