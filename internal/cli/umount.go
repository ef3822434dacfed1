package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"garret/internal/mount"
)

func (a *app) umountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "End what mount has begun",
		Long: `End what "garret mount" has begun at MOUNTPOINT. The process that serves it ends then, and the repository can be stored
into again. What is in use stays mounted, and the exit code is 2.

With --json an object is printed: path (of the mount point; path_base64 too if it is not UTF-8).`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := mount.Unmount(args[0])
			if busy := (*mount.BusyError)(nil); errors.As(err, &busy) {
				return fmt.Errorf("%w; close it and do it again", err)
			}
			if err != nil {
				return err
			}
			a.say("%s is unmounted", args[0])
			if a.json {
				return a.emit(newJSONPath(args[0]))
			}
			return nil
		},
	}
}
