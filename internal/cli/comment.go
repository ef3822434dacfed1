package cli

import (
	"unicode/utf8"

	"github.com/spf13/cobra"

	"garret/internal/archive"
)

func (a *app) commentCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "comment [REPO]::ARCHIVE [TEXT]",
		Short: "Say something about an archive",
		Long: `Give an archive a comment, in place of the one that it has; with --remove, none. "garret list" and "garret info" show
it. What is in the archive, and its time, stay as they are.

With --json, an object: "name", "id" and "time" (RFC 3339, UTC) of the archive, "comment" and "tags" if there are any.`,
		Example: `  garret comment /backup/photos::monday 'before the move'
  garret comment --remove /backup/photos::monday`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := optional(args, 1)
			switch {
			case remove == (len(args) == 2):
				return &usageError{"give either a text or --remove; the usage is: " + cmd.UseLine()}
			case !utf8.ValidString(text):
				return &usageError{"the text is not UTF-8"}
			}
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, true)
			if err != nil {
				return err
			}
			defer s.Close()
			return a.remark(cmd.Context(), s, []string{loc.Archive}, func(rec *archive.Archive) { rec.Comment = text })
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the comment")
	return cmd
}
