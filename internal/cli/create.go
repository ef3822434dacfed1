package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/fsmeta"
	"garret/internal/ui"
)

func (a *app) createCommand() *cobra.Command {
	var stats bool
	cmd := &cobra.Command{
		Use:   "create [REPO]::ARCHIVE PATH...",
		Short: "Make an archive of files and folders",
		Long: `Make an archive of files and folders. Each is stored under its path as it is given, made relative: /etc/hosts as
etc/hosts, ../photos as photos. A symbolic link is stored as a link; with a slash after it, it is the folder behind it.

What cannot be read is reported and left out, and the exit code is 1.`,
		Args: args(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, true)
			if err != nil {
				return err
			}
			begin := time.Now()
			done, err := a.store(cmd.Context(), s, backup.Options{Name: loc.Archive, Paths: args[1:]})
			if err == nil && stats {
				fmt.Fprintf(a.stdout, "%s in %s\n", summary(done), ui.Duration(time.Since(begin)))
			}
			return endStore(s, done, err)
		},
	}
	cmd.Flags().BoolVarP(&stats, "stats", "s", false, "print what was stored")
	return cmd
}

// store makes an archive, with progress and warnings shown.
func (a *app) store(ctx context.Context, s *session, o backup.Options) (*backup.Stats, error) {
	o.Cmdline = os.Args
	if name, err := os.Hostname(); err == nil {
		o.Hostname = name
	}
	if u, err := user.Current(); err == nil {
		o.Username = u.Username
	}
	if d, err := fsmeta.OpenDir(s.loc.Path); err == nil {
		if info, err := d.Lstat("."); err == nil {
			o.Skip = []fsmeta.FileID{info.FileID}
		}
		d.Release()
	}
	o.Skipped = func(path string) {
		a.ui.Printf("garret: %s: left out, as it is the repository itself", quotePath(path))
	}
	o.Warn = a.warn
	o.Progress = new(backup.Progress)
	stop := a.ui.Progress(o.Progress.Count)
	defer stop()
	return backup.Run(ctx, s.repo, s.cat, o)
}

// endStore closes the session after an archive has been made, or not.
func endStore(s *session, done *backup.Stats, err error) error {
	if err != nil {
		return errors.Join(err, s.repo.Close()) // what the manifest would have been is not to be remembered
	}
	if err := s.Close(); err != nil {
		return err
	}
	if done.Warnings > 0 {
		return errWarnings
	}
	return nil
}

// summary says what was stored.
func summary(s *backup.Stats) string {
	return fmt.Sprintf("%s, %s, %s; %s new in the repository",
		ui.Plural(s.Files, "file"), ui.Plural(s.Dirs, "folder"), ui.Bytes(s.Bytes), ui.Bytes(s.NewBytes))
}
