package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"garret/internal/location"
	"garret/internal/progress"
	"garret/internal/tarball"
)

// exportTar are the options of the command.
type exportTar struct {
	compress string
	force    bool
	strip    int
	patterns []string
	files    []string
}

// exported is the result as JSON.
type exported struct {
	Archive  string   `json:"archive"`
	File     jsonPath `json:"file"`
	Files    int64    `json:"files"`
	Folders  int64    `json:"folders"`
	Others   int64    `json:"others"`
	Bytes    int64    `json:"bytes"`
	Warnings int64    `json:"warnings"`
}

func (a *app) exportTarCommand() *cobra.Command {
	var o exportTar
	cmd := &cobra.Command{
		Use:   "export-tar [REPO]::ARCHIVE FILE|- [PATH...]",
		Short: "Write an archive as a tar",
		Long: `Write an archive as a tar into a file, or to standard output for -. With PATHs, only these and what is in them; without
what --exclude matches, see "garret help patterns".

The tar has all that the archive has, file flags apart: owners, times to the nanosecond, hard links, devices, extended
attributes and ACLs, in the format PAX, which every tar of today reads. GNU tar restores all of it with
"tar --xattrs --xattrs-include='*' --acls -xpf FILE".

It is packed with gzip or zstd if the name ends in .tar.gz, .tgz, .tar.zst or .tzst, or with what --compress says.

The file can be read by its owner alone. One that is there is replaced only with --force, once the tar is complete. Of
a damaged file the tar has what is left, with zeros in place of the rest, under a name that ends in .damaged; it is
reported, and the exit code is 1.

With --json, an object:

  archive          its name
  file             an object with the path of the tar
  files, folders   how many files and folders are in it
  others           how many symbolic links, devices and FIFOs
  bytes            of the content of the files
  warnings         how many there were`,
		Example: `  garret export-tar /backup/photos::monday monday.tar.zst
  garret export-tar /backup/photos::monday - Pictures | ssh host tar -x`,
		Args: args(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			rules, err := excludeRules(cmd.Context(), a.stdin, "--exclude", o.patterns, o.files)
			if err != nil {
				return err
			}
			sel := newSelection(args[2:])
			match := sel.match()
			if rules.Len() > 0 {
				match = newExclusion(rules, match).match
			}
			return a.exportTar(cmd.Context(), loc, args[1], sel, match, o)
		},
	}
	cmd.Flags().StringVar(&o.compress, "compress", "", "how to pack the tar: none, gzip or zstd (default: as its name says)")
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "replace the file if it is there")
	cmd.Flags().IntVar(&o.strip, "strip-components", 0,
		"cut off this many names at the beginning of each path; what has no more is left out")
	cmd.Flags().StringArrayVarP(&o.patterns, "exclude", "e", nil,
		`leave out what matches this pattern, see "garret help patterns"; may be given several times`)
	cmd.Flags().StringArrayVar(&o.files, "exclude-from", nil,
		"leave out what matches a pattern in this file, one a line; - is standard input; may be given several times")
	return cmd
}

// compression returns how to pack a file.
func (o exportTar) compression(file string) (tarball.Compression, error) {
	var c tarball.Compression
	var err error
	if o.compress != "" {
		c, err = tarball.ParseCompression(o.compress)
	} else {
		c, err = tarball.CompressionFor(file)
	}
	if err != nil {
		return c, &usageError{err.Error() + "; see --compress"}
	}
	return c, nil
}

func (a *app) exportTar(
	ctx context.Context, loc location.Location, file string, sel *selection, match func(path string) bool, o exportTar,
) error {
	compression, err := o.compression(file)
	if err != nil {
		return err
	}
	switch {
	case o.strip < 0:
		return &usageError{"--strip-components must not be negative"}
	case file == "-" && a.json:
		return &usageError{"--json and - both want the standard output; name a file"}
	case file == "-" && a.stdout.isTerminal():
		return &usageError{"a tar is nothing for a terminal; name a file, or lead the output into one"}
	}
	s, err := a.open(ctx, loc, false)
	if err != nil {
		return err
	}
	defer s.Close()
	rec, err := s.cat.Archive(ctx, loc.Archive)
	if err != nil {
		return err
	}
	opts := tarball.ExportOptions{
		Match:           match,
		StripComponents: o.strip,
		Warn:            a.warn,
		Begin:           a.tellFlaw,
		Stored:          func(path string) { a.say("%s", quotePath(path)) },
		Progress:        new(progress.Files),
	}
	write := func(w io.Writer) (*tarball.Stats, error) {
		stop := a.ui.Progress(opts.Progress.Count)
		defer stop()
		return writePacked(w, compression, func(w io.Writer) (*tarball.Stats, error) {
			return tarball.Export(ctx, s.repo, s.cat, rec, w, opts)
		})
	}
	var done *tarball.Stats
	if file == "-" {
		done, err = write(a.stdout)
	} else {
		err = writeOutput(ctx, file, o.force, func(w io.Writer) error {
			done, err = write(w)
			return err
		})
	}
	if err != nil {
		return atTarget(fmt.Errorf("export archive %q: %w", loc.Archive, err))
	}
	missing := sel.unmatched()
	for _, path := range missing {
		a.warn(path, errors.New("is not in the archive"))
	}
	done.Warnings += int64(len(missing))
	if a.json {
		err = a.emit(exported{
			loc.Archive, newJSONPath(file), done.Files, done.Dirs, done.Others, done.Bytes, done.Warnings,
		})
	}
	if err == nil && done.Warnings > 0 {
		err = errWarnings
	}
	return err
}

// writePacked writes a tar, packed.
func writePacked(w io.Writer, c tarball.Compression, write func(io.Writer) (*tarball.Stats, error)) (*tarball.Stats, error) {
	buf := bufio.NewWriterSize(w, 1<<18)
	packed, err := c.Writer(buf)
	if err != nil {
		return nil, err
	}
	done, err := write(packed)
	if closeErr := packed.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = buf.Flush()
	}
	return done, err
}
