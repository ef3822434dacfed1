package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"garret/internal/ui"
)

func (a *app) compactCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "compact [REPO]",
		Short: "Free the room of what was deleted",
		Long: `Free the room of what was deleted or replaced: copy what is needed out of every segment with something else in it, and
remove these segments. It may be interrupted at any time.

Every command that stores or deletes does so with segments of which a quarter is not needed. It takes no key.

With --json, one object is printed: freed, in bytes, with --dry-run about; and dry_run.`,
		Example: `  garret compact /backup/photos
  garret compact --dry-run /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			repo, err := a.openStoreToWrite(cmd.Context(), loc, dryRun)
			if err != nil {
				return err
			}
			defer repo.Close()
			work, format := repo.Compact, "Freed %s.\n"
			if dryRun {
				work, format = repo.Dead, "About %s would become free.\n"
			}
			freed, err := work(cmd.Context())
			switch {
			case err != nil:
				return fmt.Errorf("compact repository %q: %w", loc, err)
			case a.json:
				return a.emit(struct {
					Freed  int64 `json:"freed"`
					DryRun bool  `json:"dry_run"`
				}{freed, dryRun})
			}
			fmt.Fprintf(a.stdout, format, ui.Bytes(freed))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "tell how much would become free, and change nothing")
	return cmd
}
