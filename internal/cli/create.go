package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/cache"
	"garret/internal/fsmeta"
	"garret/internal/progress"
	"garret/internal/ui"
)

func (a *app) createCommand() *cobra.Command {
	var stats bool
	var o createOptions
	var m making
	var sel createSelection
	cmd := &cobra.Command{
		Use:   "create [REPO]::ARCHIVE PATH...",
		Short: "Make an archive of files and folders",
		Long: `Make an archive of files and folders. Each is stored under its path as it is given, made relative: /etc/hosts as
etc/hosts, ../photos as photos. A symbolic link is stored as a link; with a slash after it, it is the folder behind it.

What cannot be read is reported and left out, and the exit code is 1. What is below a PATH can be left out with patterns,
see "garret help patterns"; a PATH that is below another one is stored even if the way to it is left out.

The PATH - is standard input, which becomes a file with the name of --stdin-name. If it cannot be read to its end, nothing
is stored. But of a program that fails, a shell tells nothing unless it is told to: "set -o pipefail". Better, have it run by
garret: with --stdin-from-command, what follows -- is a program with its arguments, whose output is stored as standard
input would be. There is an archive only if it ends with exit code 0. It is told to end when the backup is interrupted.

The paths in the list of --files-from are stored as they are there: nothing in them is special, and a folder is stored
without what is in it, so that what "find" has found can be stored and nothing else. Patterns of --exclude leave out
paths of the list. A carriage return at the end of a line is not part of the path; names that have one, or a line feed,
need --null.

In the name of the archive these are replaced: {hostname}, {user}, {pid}, {now} and {utcnow}, which is the time as
2006-01-02T15:04:05, and {now:FORMAT} and {utcnow:FORMAT} with a format of strftime. {{ and }} stand for braces.

` + makingHelp + `

With --list, each path follows a letter: A a new file, M one that has changed, U one that has not, + one that would be
stored, i standard input, d a folder, s a symbolic link, h a further name of a file, f a FIFO, c and b devices; E what
could not be stored; x what was left out, with the pattern that says so and where it stands. With --json it is a line
with "status", "path", "path_base64" if the path is not UTF-8, and for x "rule" and "origin", or "reason". With --stats
and --json, a dry run ends with a line with "files", "folders", "others" and "bytes".

With --stats, the sizes of the archive are printed, and those of all archives: of all that they use, of that as it is
stored, and of what this archive has added. With --json, this is a line with
` + madeJSONHelp + `

A file that has not changed since a former backup by this machine is not read again. What is stored is committed every
few minutes, and when the backup is interrupted, as an archive whose name ends in .checkpoint; the next backup goes on
from there.`,
		Example: `  garret create /backup/photos::monday ~/Pictures
  garret create --stats '/backup/home::{hostname}-{now:%F}' ~ -e '*/.cache/'
  garret create --dry-run --list /backup/home::test ~ -e '*/.cache/'
  find . -name '*.go' | garret create --files-from - ::code
  garret create --stdin-from-command --stdin-name shop.sql '::shop-{now}' -- pg_dump shop`,
		Args: func(cmd *cobra.Command, all []string) error {
			given, _ := sel.split(cmd, all)
			return args(1, -1)(cmd, given)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			defer sel.close()
			if o.Checkpoint < 0 {
				return &usageError{"--checkpoint-interval cannot be negative; 0 is never"}
			}
			loc, err := a.newArchive(args[0])
			if err != nil {
				return err
			}
			if err := m.set(&o.Options); err != nil {
				return err
			}
			if err := sel.choose(cmd, a, args, &o.Options); err != nil {
				return err
			}
			s, err := a.openToWrite(cmd.Context(), loc, sel.dryRun)
			if err != nil {
				return err
			}
			o.Name = loc.Archive
			if sel.dryRun {
				return a.dryRun(cmd.Context(), s, o.Options, stats)
			}
			begin := time.Now()
			done, err := a.store(cmd.Context(), s, o)
			if err == nil && (stats || a.json) {
				err = a.tellMade(cmd.Context(), s, o.Name, begin, done)
			}
			return endStore(s, done, err)
		},
	}
	sel.add(cmd)
	m.flags(cmd)
	cmd.Flags().BoolVarP(&stats, "stats", "s", false, "print what was stored")
	cmd.Flags().VarP(newSeconds(&o.Checkpoint, checkpointInterval), "checkpoint-interval", "c",
		"commit what is stored so far this often; 0: never")
	cmd.Flags().BoolVar(&o.NumericOwner, "numeric-owner", false, "store users and groups by number alone")
	cmd.Flags().BoolVar(&o.readAll, "no-files-cache", false, "read files that look unchanged too")
	return cmd
}

// checkpointInterval is how often what is stored is committed if nothing else is said.
const checkpointInterval = 5 * time.Minute

// createOptions say how to make an archive.
type createOptions struct {
	backup.Options
	readAll bool // files that look unchanged too
}

// store makes an archive, with progress and warnings shown.
func (a *app) store(ctx context.Context, s *session, o createOptions) (*backup.Stats, error) {
	sign(&o.Options)
	a.leaveOut(s, &o.Options)
	a.tellStored(&o.Options)
	o.Warn = a.warn
	files, err := s.known.files()
	if err != nil {
		a.ui.Printf("garret: %s", oneLine(err))
	}
	o.Known = files
	if o.readAll {
		o.Known = unseen{files}
	}
	made := a.watchUses(s, &o.Options)
	o.Checkpointed = func(name string) {
		a.say("What is stored so far is archive %q.", name)
		a.saveFiles(files)
	}
	o.Progress = new(progress.Files)
	if o.List == nil || !a.stdout.isTerminal() { // else two would write to the terminal
		stop := a.ui.Progress(o.Progress.Count)
		defer stop()
	}
	done, err := backup.Run(ctx, s.repo, s.cat, o.Options)
	if err == nil {
		made(done)
		a.saveFiles(files)
		a.tellCheckpoints(s, o.Name)
		a.heal(ctx, s)
	}
	return done, err
}

// tellCheckpoints tells of the checkpoints that former attempts at an archive have left.
func (a *app) tellCheckpoints(s *session, name string) {
	for _, e := range s.cat.Archives() {
		if strings.HasPrefix(e.Name, name+backup.CheckpointSuffix) {
			loc := s.loc
			loc.Archive = e.Name
			a.ui.Printf("An unfinished backup has left a checkpoint, which can go: %s", shellLine(a.commandAbout(loc, "delete")))
		}
	}
}

// saveFiles keeps what is known of files, which is worth no more than a message.
func (a *app) saveFiles(files *cache.Files) {
	if err := files.Save(); err != nil {
		a.ui.Printf("garret: %s", oneLine(err))
	}
}

// unseen is a cache that takes every file for new.
type unseen struct{ *cache.Files }

func (unseen) Lookup(string, *fsmeta.Info, *archive.Item) (known, unchanged bool) {
	return false, false
}

// endStore closes the session after an archive has been made, or not.
func endStore(s *session, done *backup.Stats, err error) error {
	var interrupted *backup.InterruptedError
	if errors.As(err, &interrupted) && interrupted.Archive != "" {
		return errors.Join(err, s.Close())
	}
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
