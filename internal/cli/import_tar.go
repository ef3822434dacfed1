package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/progress"
	"garret/internal/tarball"
	"garret/internal/ui"
)

func (a *app) importTarCommand() *cobra.Command {
	var stats bool
	var m making
	cmd := &cobra.Command{
		Use:   "import-tar [REPO]::ARCHIVE FILE|-",
		Short: "Make an archive of a tar",
		Long: `Make an archive of a tar in a file, or from standard input for -. It may be packed with gzip, zstd or bzip2, which is
recognised by itself.

Each entry is stored with its content, owner, times, links, extended attributes and ACLs. Paths are made relative:
/etc/hosts becomes etc/hosts, ../photos becomes photos. Where an entry comes twice, the later one replaces the earlier
one when the archive is extracted, as it would with the tar.

In the name of the archive, {now} and the like are replaced, see "garret create --help".

` + makingHelp + `

An entry that cannot be stored is reported and left out, and the exit code is 1. A tar that is damaged or cut off in the
midst of an entry is not stored at all.

With --stats, the sizes of the archive are printed, and those of all archives. With --json, an object with
` + madeJSONHelp,
		Example: `  garret import-tar /backup/photos::old old-backup.tar.gz
  ssh host tar -c /etc | garret import-tar /backup/servers::host -`,
		Args: args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			loc, err := a.newArchive(args[0])
			if err != nil {
				return err
			}
			var o backup.Options
			if err := m.set(&o); err != nil {
				return err
			}
			o.Name = loc.Archive
			in := a.stdin
			if args[1] == "-" {
				if ui.IsTerminal(in) {
					return &usageError{"a tar does not come from a terminal; name a file, or lead one into the input"}
				}
			} else {
				f, err := openFile(cmd.Context(), args[1], os.O_RDONLY)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			s, err := a.open(cmd.Context(), loc, true)
			if err != nil {
				return err
			}
			begin := time.Now()
			done, err := a.importTar(cmd.Context(), s, o, in)
			if err != nil {
				err = fmt.Errorf("import %q: %w", args[1], err)
			} else if stats || a.json {
				err = a.tellMade(cmd.Context(), s, loc.Archive, begin, done)
			}
			return endStore(s, done, err)
		},
	}
	m.flags(cmd)
	cmd.Flags().BoolVarP(&stats, "stats", "s", false, "print what was stored")
	return cmd
}

// importTar makes the archive.
func (a *app) importTar(ctx context.Context, s *session, o backup.Options, in io.Reader) (*backup.Stats, error) {
	o.Warn, o.Progress = a.warn, new(progress.Files)
	sign(&o)
	made := a.watchUses(s, &o)
	w, err := backup.NewWriter(ctx, s.repo, s.cat, o)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	stop := a.ui.Progress(o.Progress.Count)
	defer stop()
	read, err := tarball.Import(interruptible(ctx, in), w, tarball.ImportOptions{
		Warn:   a.warn,
		Stored: func(path string) { a.say("%s", quotePath(path)) },
	})
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	done, err := w.Finish()
	if err != nil {
		return nil, err
	}
	done.Warnings += read.Warnings
	made(done)
	a.heal(ctx, s)
	return done, nil
}
