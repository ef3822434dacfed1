// Package cli is the command line: one file for each command, their messages and their exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"garret/internal/archive"
	"garret/internal/location"
	"garret/internal/ui"
)

// Main runs the command that the process was started with and returns its exit code. The first interrupt ends the
// command in order, the second at once. So does a terminal that is closed, but as often as it likes: a shell tells of it,
// and the system does so once more.
func Main() int {
	signals := []os.Signal{syscall.SIGTERM}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if !signal.Ignored(s) { // or whoever started us keeps it for itself, as the client of a server or nohup does
			signals = append(signals, s)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, func() {
		signal.Ignore(syscall.SIGHUP)
		stop()
	})
	return Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// Run runs a command and returns its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: &output{Writer: stdout}, ui: ui.New(stdin, stderr)}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && err != nil && !errors.Is(err, context.Canceled) {
		err = context.Canceled
	}
	if a.stdout.err != nil && (err == nil || err == errWarnings) {
		a.ui.Printf("garret: %v; apart from that all is done", a.stdout.err)
		err = errWarnings
	}
	if err == nil && a.damaged.Load() {
		err = errWarnings
	}
	if msg := message(err); msg != "" {
		a.ui.Printf("garret: %s", msg)
	}
	return exitCode(err)
}

// app is what all commands share.
type app struct {
	stdin  io.Reader
	stdout *output
	ui     *ui.UI

	lockWait time.Duration // negative: without limit
	json     bool          // results are JSON, one object or one a line
	remote   string        // what the program is called on another machine; empty: see remotePath
	verbose  bool          // what is done is told, file by file

	damaged atomic.Bool // what was read is of a damaged repository
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "garret",
		Short:   "Deduplicating, encrypted backups",
		Version: ownVersion().String(), // for --version
		Long: `Garret backs files up into a repository in which nothing is stored twice, encrypted if wanted, and brings them back.
It opens the repositories of Attic.

A repository is named by the path of its folder, an archive in it by REPO::ARCHIVE. Where GARRET_REPO names the
repository, REPO may be left out: see "garret help locations".`,
		Example: `  garret backup ~/Pictures                                  nothing to set up before

  garret init -e keyfile /backup/photos                     or with a repository of your choice
  garret create /backup/photos::monday ~/Pictures
  garret list /backup/photos
  garret extract /backup/photos::monday --target /tmp/back`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.SetVersionTemplate("garret {{.Version}}\n")
	a.commonFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if advice := otherFlag(cmd.Name(), err); advice != "" {
			return &usageError{advice}
		}
		return &usageError{fmt.Sprintf("%s; see %s --help", flagMessage(err), cmd.CommandPath())}
	})
	root.AddCommand(
		a.backupCommand(),
		a.initCommand(),
		a.createCommand(),
		a.listCommand(),
		a.extractCommand(),
		a.verifyCommand(),
		a.infoCommand(),
		a.deleteCommand(),
		a.pruneCommand(),
		a.renameCommand(),
		a.commentCommand(),
		a.tagCommand(),
		a.compactCommand(),
		a.rollbackCommand(),
		a.checkCommand(),
		a.diffCommand(),
		a.findCommand(),
		a.exportTarCommand(),
		a.importTarCommand(),
		a.mountCommand(),
		a.umountCommand(),
		a.serveCommand(),
		a.objectCommand(),
		a.versionCommand(),
		a.changePassphraseCommand(),
		a.keyCommand(),
		a.manCommand(),
		locationsTopic(),
		environmentTopic(),
		patternsTopic(),
		exitCodesTopic(),
	)
	group(root)
	takeOtherNames(root)
	a.complete(root)
	return root
}

// commonFlags defines the flags that every command has.
func (a *app) commonFlags(flags *pflag.FlagSet) {
	flags.Var(newSeconds(&a.lockWait, time.Second), "lock-wait", "how long to wait for a repository in use; -1: for ever")
	flags.StringVar(&a.remote, "remote-path", "", "what garret is called on the repository's machine")
	flags.BoolVar(&a.json, "json", false, "print results as JSON: one object, or one line for each item")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "tell what is done, file by file")
	progress := func(set, unset ui.ProgressMode) func(string) error {
		return func(s string) error {
			on, err := strconv.ParseBool(s)
			if err == nil && !on {
				set = unset
			}
			a.ui.SetProgress(set)
			return err
		}
	}
	flags.BoolFunc("progress", "show progress, as lines if not on a terminal",
		progress(ui.ProgressAlways, ui.ProgressNever))
	flags.BoolFunc("no-progress", "show no progress", progress(ui.ProgressNever, ui.ProgressAuto))
}

// flagMessage says what is wrong with an option, without what the standard library says of numbers.
func flagMessage(err error) string {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &invalid) || !errors.As(err, &number) {
		return err.Error()
	}
	flag, fault := invalid.GetFlag(), "is no whole number"
	switch {
	case errors.Is(number, strconv.ErrRange):
		fault = "is too large a number"
	case number.Func == "ParseBool":
		fault = "is neither true nor false"
	}
	return fmt.Sprintf("--%s: %q %s", flag.Name, invalid.GetValue(), fault)
}

// warn tells of something that concerns one file alone.
func (a *app) warn(path string, err error) { a.ui.Printf("garret: %s", aboutFile(path, err)) }

// tellFlaw says of an item that is taken out of an archive what may be wrong with its content.
func (a *app) tellFlaw(it *archive.Item) {
	if f := it.Flaw(); f != "" {
		a.warn(it.Path, errors.New(f.Text()))
	}
}

// say tells what is done, to who asked for it with --verbose.
func (a *app) say(format string, args ...any) {
	if a.verbose {
		a.ui.Printf(format, args...)
	}
}

// line returns a name, a path, or what else an archive says as it is to be printed on a line: with all characters made visible
// that would end the line or control a terminal, whoever reads it. Programs take --json, or --null where it is.
func (a *app) line(s string) string { return ui.Line(s) }

// args returns a check for the number of arguments that names the usage. None may be empty. A negative maximum is none.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || (most >= 0 && len(args) > most) {
			return &usageError{fmt.Sprintf("wrong number of arguments (%d); the usage is: %s", len(args), cmd.UseLine())}
		}
		if slices.Contains(args, "") { // by a variable that is not set, most likely: it must not mean something else
			return &usageError{"an argument is empty; the usage is: " + cmd.UseLine()}
		}
		return nil
	}
}

// repoVar names the environment variable with the repository to take where none is given.
const repoVar = "GARRET_REPO"

// defaultRepo returns the repository to take where none is given, and the variable that names it: repoVar, else the one that
// begins with ATTIC_. It is empty if there is none.
func defaultRepo() (name, repo string) {
	for _, name := range []string{repoVar, "ATTIC_REPO"} {
		if repo := os.Getenv(name); repo != "" {
			return name, repo
		}
	}
	return repoVar, ""
}

// location reads the location of a repository, or of an archive in one, and completes it from the environment.
func (a *app) location(arg string, archive bool) (location.Location, error) {
	l := location.Location{}
	if arg != "" {
		var err error
		if l, err = location.Parse(arg); err != nil {
			return l, &usageError{err.Error()}
		}
	}
	if l.Path == "" {
		name, env := defaultRepo()
		if env == "" {
			return l, &usageError{"no repository is given, and " + repoVar + " is not set"}
		}
		repo, err := location.Parse(env)
		if err != nil {
			return l, &usageError{fmt.Sprintf("%s: %v", name, err)}
		}
		if repo.Archive != "" {
			return l, &usageError{fmt.Sprintf("%s: %q names an archive, where it should name a repository alone", name, env)}
		}
		repo.Archive = l.Archive
		l = repo
	}
	switch {
	case archive && l.Archive == "":
		return l, &usageError{fmt.Sprintf("%q names no archive: it should be %s::ARCHIVE", arg, l)}
	case !archive && l.Archive != "":
		return l, &usageError{fmt.Sprintf("%q names an archive, where only a repository can be: %s", arg, l.Repository())}
	}
	return l.Abs()
}

// optional returns the argument at an index, or nothing.
func optional(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// yes reports whether the environment answers one of Attic's questions with yes, under our name for it or Attic's.
func yes(question string) bool {
	for _, prefix := range []string{"GARRET_", "ATTIC_"} {
		if v, ok := os.LookupEnv(prefix + question); ok {
			switch strings.ToLower(v) {
			case "", "0", "n", "no", "false":
				return false
			}
			return true
		}
	}
	return false
}
