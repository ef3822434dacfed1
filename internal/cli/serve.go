package cli

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"garret/internal/rpc"
	"garret/repository"
)

func (a *app) serveCommand() *cobra.Command {
	var o rpc.ServerOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Give clients on other machines access to the repositories of this one",
		Long: `Answer the requests of a client on standard input, until it ends. It is what a client starts over ssh where a repository
is on another machine, and speaks what Attic's clients speak too.

A key in ~/.ssh/authorized_keys can be held to it:

  command="garret serve --restrict-to-path /backup/ann --append-only",restrict ssh-ed25519 AAAA... ann

With --append-only nothing that was ever committed is lost, whatever the client does: objects can be added and not be
removed or replaced, save for the manifest, which says what archives there are; what it said before stays in the log.
"garret info --transactions" and "garret rollback", on this machine, bring it back.`,
		Example: `  garret serve --restrict-to-path /backup/ann --restrict-to-path /backup/shared
  garret serve --append-only`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.MaxObjectSize < 0 || o.MaxObjectSize > repository.MaxObjectSize {
				return &usageError{"--max-object-size must be between 0 and 20 MiB, in bytes"}
			}
			o.LockWait = a.lockWait
			o.Warn = func(err error) { a.ui.Printf("garret: %s", oneLine(err)) }
			signal.Ignore(syscall.SIGPIPE) // a client that is gone must not keep us from ending in order
			return rpc.Serve(cmd.Context(), a.stdin, a.stdout.Writer, o)
		},
	}
	cmd.Flags().StringArrayVar(&o.RestrictTo, "restrict-to-path", nil,
		"let only repositories in or below `FOLDER` be used; may be given several times")
	cmd.Flags().BoolVar(&o.AppendOnly, "append-only", false, "let nothing be removed")
	cmd.Flags().BoolVar(&o.ReadOnly, "read-only", false, "let nothing be changed")
	cmd.Flags().IntVar(&o.MaxObjectSize, "max-object-size", 0, "let no object be larger than `BYTES`; 0: than 20 MiB")
	return cmd
}
