package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/retention"
	"garret/repository"
)

// groupFacts are what prune --group-by can tell groups of archives apart by.
var groupFacts = []struct {
	name string
	of   func(e catalog.Entry, rec *archive.Archive) string
}{
	{"host", func(_ catalog.Entry, rec *archive.Archive) string { return rec.Hostname }},
	{"user", func(_ catalog.Entry, rec *archive.Archive) string { return rec.Username }},
	{"series", func(e catalog.Entry, _ *archive.Archive) string { return retention.Series(e.Name) }},
	{"tags", func(_ catalog.Entry, rec *archive.Archive) string {
		tags := slices.DeleteFunc(slices.Clone(rec.Tags), func(tag string) bool { return tag == archive.TagProtected })
		slices.Sort(tags)
		return strings.Join(tags, " ")
	}},
}

// checkGroups refuses facts that are not known.
func (p *pruning) checkGroups() error {
	var known []string
	for _, f := range groupFacts {
		known = append(known, f.name)
	}
	for _, name := range p.groupBy {
		if !slices.Contains(known, name) {
			return &usageError{fmt.Sprintf("--group-by: %q is not known: there are %s", name, strings.Join(known, ", "))}
		}
	}
	return nil
}

// facts reads from the archives' records what the rules ask.
func (p *pruning) facts(ctx context.Context, s *session) (map[string]retention.Facts, error) {
	all := map[string]retention.Facts{}
	err := s.eachRecord(ctx, s.cat.Archives(), func(e catalog.Entry, rec *archive.Archive, err error) error {
		switch {
		case err == nil:
			all[e.Name] = retention.Facts{Tags: rec.Tags, Group: p.group(e, rec)}
		case catalog.Lost(err), errors.Is(err, repository.ErrNewer):
			all[e.Name] = retention.Facts{Unreadable: true}
		default:
			return fmt.Errorf("read the record of archive %q: %w", e.Name, err)
		}
		return nil
	})
	return all, err
}

// group returns the group of an archive, in words.
func (p *pruning) group(e catalog.Entry, rec *archive.Archive) string {
	var words []string
	for _, f := range groupFacts {
		if slices.Contains(p.groupBy, f.name) {
			words = append(words, fmt.Sprintf("%s %q", f.name, f.of(e, rec)))
		}
	}
	return strings.Join(words, ", ")
}
