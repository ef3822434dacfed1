package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/retention"
)

func (a *app) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rename [REPO]::OLD NEW",
		Short: "Give an archive another name",
		Long: `Give an archive another name. What is in it, and its time, stay as they are.

With --json, an object: "name", the new one, "id" and "time" (RFC 3339, UTC) of the archive, and "old_name"; "name_base64"
and "old_name_base64" too if these are not UTF-8.`,
		Example:           `  garret rename /backup/photos::monday before-the-move`,
		Args:              args(2, 2),
		ValidArgsFunction: a.completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			name := args[1]
			if strings.Contains(name, "::") {
				to, err := a.location(name, true)
				if err != nil {
					return err
				}
				if to.Repository() != loc.Repository() {
					return &usageError{fmt.Sprintf("%q is in another repository than %q", name, args[0])}
				}
				name = to.Archive
			}
			if err := archive.CheckName(name); err != nil {
				return &usageError{err.Error()}
			}
			s, err := a.open(cmd.Context(), loc, true)
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.entry(loc.Archive); err != nil {
				return err
			}
			chunks, err := s.chunks(cmd.Context())
			if err != nil {
				return err
			}
			if err := retention.Rename(cmd.Context(), s.repo, s.cat, chunks, loc.Archive, name); err != nil {
				return fmt.Errorf("rename archive %q: %w", loc.Archive, err)
			}
			a.saveChunks(chunks)
			if !a.json {
				return nil
			}
			e, err := s.entry(name)
			if err != nil {
				return err
			}
			rec, err := s.cat.Archive(cmd.Context(), name)
			if err != nil {
				return err
			}
			return a.emit(renamedJSON{newArchiveJSON(e, rec), loc.Archive, base64IfNotUTF8(loc.Archive)})
		},
	}
}

// renamedJSON is an archive under its new name.
type renamedJSON struct {
	archiveJSON
	Old       string `json:"old_name"`
	OldBase64 string `json:"old_name_base64,omitempty"`
}
