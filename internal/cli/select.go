package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/fsmeta"
	"garret/internal/pattern"
	"garret/internal/ui"
)

// excludes are the options that leave files out.
type excludes struct {
	patterns []string
	files    []string
	caches   bool
}

func (e *excludes) add(cmd *cobra.Command) {
	e.addPatterns(cmd)
	cmd.Flags().BoolVar(&e.caches, "exclude-caches", false,
		"leave out folders with a CACHEDIR.TAG, which programs put where what is in it can be made again")
}

// addPatterns adds those that decide by the path alone.
func (e *excludes) addPatterns(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&e.patterns, "exclude", "e", nil,
		"leave out what matches this `PATTERN`, see \"garret help patterns\"; may be given several times")
	flags.StringArrayVar(&e.files, "exclude-from", nil,
		"leave out what matches a pattern in this `FILE`, one a line; - is standard input; may be given several times")
}

// set says in s what is to be left out.
func (e *excludes) set(ctx context.Context, a *app, s *backup.Selection) (err error) {
	s.ExcludeCaches = e.caches
	s.Exclude, err = excludeRules(ctx, a.stdin, "--exclude", e.patterns, e.files)
	return err
}

// excludeRules reads the values of an option with patterns, and of the one with files of patterns. Rules are asked in the
// order of the command line, and those in files after the others.
func excludeRules(ctx context.Context, stdin io.Reader, option string, patterns, files []string) (*pattern.Rules, error) {
	rules := new(pattern.Rules)
	for _, p := range patterns {
		if err := rules.Exclude(p, option); err != nil {
			return nil, &usageError{err.Error()}
		}
	}
	for _, name := range files {
		if name == stdinPath {
			if err := rules.ExcludeFrom(interruptible(ctx, stdin), "standard input"); err != nil {
				return nil, err
			}
			continue
		}
		f, err := openFile(ctx, name, os.O_RDONLY)
		if err != nil {
			return nil, fmt.Errorf("--exclude-from: %w", err)
		}
		err = rules.ExcludeFrom(interruptible(ctx, f), name)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// stdinPath is the path that stands for standard input, and defaultStdinName what that is stored as.
const (
	stdinPath        = "-"
	defaultStdinName = "stdin"
)

// createSelection are the options of create that say what goes into an archive.
type createSelection struct {
	excludes
	oneFileSystem bool
	filesFrom     string
	null          bool
	stdinName     string
	fromCommand   bool
	dryRun, list  bool
	mayChange     []string

	program *feeder // whose output is standard input's content; nil: none
}

func (c *createSelection) add(cmd *cobra.Command) {
	c.excludes.add(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&c.oneFileSystem, "do-not-cross-mountpoints", "x", false,
		"leave out what is on another file system than the PATH that it is below")
	flags.StringVar(&c.filesFrom, "files-from", "",
		"store the paths in this `FILE`, one a line, and of folders nothing that is in them; - is standard input")
	flags.BoolVarP(&c.null, "null", "0", false, "in the list of --files-from, each path has a zero byte after it")
	flags.StringVar(&c.stdinName, "stdin-name", defaultStdinName, "the `NAME` that standard input is stored as, if a PATH is -")
	flags.StringArrayVar(&c.mayChange, "may-change", nil,
		"a file that matches this `PATTERN` may change while it is read: no warning; may be given several times")
	flags.BoolVar(&c.fromCommand, "stdin-from-command", false,
		"store what the command after -- writes, as standard input; there is an archive only if it ends well")
	flags.BoolVarP(&c.dryRun, "dry-run", "n", false, "store nothing; with --list, say what would be stored")
	flags.BoolVar(&c.list, "list", false, "print each path after a letter that says what became of it")
}

// split tells the arguments from the command of --stdin-from-command.
func (c *createSelection) split(cmd *cobra.Command, all []string) (args, command []string) {
	if n := cmd.ArgsLenAtDash(); c.fromCommand && n >= 0 {
		return all[:n], all[n:]
	}
	return all, nil
}

// choose says in o what is to be stored: the paths among the arguments, or those of a list.
func (c *createSelection) choose(cmd *cobra.Command, a *app, all []string, o *backup.Options) (err error) {
	args, command := c.split(cmd, all)
	paths := args[1:]
	var stdin io.Reader = a.stdin
	if c.fromCommand {
		if len(command) == 0 {
			return &usageError{"--stdin-from-command: no command is given; " +
				"the usage is: garret create --stdin-from-command REPO::ARCHIVE -- COMMAND [ARGUMENT...]"}
		}
		if c.program, err = a.newFeeder(cmd.Context(), command); err != nil {
			return err
		}
		paths, stdin = append(slices.Clone(paths), stdinPath), c.program
	}
	if err := c.check(cmd, paths); err != nil {
		return err
	}
	if err := c.set(cmd.Context(), a, &o.Selection); err != nil {
		return err
	}
	if o.MayChange, err = excludeRules(cmd.Context(), nil, "--may-change", c.mayChange, nil); err != nil {
		return err
	}
	o.OneFileSystem = c.oneFileSystem
	for _, p := range paths {
		if p == stdinPath {
			o.Stdin, o.StdinName = stdin, c.stdinName
		} else {
			o.Paths = append(o.Paths, p)
		}
	}
	if c.filesFrom != "" {
		list := a.stdin
		if c.filesFrom != stdinPath {
			f, err := openFile(cmd.Context(), c.filesFrom, os.O_RDONLY) // and is open until the program ends: it is read as the files are
			if err != nil {
				return fmt.Errorf("--files-from: %w", err)
			}
			list = f
		}
		o.FilesFrom = backup.Lines(list, c.null)
	}
	if c.list {
		o.List = func(l backup.Listed) { c.print(a, l) }
	}
	return nil
}

// check refuses options that contradict each other.
func (c *createSelection) check(cmd *cobra.Command, paths []string) error {
	given := cmd.Flags().Changed
	list := given("files-from")
	stdin := 0 // how many want standard input
	for _, p := range slices.Concat(paths, c.files, []string{c.filesFrom}) {
		if p == stdinPath {
			stdin++
		}
	}
	switch {
	case list && c.filesFrom == "":
		return &usageError{"--files-from: the name of the list is empty"}
	case !list && len(paths) == 0:
		return &usageError{"nothing to store: no PATH is given, and no --files-from; the usage is: " + cmd.UseLine()}
	case list && len(paths) > 0:
		return &usageError{fmt.Sprintf("%q: with --files-from there can be no other paths; add them to the list", paths[0])}
	case list && (c.caches || c.oneFileSystem):
		return &usageError{"--exclude-caches and --do-not-cross-mountpoints concern what is below a PATH: they have no use " +
			"with --files-from, which stores what is in the list and nothing below"}
	case c.null && !list:
		return &usageError{"--null says how the list of --files-from is written, and there is none"}
	case given("stdin-name") && !slices.Contains(paths, stdinPath):
		return &usageError{"--stdin-name needs the PATH -, which stands for standard input, or --stdin-from-command"}
	case stdin > 1:
		return &usageError{"standard input (-) can be used for one thing only"}
	}
	return nil
}

// listJSON is a line of --list as JSON.
type listJSON struct {
	Status string `json:"status"`
	jsonPath
	Rule   string `json:"rule,omitempty"`
	Origin string `json:"origin,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// print tells what became of an entry.
func (c *createSelection) print(a *app, l backup.Listed) {
	if a.json {
		line := listJSON{Status: string(rune(l.Status)), jsonPath: newJSONPath(l.Path), Reason: l.Reason}
		if l.Rule != nil {
			line.Rule, line.Origin = l.Rule.Pattern.String(), l.Rule.Origin
		}
		a.emit(line)
		return
	}
	why := l.Reason
	if l.Rule != nil {
		why = l.Rule.String()
	}
	if why != "" {
		why = "  (" + why + ")"
	}
	fmt.Fprintf(a.stdout, "%c %s\n", l.Status, a.line(l.Path+why))
}

// tellStored tells the paths of what is stored, for --verbose, unless there is a list already.
func (a *app) tellStored(o *backup.Options) {
	if o.List != nil || !a.verbose {
		return
	}
	o.List = func(l backup.Listed) {
		if l.Status != backup.StatusExcluded && l.Status != backup.StatusError {
			a.say("%s", quotePath(l.Path))
		}
	}
}

// close ends the program, if there is one.
func (c *createSelection) close() {
	if c.program != nil {
		c.program.Close()
	}
}

// leaveOut sees to it that a repository is not backed up into itself, nor what this machine remembers of it.
func (a *app) leaveOut(s *session, o *backup.Options) {
	for _, path := range []string{s.loc.Path, s.known.dir} {
		if d, err := fsmeta.OpenDir(path); err == nil {
			if info, err := d.Lstat("."); err == nil {
				o.Skip = append(o.Skip, info.FileID)
			}
			d.Release()
		}
	}
	o.Skipped = func(path string) {
		if !sameFile(path, s.known.dir) {
			a.ui.Printf("garret: %s: left out, as it is the repository itself", quotePath(path))
		}
	}
	if o.List == nil { // else the list says so
		o.Socket = func(path string) { a.ui.Printf("garret: %s: left out, as it is a socket", quotePath(path)) }
	}
}

// dryRunJSON is what a dry run would store, as JSON.
type dryRunJSON struct {
	Files  int64 `json:"files"`
	Dirs   int64 `json:"folders"`
	Others int64 `json:"others"`
	Bytes  int64 `json:"bytes"`
}

// dryRun says what create would store.
func (a *app) dryRun(ctx context.Context, s *session, o backup.Options, stats bool) error {
	defer s.Close()
	a.leaveOut(s, &o)
	a.tellStored(&o)
	o.Warn = a.warn
	done, err := backup.DryRun(ctx, s.cat, o)
	if err != nil {
		return err
	}
	switch {
	case stats && a.json:
		err = a.emit(dryRunJSON{done.Files, done.Dirs, done.Others, done.Bytes})
	case stats:
		_, err = fmt.Fprintf(a.stdout, "%s, %s, %s would be stored\n",
			ui.Plural(done.Files, "file"), ui.Plural(done.Dirs, "folder"), ui.Bytes(done.Bytes))
	}
	if err != nil {
		return err
	}
	if done.Warnings > 0 {
		return errWarnings
	}
	return nil
}
