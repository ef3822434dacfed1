package cli

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/restore"
)

func (a *app) extractCommand() *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "extract [REPO]::ARCHIVE [PATH...]",
		Short: "Bring back the files of an archive",
		Long: `Bring back the files of an archive, into the current folder or the one given with --target, which is made if need
be. With PATHs, bring back only these and what is in them.

Files that are in the way are replaced. A file of which a part is lost is restored under a name that ends in .damaged,
with zeros in place of that part; it is reported, and the exit code is 1.`,
		Example: `  garret extract /backup/photos::monday --target /tmp/back
  garret extract /backup/photos::monday Pictures/2024/cat.jpg`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if target == "" {
				return &usageError{"the target is empty; for the current folder leave it out"}
			}
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			rec, err := s.cat.Archive(cmd.Context(), loc.Archive)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(target, 0o777); err != nil {
				return err
			}
			sel := newSelection(args[1:])
			p := new(restore.Progress)
			stop := a.ui.Progress(p.Count)
			done, err := restore.Run(cmd.Context(), s.cat, rec, restore.Options{
				Target:   target,
				Match:    sel.match(),
				Warn:     a.warn,
				Progress: p,
			})
			stop()
			if err != nil {
				return err
			}
			missing := sel.unmatched()
			for _, path := range missing {
				a.warn(path, errors.New("is not in the archive"))
			}
			if done.Warnings > 0 || len(missing) > 0 {
				return errWarnings
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&target, "target", "t", ".", "the folder to extract into")
	return cmd
}

// A selection is some paths of an archive and what is below them.
type selection struct {
	paths []string
	met   []bool
}

func newSelection(args []string) *selection {
	s := &selection{met: make([]bool, len(args))}
	for _, arg := range args {
		s.paths = append(s.paths, backup.SafePath(arg))
	}
	return s
}

// match returns what decides about a path, nil if all are selected.
func (s *selection) match() func(path string) bool {
	if len(s.paths) == 0 {
		return nil
	}
	return func(path string) bool {
		matched := false
		for i, p := range s.paths {
			if rest, ok := strings.CutPrefix(path, p); p == "." || ok && (rest == "" || rest[0] == '/') {
				s.met[i] = true
				matched = true
			}
		}
		return matched
	}
}

// unmatched returns the paths that nothing has matched.
func (s *selection) unmatched() []string {
	var paths []string
	for i, met := range s.met {
		if !met {
			paths = append(paths, s.paths[i])
		}
	}
	return paths
}
