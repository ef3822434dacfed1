package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"garret/internal/location"
	"garret/internal/mount"
)

// mountJSON is the result of mounting.
type mountJSON struct {
	jsonPath          // the mount point
	Repository string `json:"repository"`
	Archive    string `json:"archive,omitempty"`
}

func (a *app) mountCommand() *cobra.Command {
	var foreground, served bool
	var lists []string
	var c choice
	cmd := &cobra.Command{
		Use:   "mount [REPO][::ARCHIVE] MOUNTPOINT",
		Short: "Show archives as a file system",
		Long: `Show an archive, or all archives of a repository, as a read-only file system at MOUNTPOINT, an empty folder. Of a
repository, each archive is a folder, which is read when it is first entered; in its name, "_" stands for what cannot be
in the name of a file.

` + choiceHelp + `

The command returns when the files are there; a process in the background serves them until "garret umount MOUNTPOINT".
With --foreground it serves them itself, until it is interrupted. Meanwhile the repository can be read by others, and
not be stored into.

A part of a file that is lost is an input/output error for who reads it, and a message: on standard error with
--foreground, else in the file mount.log in the repository's folder in GARRET_CACHE_DIR.

Only who mounts has access, and may read everything. Options for -o, several apart by commas:

` + mount.OptionsHelp + `

With --json an object is printed once the files are there: path (of the mount point; path_base64 too if it is not
UTF-8), repository, and archive if one is mounted.`,
		Example: `  garret mount /backup/photos /mnt/photos
  ls /mnt/photos/2026-11-22/home
  garret umount /mnt/photos`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o mount.Options
			for _, list := range lists {
				if err := o.Parse(list); err != nil {
					return &usageError{err.Error()}
				}
			}
			point, repo := args[len(args)-1], ""
			if len(args) == 2 {
				repo = args[0]
			} else if strings.Contains(point, "::") {
				return &usageError{"no mount point is given; the usage is: " + cmd.UseLine()}
			}
			loc, err := a.anyLocation(repo)
			if err != nil {
				return err
			}
			if err := c.check(loc); err != nil {
				return err
			}
			if !foreground && !served {
				return a.mountInBackground(cmd.Context(), lists, &c, args)
			}
			ready := func(*session, *mount.Mount, mountJSON) error { return nil }
			if served {
				p := newParent()
				defer p.close()
				a.ui, ready = p.ui(a.ui.Watched()), p.ready
			} else if a.json {
				ready = func(_ *session, _ *mount.Mount, result mountJSON) error { return a.emit(result) }
			}
			return a.mount(cmd.Context(), loc, &c, point, o, ready)
		},
	}
	c.flags(cmd.Flags())
	cmd.Flags().BoolVarP(&foreground, "foreground", "f", false, "serve the files until interrupted, instead of in the background")
	cmd.Flags().StringArrayVarP(&lists, "options", "o", nil, "mount options, apart by commas")
	cmd.Flags().BoolVar(&served, servedFlag, false, "serve the files for the process that has started this one")
	cmd.Flags().MarkHidden(servedFlag)
	return cmd
}

// mount serves archives at a folder until somebody unmounts it or the context is done. It calls ready once they are there.
func (a *app) mount(ctx context.Context, loc location.Location, c *choice, point string, o mount.Options,
	ready func(*session, *mount.Mount, mountJSON) error,
) error {
	if err := mount.Check(point, o); err != nil { // before somebody is asked for a passphrase in vain
		return err
	}
	s, err := a.open(ctx, loc, false)
	if err != nil {
		return err
	}
	defer s.Close()
	o.Source = loc.String()
	o.Warn = a.warn
	if o.Archives, err = c.entries(s); err != nil {
		return err
	}
	if o.Single = loc.Archive != ""; o.Single {
		if _, err := s.cat.Archive(ctx, loc.Archive); err != nil {
			return err
		}
	}
	m, err := mount.New(ctx, s.cat, point, o)
	if err != nil {
		return err
	}
	a.say("%s is at %s; end it with: %s", quotePath(loc.String()), quotePath(m.Point()), shellLine(command("umount", m.Point())))
	result := mountJSON{newJSONPath(m.Point()), loc.Repository().String(), loc.Archive}
	if err := ready(s, m, result); err != nil {
		return errors.Join(err, m.Unmount())
	}
	select {
	case <-m.Done():
		return nil
	case <-ctx.Done():
	}
	err = m.Unmount()
	if busy := (*mount.BusyError)(nil); errors.As(err, &busy) {
		a.ui.Printf("garret: %v; nobody else gets in any more, and it is served until that ends, or until the next interrupt", err)
	} else if err != nil {
		a.ui.Printf("garret: %s", oneLine(err))
		return &toldError{exitError}
	}
	m.Wait()
	return nil
}
