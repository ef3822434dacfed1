package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/retention"
	"garret/repository"
)

// Remarks are what a person says of an archive: a comment, and tags.

// jsonRemarks are those of an archive, as JSON objects have them.
type jsonRemarks struct {
	Comment       string   `json:"comment,omitempty"`
	CommentBase64 string   `json:"comment_base64,omitempty"`
	Tags          []string `json:"tags,omitempty"`
}

func newJSONRemarks(rec *archive.Archive) jsonRemarks {
	if rec == nil { // nobody knows
		return jsonRemarks{}
	}
	return jsonRemarks{rec.Comment, base64IfNotUTF8(rec.Comment), rec.Tags}
}

// remarksText is what is shown of them behind an archive in a list.
func remarksText(rec *archive.Archive) string {
	if rec == nil {
		return ""
	}
	var words []string
	if len(rec.Tags) > 0 {
		words = append(words, "("+strings.Join(rec.Tags, ", ")+")")
	}
	if rec.Comment != "" {
		words = append(words, rec.Comment)
	}
	return strings.Join(words, "  ")
}

// recordsAhead is how many records of archives are fetched at a time.
const recordsAhead = 32

// eachRecord calls do with the record of each archive, or with the error about it.
func (s *session) eachRecord(
	ctx context.Context, entries []catalog.Entry, do func(e catalog.Entry, rec *archive.Archive, err error) error,
) error {
	i := 0
	id := func(i int) repository.ID { return entries[i].ID }
	for data, err := range s.cat.Read(ctx, len(entries), id, recordsAhead) {
		var rec *archive.Archive
		if err == nil {
			rec, err = archive.DecodeArchive(data)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := do(entries[i], rec, err); err != nil {
			return err
		}
		i++
	}
	return nil
}

// remark changes what is said of archives, all or none, and tells of them with --json.
func (a *app) remark(ctx context.Context, s *session, names []string, edit func(*archive.Archive)) error {
	if err := s.rewrite(ctx, names, edit); err != nil || !a.json {
		return err
	}
	entries, err := s.entries(names)
	if err != nil {
		return err
	}
	return s.eachRecord(ctx, entries, func(e catalog.Entry, rec *archive.Archive, err error) error {
		if err != nil {
			return err
		}
		return a.emit(newArchiveJSON(e, rec))
	})
}

// rewrite changes the records of archives.
func (s *session) rewrite(ctx context.Context, names []string, edit func(*archive.Archive)) error {
	if _, err := s.entries(names); err != nil {
		return err
	}
	chunks, err := s.chunks(ctx)
	if err != nil {
		return err
	}
	if err := retention.Rewrite(ctx, s.repo, s.cat, chunks, names, edit); err != nil {
		return fmt.Errorf("change archives of repository %q: %w", s.loc.Repository(), err)
	}
	s.app.saveChunks(chunks)
	return nil
}

// checkTags returns tags, each once and in order.
func checkTags(tags []string) ([]string, error) {
	for _, tag := range tags {
		if err := archive.CheckTag(tag); err != nil {
			return nil, &usageError{err.Error()}
		}
	}
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags), nil
}
