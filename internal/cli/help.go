package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// groups are the headings under which the help lists the commands.
var groups = []struct {
	id, title string
	commands  []string
}{
	{"backup", "Back up and bring back:", []string{
		"backup", "create", "list", "extract", "diff", "find", "mount", "umount", "export-tar", "import-tar",
	}},
	{"repository", "Look after a repository:", []string{
		"init", "info", "check", "rename", "comment", "tag", "delete", "prune", "compact", "rollback", "change-passphrase", "key",
	}},
	{"other", "Other commands:", []string{"object", "serve", "completion", "help", "version"}},
}

// group puts the commands of the root under the headings.
func group(root *cobra.Command) {
	of := map[string]string{}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, name := range g.commands {
			of[name] = g.id
		}
	}
	for _, cmd := range root.Commands() {
		cmd.GroupID = of[cmd.Name()]
	}
	// cobra adds these two later.
	root.SetHelpCommand(helpCommand())
	root.SetHelpCommandGroupID(of["help"])
	root.SetCompletionCommandGroupID(of["completion"])
}

// helpCommand is cobra's own, but for what it knows nothing about, which is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND or TOPIC]",
		Short: "Help about a command or a topic",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &usageError{fmt.Sprintf(`there is no help about %q; "garret help" lists what there is`, strings.Join(args, " "))}
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if found, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range found.Commands() {
					if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
						names = append(names, sub.Name()+"\t"+sub.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func locationsTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "locations",
		Short: "How to name a repository, and an archive in it",
		Long: `A repository is named by where it is, in one of these ways:

  PATH                            a folder of this machine
  file:///PATH                    the same
  [USER@]HOST:PATH                a folder of another machine, reached by ssh
  ssh://[USER@]HOST[:PORT]/PATH   the same, with a port

PATH may begin with / or be relative: to the current folder or, on another machine, to the home folder there. A path of
this machine with a colon in it needs a slash before that: ./a:b.

An archive is named by its repository, two colons and its own name: /backup/photos::monday.

Where GARRET_REPO names the repository, it may be left out, and the archive is ::monday:

  export GARRET_REPO=/backup/photos
  garret create ::monday ~/Pictures
  garret list
  garret list ::monday`,
	}
}
