package cli

import (
	"bufio"
	"cmp"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/progress"
	"garret/internal/restore"
)

// extraction are the options of extract.
type extraction struct {
	restore.Options
	excludes
	stdout bool
}

func (a *app) extractCommand() *cobra.Command {
	var x extraction
	cmd := &cobra.Command{
		Use:   "extract [REPO]::ARCHIVE [PATH...]",
		Short: "Bring back the files of an archive",
		Long: `Bring back the files of an archive, into the current folder or the one given with --target, which is made if need
be. With PATHs, bring back only these and what is in them; without what --exclude matches, see "garret help patterns".

Files that are in the way are replaced. A file of which a part is lost is restored under a name that ends in .damaged,
with zeros in place of that part; it is reported, and the exit code is 1.

Of a file that changed while it was read, so that its content may be a mixture, or that may not be whole, a message says
so; it is restored as it is in the archive, and that has no effect on the exit code.

Owners, attributes and flags that only root can give to files are left out for others without a word. What else cannot
be restored of a file, as its access control list on a file system that has none, is reported, and the exit code is 1.

With --dry-run everything is read and verified, and nothing is written. With --stdout the content of the files goes to
standard output, one after another in the order of the archive, and nothing else is written; a file with several names
comes once.

With --json an object says what was done: "files" (with further names), "folders", "others", "bytes" of content,
"warnings". With --verbose too there is a line before for each item: its "path", "path_base64" if that is not UTF-8, its
"type" (file, dir, symlink, hardlink, fifo, char, block), the "size" of its content in bytes, and "flaw" as "garret list"
has it.`,
		Example: `  garret extract /backup/photos::monday --target /tmp/back
  garret extract /backup/photos::monday Pictures/2024/cat.jpg
  garret extract --stdout /backup/mail::monday mail/inbox | less`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.extract(cmd, args, &x) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&x.Target, "target", "t", ".", "the `FOLDER` to extract into")
	flags.BoolVarP(&x.DryRun, "dry-run", "n", false, "read and verify everything, and write nothing; with --verbose, list it")
	x.addPatterns(cmd)
	flags.BoolVar(&x.NumericOwner, "numeric-owner", false, "give files to the numbers of users and groups, whatever their names")
	flags.IntVar(&x.Strip, "strip-components", 0,
		"cut off this `NUMBER` of names at the beginning of each path; what has no more is left out")
	flags.BoolVar(&x.stdout, "stdout", false, "write the content of files to standard output")
	flags.BoolVar(&x.Sparse, "sparse", false, "make holes of what is all zeros, 4 KiB at a time")
	return cmd
}

// verifyCommand is extract --dry-run as very old scripts call it.
func (a *app) verifyCommand() *cobra.Command {
	cmd := a.extractCommand()
	cmd.Use = "verify [REPO]::ARCHIVE [PATH...]"
	cmd.Short = `An old name of "extract --dry-run"`
	cmd.Hidden = true
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		a.ui.Printf(`Warning: "garret verify" has been deprecated. Use "garret extract --dry-run" instead.`)
		return cmd.Flags().Set("dry-run", "true")
	}
	return cmd
}

func (x *extraction) check(cmd *cobra.Command, a *app) error {
	given := cmd.Flags().Changed
	switch {
	case x.Target == "":
		return &usageError{"the target is empty; for the current folder leave it out"}
	case x.Strip < 0:
		return &usageError{"--strip-components: the number cannot be negative"}
	case x.stdout && (x.DryRun || x.Sparse || given("target") || given("strip-components")):
		return &usageError{"--stdout makes no files: it does not go with --dry-run, --sparse, --strip-components or --target"}
	case x.stdout && a.json:
		return &usageError{"--stdout and --json cannot both have standard output"}
	}
	return nil
}

func (a *app) extract(cmd *cobra.Command, args []string, x *extraction) (err error) {
	if err := x.check(cmd, a); err != nil {
		return err
	}
	rules, err := excludeRules(cmd.Context(), a.stdin, "--exclude", x.patterns, x.files)
	if err != nil {
		return err
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
	if !x.DryRun && !x.stdout {
		if err := os.MkdirAll(x.Target, 0o777); err != nil {
			return err
		}
	}
	out := bufio.NewWriter(a.stdout)
	defer func() { err = cmp.Or(err, atTarget(out.Flush())) }()
	if x.stdout {
		x.Content = out
	}
	sel := newSelection(args[1:])
	x.Match = sel.match()
	if rules.Len() > 0 {
		x.Match = newExclusion(rules, x.Match).match
	}
	enc := newEncoder(out)
	x.Begin = func(it *archive.Item) {
		a.tellFlaw(it)
		switch {
		case a.verbose && a.json:
			_ = enc.Encode(extractedJSON{newJSONPath(it.Path), kindOf(it).name, sizeOf(it), it.Flaw()}) // out keeps the error
		case a.verbose:
			a.say("%s", quotePath(it.Path))
		}
	}
	x.Warn = a.warn
	x.Progress = new(progress.Files)
	stop := a.ui.Progress(x.Progress.Count)
	done, err := restore.Run(cmd.Context(), s.cat, rec, x.Options)
	stop()
	if err != nil {
		return atTarget(err)
	}
	missing := sel.unmatched()
	for _, path := range missing {
		a.warn(path, errors.New("is not in the archive"))
	}
	done.Warnings += int64(len(missing))
	if a.json {
		if err := enc.Encode(newExtractJSON(done)); err != nil {
			return err
		}
	}
	if done.Warnings > 0 {
		return errWarnings
	}
	return nil
}

// extractedJSON is an item as extract --json --verbose tells of it.
type extractedJSON struct {
	jsonPath
	Type string       `json:"type"`
	Size int64        `json:"size"`
	Flaw archive.Flaw `json:"flaw,omitempty"`
}

// extractJSON is what extract --json says in the end.
type extractJSON struct {
	Files    int64 `json:"files"`
	Folders  int64 `json:"folders"`
	Others   int64 `json:"others"`
	Bytes    int64 `json:"bytes"`
	Warnings int64 `json:"warnings"`
}

func newExtractJSON(s *restore.Stats) extractJSON {
	return extractJSON{Files: s.Files, Folders: s.Dirs, Others: s.Others, Bytes: s.Bytes, Warnings: s.Warnings}
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
