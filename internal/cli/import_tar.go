package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/tarball"
	"garret/internal/ui"
)

// imported is the result as JSON.
type imported struct {
	Archive   string  `json:"archive"`
	Files     int64   `json:"files"`
	Folders   int64   `json:"folders"`
	Others    int64   `json:"others"`
	Bytes     int64   `json:"bytes"`
	Chunks    int64   `json:"chunks"`
	NewChunks int64   `json:"new_chunks"`
	NewBytes  int64   `json:"new_bytes"`
	Warnings  int64   `json:"warnings"`
	Seconds   float64 `json:"seconds"`
}

func (a *app) importTarCommand() *cobra.Command {
	var stats bool
	cmd := &cobra.Command{
		Use:   "import-tar [REPO]::ARCHIVE FILE|-",
		Short: "Make an archive of a tar",
		Long: `Make an archive of a tar in a file, or from standard input for -. It may be packed with gzip, zstd or bzip2, which is
recognised by itself.

Each entry is stored with its content, owner, times, links, extended attributes and ACLs. Paths are made relative:
/etc/hosts becomes etc/hosts, ../photos becomes photos. Where an entry comes twice, the later one replaces the earlier
one when the archive is extracted, as it would with the tar.

In the name of the archive, {now} and the like are replaced, see "garret create --help".

An entry that cannot be stored is reported and left out, and the exit code is 1. A tar that is damaged or cut off in the
midst of an entry is not stored at all.

With --json, an object:

  archive          its name
  files, folders   how many files and folders were stored
  others           how many symbolic links, devices and FIFOs
  bytes, chunks    of the content of the files
  new_chunks       how many pieces were not in the repository before, with those that describe the archive
  new_bytes        their size as stored
  warnings         how many there were
  seconds          that it took`,
		Example: `  garret import-tar /backup/photos::old old-backup.tar.gz
  ssh host tar -c /etc | garret import-tar /backup/servers::host -`,
		Args: args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			if loc, err = expandName(loc, placeholders()); err != nil {
				return err
			}
			in := a.stdin
			if args[1] == "-" {
				if ui.IsTerminal(in) {
					return &usageError{"a tar does not come from a terminal; name a file, or lead one into the input"}
				}
			} else {
				f, err := os.Open(args[1])
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
			done, err := a.importTar(cmd.Context(), s, loc.Archive, in)
			if err != nil {
				err = fmt.Errorf("import %q: %w", args[1], err)
			} else {
				err = a.reportImport(loc.Archive, done, time.Since(begin), stats)
			}
			return endStore(s, done, err)
		},
	}
	cmd.Flags().BoolVarP(&stats, "stats", "s", false, "print what was stored")
	return cmd
}

// importTar makes the archive.
func (a *app) importTar(ctx context.Context, s *session, name string, in io.Reader) (*backup.Stats, error) {
	o := backup.Options{Name: name, Cmdline: os.Args, Warn: a.warn, Progress: new(backup.Progress)}
	if host, err := os.Hostname(); err == nil {
		o.Hostname = host
	}
	if u, err := user.Current(); err == nil {
		o.Username = u.Username
	}
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
	return done, nil
}

// interruptible returns what reads from in until the context is done: who writes into a pipe may take forever.
func interruptible(ctx context.Context, in io.Reader) io.Reader {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return in
		}
	}
	r, w := io.Pipe()
	go func() { // which ends with the process if in never does
		_, err := io.CopyBuffer(w, in, make([]byte, 1<<18))
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })
	return r
}

// reportImport prints what was stored.
func (a *app) reportImport(name string, done *backup.Stats, took time.Duration, stats bool) error {
	if a.json {
		return a.emit(imported{
			name, done.Files, done.Dirs, done.Others, done.Bytes, done.Chunks, done.NewChunks, done.NewBytes, done.Warnings,
			took.Seconds(),
		})
	}
	if stats {
		fmt.Fprintf(a.stdout, "%s in %s\n", summary(done), ui.Duration(took))
	}
	return nil
}
