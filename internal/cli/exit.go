package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/retention"
	"garret/internal/rpc"
	"garret/internal/ui"
	"garret/repository"
)

// The exit codes. They are what scripts rely on; exitCodesTopic explains them to people.
const (
	exitOK           = 0
	exitWarning      = 1
	exitError        = 2
	exitNoRepository = 10
	exitLocked       = 11
	exitKey          = 12
	exitInterrupted  = 130
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `The exit codes:

    0  all is done
    1  done, with warnings: some files could not be read or restored, or changed while they were read, a check found
       something, or what was read is what is sound of a damaged repository
    2  an error: not done
   10  the repository does not exist, or is none, or another program's, or was made by a newer garret
   11  the repository is locked by another process
   12  the passphrase is wrong, or the key file is missing
  130  interrupted`,
	}
}

func environmentTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "environment",
		Short: "The environment variables that are heeded",
		Long: `The environment:

  GARRET_REPO            the repository to take where none is given
  GARRET_PASSPHRASE      the passphrase, so that it is not asked for
  GARRET_NEW_PASSPHRASE  the passphrase to change to, for change-passphrase
  GARRET_KEYS_DIR        the folder of the key files; else garret/keys in $XDG_CONFIG_HOME or ~/.config, and ~/.attic/keys
  GARRET_CACHE_DIR       the folder for what this machine remembers of repositories; else garret in the user's folder
                         for caches, such as ~/.cache
  GARRET_RSH             the program that runs a command on another machine, with its arguments, in the place of ssh
  GARRET_REMOTE_PATH     what garret is called on the repository's machine, where it is not in the PATH there
  GARRET_SILENCE         how long the server of a repository on another machine may say nothing before it is given up, in
                         seconds or as in 2m30s; else 2 minutes. Attic's may be silent thirty times as long, and in a
                         check 720 times: a day

Questions are answered with yes by variables that are set to something other than no:

  GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK  store into an unencrypted repository that is new to this machine
  GARRET_RELOCATED_REPO_ACCESS_IS_OK            store into a repository that was elsewhere before
  GARRET_OLDER_REPO_ACCESS_IS_OK                store into a repository that is older than when it was last used
  GARRET_CHECK_I_KNOW_WHAT_I_AM_DOING           repair a repository
  GARRET_ROLLBACK_I_KNOW_WHAT_I_AM_DOING        bring an earlier state of a repository back

Apart from GARRET_NEW_PASSPHRASE, GARRET_RSH, GARRET_REMOTE_PATH and GARRET_SILENCE, each also goes by the name that begins
with ATTIC_.`,
	}
}

// errWarnings ends a command that has done what it could, and has told already what it could not.
var errWarnings = errors.New("done with warnings")

// errTargetFull is matched by an error about a disk that is full and has not to do with the repository.
var errTargetFull = errors.New("the target is full")

type targetFullError struct{ error }

func (e *targetFullError) Unwrap() []error { return []error{errTargetFull, e.error} }

// atTarget returns an error about files that are brought back, marked so that nobody deletes archives for their sake.
func atTarget(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &targetFullError{err}
	}
	return err
}

// usageError is a command line that makes no sense.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

// refusedError is a question whose answer was no, or that nobody could answer.
type refusedError struct{ msg string }

func (e *refusedError) Error() string { return e.msg }

// toldError ends a command with an exit code after all there was to say has been said.
type toldError struct{ code int }

func (e *toldError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// kinds are the errors that have an exit code of their own, or of which there is more to say: what to do now.
var kinds = []struct {
	err    error
	code   int
	advice string
}{
	{errWarnings, exitWarning, ""},
	{context.Canceled, exitInterrupted, ""},
	{repository.ErrNotExist, exitNoRepository, `"garret init" makes one`},
	{repository.ErrForeign, exitNoRepository, ""},
	{repository.ErrInvalid, exitNoRepository, ""},
	{repository.ErrLocked, exitLocked, "try again later, or wait with --lock-wait"},
	{envelope.ErrWrongPassphrase, exitKey, ""},
	{envelope.ErrNoPassphrase, exitKey, "set GARRET_PASSPHRASE, or run it at a terminal"},
	{envelope.ErrNoKeyfile, exitKey, "set GARRET_KEYS_DIR to the folder where it is, or bring it back from its copy"},
	{envelope.ErrKeyfile, exitKey, ""},
	{repository.ErrNewer, exitNoRepository, "take that one; nothing has been changed"},
	{repository.ErrCheckNeeded, exitError, adviceRepair},
	{catalog.ErrNoManifest, exitError, `"garret check" finds out what is damaged`},
	{repository.ErrExists, exitError, "choose another path, or empty that one"},
	{backup.ErrArchiveExists, exitError, "choose another name"},
	{backup.ErrZeroByte, exitError, "if that is where its paths end, use --null"},
	{retention.ErrArchiveExists, exitError, "choose another name"},
	{repository.ErrReadOnly, exitError, ""},
	{rpc.ErrNoServer, exitError, "\"ssh HOST garret version\" shows whether it can be had; --remote-path says what garret is called there"},
	{rpc.ErrConnection, exitError, "what was committed before is kept; \"ssh HOST garret version\" shows whether the server can be had"},
	{repository.ErrAppendOnly, exitError, adviceAppendOnly},
	{repository.ErrNoTransaction, exitError, `"garret info --transactions" lists those there are`},
	{errOutput, exitError, ""},
	{errTargetFull, exitError, "free some space there and do it again"},
	{syscall.ENOSPC, exitError, adviceFull},
	{syscall.EDQUOT, exitError, adviceFull},
	{repository.ErrIntegrity, exitError, `"garret check" finds out what is damaged`},
}

const adviceRepair = `"garret check --repair" mends it`

const adviceAppendOnly = "on its own machine, something can be removed while garret_append_only = 0 stands in its config"

const adviceFull = "free some space and do it again; deleting archives needs none"

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if told := (*toldError)(nil); errors.As(err, &told) {
		return told.code
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return exitError
}

// message returns the line about the error that ended a command: what happened, to what, and what to do now.
func message(err error) string {
	switch {
	case err == nil, err == errWarnings:
		return ""
	case errors.Is(err, context.Canceled):
		var interrupted *backup.InterruptedError
		if errors.As(err, &interrupted) {
			return interrupted.Error()
		}
		return "interrupted"
	case errors.As(err, new(*toldError)):
		return ""
	}
	msg := oneLine(err)
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			if k.advice != "" {
				msg += "; " + k.advice
			}
			break
		}
	}
	return msg
}

// aboutFile returns the line about what went wrong with a file, in which its path stands once.
func aboutFile(path string, err error) string {
	if path == "" { // it is about none
		return oneLine(err)
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) && err == error(pathErr) {
		return fmt.Sprintf("%s: cannot %s: %v", quotePath(pathErr.Path), pathErr.Op, pathErr.Err)
	}
	return quotePath(path) + ": " + oneLine(err)
}

// quotePath shows a path in a message as it is shown in a list.
func quotePath(path string) string {
	if path == "" {
		return `""`
	}
	return ui.Line(path)
}

// oneLine returns the text of an error on one line, with what stood on several apart by semicolons.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.ReplaceAll(strings.Join(lines, "; "), "?; ", "? ")
}
