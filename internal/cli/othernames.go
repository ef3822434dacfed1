package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An otherName is what users of another program type without thinking: a flag or a command. It is taken where it means the
// same as one of ours. Where it does not, or there is no such thing, the message says what to do.
type otherName struct {
	programs string // whose it is
	name     string // a flag with its dashes, or a command
	commands string // of a flag: our commands that it is for, with blanks between; empty: all
	ours     string // what it is taken for; empty: it is not taken, see advice
	advice   string
}

// otherNames is the table that doc/other-names.md shows.
var otherNames = []otherName{
	{"restic", "snapshots", "", "list", ""},
	{"restic", "ls", "", "list", ""},
	{"Borg 2", "repo-list", "", "list", ""},
	{"Borg 2", "repo-create", "", "init", ""},
	{"Borg 2", "repo-info", "", "info", ""},
	{"restic", "stats", "", "info", ""},
	{"restic", "restore", "", "", "\"garret extract REPO::ARCHIVE --target FOLDER\" brings files back"},
	{"restic", "dump", "", "", "\"garret extract --stdout REPO::ARCHIVE PATH\" writes a file to standard output"},
	{"restic", "forget", "", "", "\"garret prune\" thins archives out; it groups them only as --group-by says, and frees room by itself"},
	{"restic, Borg", "unlock", "", "", "a lock ends with the process that has it, and none is left behind"},
	{"Borg", "break-lock", "", "", "a lock ends with the process that has it, and none is left behind"},
	{"Borg", "recreate", "", "", "\"garret comment\", \"garret tag\" and \"garret rename\" change what is said of an archive, and nothing what is in it"},
	{"Borg 2", "repo-delete", "", "", "a repository is deleted with its folder"},
	{"restic", "repair", "", "", "\"garret check --repair\" says what is lost and what it would do, and does it"},

	{"Borg, restic", "-x", "create", "--do-not-cross-mountpoints", ""},
	{"Borg, restic", "--one-file-system", "create", "--do-not-cross-mountpoints", ""},
	{"Borg", "--content-from-command", "create", "--stdin-from-command", ""},
	{"restic", "--stdin-filename", "create", "--stdin-name", ""},
	{"restic", "--time", "create", "--timestamp", ""},
	{"Borg", "--numeric-ids", "create extract", "--numeric-owner", ""},
	{"Borg", "--glob-archives", "list info find mount delete prune tag", "--match-archives", ""},
	{"Borg", "--json-lines", "list diff", "--json", ""},
	{"Borg", "--info", "", "--verbose", ""},
	{"restic", "--read-data", "check", "--verify-data", ""},
	{"Borg, restic", "--mountpoint", "umount", "", "the mount point is an argument: garret umount MOUNTPOINT"},

	{"restic, Borg 2", "--repo", "", "", "the repository is an argument, REPO or REPO::ARCHIVE, or in GARRET_REPO"},
	{"restic, Borg 2", "-r", "", "", "the repository is an argument, REPO or REPO::ARCHIVE, or in GARRET_REPO"},
	{"restic", "--password-file", "", "", "the passphrase is in GARRET_PASSPHRASE, or asked for"},
	{"Borg", "--rsh", "", "", "what takes the place of ssh is in GARRET_RSH"},
	{"Borg", "--debug", "", "", "--verbose tells all there is to tell"},
	{"restic", "--quiet", "", "", "nothing is told but what is wrong, and --no-progress hides the progress"},
	{"restic", "-q", "", "", "nothing is told but what is wrong, and --no-progress hides the progress"},
	{"Borg", "-p", "create extract check", "", "--progress shows progress"},
	{"Borg", "--show-rc", "", "", "the shell has the exit code in $?, and \"garret help exit-codes\" says what it means"},
	{"Borg", "--log-json", "", "", "--json prints results, and messages are lines of text"},
	{"Borg", "--compression", "create import-tar", "", "all is compressed as Attic does it, with zlib"},
	{"Borg", "-C", "create import-tar", "", "all is compressed as Attic does it, with zlib"},
	{"Borg", "--chunker-params", "create import-tar", "", "all is cut as Attic does it, so that everything is found again"},
	{"restic", "--exclude-file", "create extract backup", "", "--exclude-from reads patterns from a file; they are not restic's, see \"garret help patterns\""},
	{"restic", "--iexclude", "create backup", "", "--exclude 're:(?i)…' takes no notice of case, see \"garret help patterns\""},
	{"Borg, restic", "--exclude-if-present", "create backup", "", "--exclude-caches leaves out folders with a CACHEDIR.TAG"},
	{"Borg", "--paths-from-stdin", "create", "", "--files-from - stores the paths that standard input lists, and nothing below them"},
	{"restic", "--stdin", "create", "", "the PATH - is standard input"},
	{"restic", "--force", "create", "", "--no-files-cache reads files that look unchanged too"},
	{"restic", "--include", "extract", "", "paths to bring back are arguments: garret extract REPO::ARCHIVE PATH..."},
	{"restic", "--verify", "extract", "", "what is brought back is always verified"},
	{"Borg", "--match-archives", "extract", "", "extract brings back one archive; \"garret mount --match-archives\" shows several as folders"},
	{"Borg", "-a", "extract", "", "extract brings back one archive; \"garret mount -a\" shows several as folders"},
	{"Borg", "-P", "list info find mount delete prune tag", "", "-p is --prefix"},
	{"Borg", "--format", "list diff", "", "--json and --null are for programs"},
	{"Borg", "--sort-by", "list info delete mount", "", "archives come in the order of their times; --first and --last choose the oldest or newest"},
	{"Borg", "--save-space", "delete prune check", "", "deletion needs no room"},
	{"Borg", "--force", "delete", "", "an archive that is damaged is deleted as others are"},
	{"restic", "--prune", "prune delete", "", "room becomes free by itself; \"garret compact\" frees the rest at once"},
	{"Borg", "--keep-secondly", "prune", "", "--keep-last keeps the newest archives"},
	{"Borg, restic", "--allow-other", "mount", "", "only who mounts has access"},
}

// takenFor returns the flag of ours that a flag of a command is taken for, without dashes; nothing if it is not.
func takenFor(command, flag string) string {
	for _, o := range otherNames {
		if o.ours != "" && o.isFlagOf(command) && o.name == "--"+flag {
			return strings.TrimPrefix(o.ours, "--")
		}
	}
	return ""
}

func (o *otherName) isFlag() bool { return strings.HasPrefix(o.name, "-") }

func (o *otherName) isFlagOf(command string) bool {
	return o.isFlag() && (o.commands == "" || slices.Contains(strings.Fields(o.commands), command))
}

// takeOtherNames gives all commands and their flags the names in the table.
func takeOtherNames(root *cobra.Command) {
	for _, o := range otherNames {
		switch {
		case o.isFlag():
		case o.ours == "":
			root.AddCommand(&cobra.Command{
				Use: o.name, Short: "Say what to type in its place", Hidden: true, DisableFlagParsing: true,
				RunE: func(*cobra.Command, []string) error {
					return &usageError{fmt.Sprintf("there is no command %q: %s", o.name, o.advice)}
				},
			})
		default:
			if cmd, _, err := root.Find([]string{o.ours}); err == nil {
				cmd.Aliases = append(cmd.Aliases, o.name)
			}
		}
	}
	for _, cmd := range root.Commands() {
		name := cmd.Name()
		cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, flag string) pflag.NormalizedName {
			if ours := takenFor(name, flag); ours != "" {
				flag = ours
			}
			return pflag.NormalizedName(flag)
		})
	}
}

// otherFlag returns what to do in the place of a flag that is unknown; nothing if it is in no table.
func otherFlag(command string, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	name := "--" + unknown.GetSpecifiedName()
	if unknown.GetSpecifiedShortnames() != "" {
		name = "-" + unknown.GetSpecifiedName()
	}
	for _, o := range otherNames {
		if o.isFlagOf(command) && o.name == name {
			return fmt.Sprintf("there is no %s: %s", name, o.advice)
		}
	}
	return ""
}
