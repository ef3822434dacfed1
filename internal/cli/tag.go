package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"garret/internal/archive"
)

func (a *app) tagCommand() *cobra.Command {
	var t tagging
	var c choice
	cmd := &cobra.Command{
		Use:   "tag [REPO][::ARCHIVE] [ARCHIVE...]",
		Short: "Give archives tags, or take them away",
		Long: `Give archives tags, or take them away: words by which a person tells archives apart. "garret list" and "garret info" show
them, "garret prune" can keep archives for their sake, with --keep-tag, or group them. What is in the archives, and their
times, stay as they are.

The tag ` + archive.TagProtected + ` protects an archive: it is neither pruned nor deleted until the tag is removed.

Further archives of the same repository are given by their names, or as REPO::ARCHIVE. Either all are changed or none is.

` + choiceHelp + `

With --json, a line for each archive: "name", "id" and "time" (RFC 3339, UTC), "comment" and "tags" if there are any.`,
		Example: `  garret tag --add ` + archive.TagProtected + ` /backup/photos::monday
  garret tag --remove trip --add holiday --match-archives 'trip-*' /backup/photos
  garret tag --set '' /backup/photos::monday`,
		Args: args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			edit, err := t.edit(cmd)
			if err != nil {
				return err
			}
			loc, archives, err := a.someArchives(cmd, args, &c)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, true)
			if err != nil {
				return err
			}
			defer s.Close()
			if c.given() {
				chosen, err := c.some(s)
				if err != nil {
					return err
				}
				archives = names(chosen)
			}
			return a.remark(cmd.Context(), s, archives, edit)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&t.add, "add", nil, "add this `TAG`; may be given several times")
	flags.StringArrayVar(&t.remove, "remove", nil, "remove this `TAG`; may be given several times")
	flags.StringArrayVar(&t.set, "set", nil, "this `TAG` in place of those there are; may be given several times; '' alone: none")
	c.flags(flags)
	return cmd
}

// tagging says how to change tags.
type tagging struct{ add, remove, set []string }

// edit returns what changes them in a record.
func (t *tagging) edit(cmd *cobra.Command) (func(*archive.Archive), error) {
	replace := cmd.Flags().Changed("set")
	switch {
	case !replace && len(t.add)+len(t.remove) == 0:
		return nil, &usageError{"nothing is to be changed: give --add, --remove or --set"}
	case replace && len(t.add)+len(t.remove) > 0:
		return nil, &usageError{"--set says all tags there will be; it does not go with --add or --remove"}
	}
	if len(t.set) == 1 && t.set[0] == "" {
		t.set = nil
	}
	added, err := checkTags(slices.Concat(t.add, t.set))
	if err != nil {
		return nil, err
	}
	return func(rec *archive.Archive) {
		tags := slices.DeleteFunc(slices.Clone(rec.Tags), func(tag string) bool {
			return replace || slices.Contains(t.remove, tag)
		})
		tags = append(tags, added...)
		slices.Sort(tags)
		rec.Tags = slices.Compact(tags)
	}, nil
}
