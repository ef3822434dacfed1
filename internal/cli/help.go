package cli

import (
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
		"init", "info", "check", "rename", "delete", "prune", "compact", "change-passphrase", "key",
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
	// These two are cobra's own, and added later.
	root.SetCompletionCommandGroupID(of["completion"])
	root.SetHelpCommandGroupID(of["help"])
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
