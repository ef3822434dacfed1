package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/diff"
	"garret/internal/fsmeta"
	"garret/internal/location"
	"garret/internal/ui"
)

func (a *app) diffCommand() *cobra.Command {
	var mtime, contentOnly bool
	cmd := &cobra.Command{
		Use:   "diff [REPO]::ARCHIVE OTHER [PATH...]",
		Short: "List what differs from an archive to another one",
		Long: `List what differs from an archive to another one of the same repository: what was added, removed and changed. OTHER is
the name of the other archive, or REPO::OTHER. With PATHs, list only these and what is in them.

Of a changed file it tells how many bytes were added and removed, as far as the pieces tell in which files are stored, and
what became of type, permissions, owner, link target, device number, extended attributes, ACLs and file flags, and of the
flaw of a file that changed while it was read: its content may be a mixture, so that what differs may be none. Times are
compared only with --mtime: each folder in which something was made has a new one. A hard link counts with the content
that it stands for.

The exit code is 0 whether or not there are differences, and 1 if some files could not be compared.

With --json, a line for each difference:

  change           added, removed or changed
  path             the path in the archives
  type             file, dir, symlink, fifo, char or block: what is there now, or what was removed
  size             of a file that was added or removed, in bytes
  flaw             an object with "old" and "new" where the file changed while it was read ("changed"), may not be whole
                   ("short") or has another mark ("unknown"); null where it has none

and of what is changed, a field for each difference:

  content          an object with the bytes "added" and "removed"
  type_change, mode, owner, target, device, mtime, acl_access, acl_default, flags
                   objects with "old" and "new"
  xattrs           names of the extended attributes that were added, removed or changed

A path or a target that is not UTF-8 is approximated, and there in full in base64 as path_base64.`,
		Example: `  garret diff /backup/photos::monday tuesday
  garret diff --json /backup/photos::monday tuesday Pictures | jq -r 'select(.change == "removed").path'`,
		Args: args(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(args[0], true)
			if err != nil {
				return err
			}
			other, err := a.otherArchive(loc, args[1])
			if err != nil {
				return err
			}
			o := diff.Options{MTime: mtime}
			return a.diff(cmd.Context(), loc, other, newSelection(args[2:]), o, contentOnly)
		},
	}
	cmd.ValidArgsFunction = a.completeDiff
	cmd.Flags().BoolVar(&mtime, "mtime", false, "compare times of modification too")
	cmd.Flags().BoolVar(&contentOnly, "content-only", false, "list only what was added or removed or has another content")
	return cmd
}

// completeDiff completes the names of both archives.
func (a *app) completeDiff(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	repo, _, named := strings.Cut(optional(args, 0), "::")
	if len(args) != 1 || !named {
		return a.completeArchives(cmd, args, toComplete)
	}
	names := slices.DeleteFunc(a.archiveNames(cmd.Context(), repo), func(name string) bool {
		return !strings.HasPrefix(name, toComplete) || ui.Line(name) != name
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// otherArchive reads the name of a second archive of the same repository.
func (a *app) otherArchive(loc location.Location, arg string) (string, error) {
	if !strings.Contains(arg, "::") {
		return arg, nil
	}
	other, err := a.location(arg, true)
	if err != nil {
		return "", err
	}
	if other.Repository() != loc.Repository() {
		return "", &usageError{fmt.Sprintf("%q is in another repository than %q; two archives of one repository can be compared",
			other, loc)}
	}
	return other.Archive, nil
}

func (a *app) diff(ctx context.Context, loc location.Location, other string, sel *selection, o diff.Options, contentOnly bool) (err error) {
	s, err := a.open(ctx, loc, false)
	if err != nil {
		return err
	}
	defer s.Close()
	var recs [2]*archive.Archive
	for i, name := range []string{loc.Archive, other} {
		if recs[i], err = s.cat.Archive(ctx, name); err != nil {
			return err
		}
	}
	warned := false
	o.Match = sel.match()
	o.Warn = func(err error) {
		warned = true
		a.warn("", fmt.Errorf("some files are lost, and look as if they were not there: %w", err))
	}
	changes, err := diff.Archives(ctx, s.cat, recs[0], recs[1], o)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.stdout)
	defer func() { err = cmp.Or(err, out.Flush()) }()
	enc := newEncoder(out)
	for _, c := range changes {
		if contentOnly && c.Kind == diff.Changed && !c.Content && !c.Attrs.Type && !c.Attrs.Target {
			continue
		}
		if a.json {
			if err := enc.Encode(newChangeJSON(c)); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "%-8s %-30s %s\n", c.Kind, a.line(changeText(c)), a.line(c.Path))
	}
	for _, path := range sel.unmatched() {
		warned = true
		a.warn(path, errors.New("is in neither archive"))
	}
	if warned {
		return errWarnings
	}
	return nil
}

// itemType is the type of an item, where a hard link counts as the file that it is.
func itemType(it *archive.Item) string { return kindOf(&archive.Item{Mode: it.Mode}).name }

// changeText says what has changed, apart from the path.
func changeText(c *diff.Change) string {
	switch {
	case c.Kind == diff.Added && c.New.Mode&fsmeta.TypeMask == fsmeta.TypeRegular:
		return ui.Bytes(c.BytesAdded) + flawNote(c.New.Flaw())
	case c.Kind == diff.Added:
		return itemType(c.New)
	case c.Kind == diff.Removed && c.Old.Mode&fsmeta.TypeMask == fsmeta.TypeRegular:
		return ui.Bytes(c.BytesRemoved) + flawNote(c.Old.Flaw())
	case c.Kind == diff.Removed:
		return itemType(c.Old)
	}
	var parts []string
	if c.Content {
		parts = append(parts, fmt.Sprintf("+%s -%s", ui.Bytes(c.BytesAdded), ui.Bytes(c.BytesRemoved)))
		if !c.Attrs.Flaw && c.New.Flaw() != "" {
			parts = append(parts, "flaw "+string(c.New.Flaw()))
		}
	}
	for _, d := range attrChanges(c) {
		if d.old == "" && d.new == "" {
			parts = append(parts, d.name)
		} else {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", d.name, d.old, d.new))
		}
	}
	if len(c.XattrsChanged) > 0 {
		parts = append(parts, "xattrs "+strings.Join(c.XattrsChanged, " "))
	}
	return strings.Join(parts, ", ")
}

// An attrChange is what became of an attribute. Both texts are empty if they would be too long.
type attrChange struct{ name, old, new string }

func attrChanges(c *diff.Change) []attrChange {
	var changes []attrChange
	for _, d := range []struct {
		changed bool
		name    string
		text    func(*archive.Item) string
	}{
		{c.Attrs.Type, "type", itemType},
		{c.Attrs.Mode, "mode", func(it *archive.Item) string { return permissions(it.Mode) }},
		{c.Attrs.Owner, "owner", func(it *archive.Item) string { return owner(it.User, it.UID) + ":" + owner(it.Group, it.GID) }},
		{c.Attrs.Target, "target", func(it *archive.Item) string { return strconv.Quote(it.Source) }},
		{c.Attrs.Device, "device", func(it *archive.Item) string { return orNone(it.Rdev) }},
		{c.Attrs.MTime, "mtime", func(it *archive.Item) string { return it.MTime.Time().Local().Format("2006-01-02 15:04:05.999999999") }},
		{c.Attrs.ACLAccess, "ACL", nil},
		{c.Attrs.ACLDefault, "default ACL", nil},
		{c.Attrs.Flags, "flags", func(it *archive.Item) string { return orNone(it.BSDFlags) }},
		{c.Attrs.Flaw, "flaw", func(it *archive.Item) string { return cmp.Or(string(it.Flaw()), "none") }},
	} {
		switch {
		case !d.changed:
		case d.text == nil:
			changes = append(changes, attrChange{name: d.name})
		default:
			changes = append(changes, attrChange{d.name, d.text(c.Old), d.text(c.New)})
		}
	}
	return changes
}

func orNone(n *uint64) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprintf("%#x", *n)
}

// oldNew is an attribute before and after.
type oldNew struct {
	Old any `json:"old"`
	New any `json:"new"`
}

// changeJSON is a difference as JSON.
type changeJSON struct {
	Change string `json:"change"`
	jsonPath
	Type       string       `json:"type"`
	Size       *int64       `json:"size,omitempty"`
	Content    *contentJSON `json:"content,omitempty"`
	TypeChange *oldNew      `json:"type_change,omitempty"`
	Mode       *oldNew      `json:"mode,omitempty"`
	Owner      *oldNew      `json:"owner,omitempty"`
	Target     *oldNew      `json:"target,omitempty"`
	Device     *oldNew      `json:"device,omitempty"`
	MTime      *oldNew      `json:"mtime,omitempty"`
	ACLAccess  *oldNew      `json:"acl_access,omitempty"`
	ACLDefault *oldNew      `json:"acl_default,omitempty"`
	Flags      *oldNew      `json:"flags,omitempty"`
	Flaw       *oldNew      `json:"flaw,omitempty"`
	Xattrs     []string     `json:"xattrs,omitempty"`
}

type contentJSON struct {
	Added   int64 `json:"added"`
	Removed int64 `json:"removed"`
}

type ownerJSON struct {
	User  *string `json:"user"`
	Group *string `json:"group"`
	UID   uint32  `json:"uid"`
	GID   uint32  `json:"gid"`
}

func newChangeJSON(c *diff.Change) changeJSON {
	j := changeJSON{Change: string(c.Kind), jsonPath: newJSONPath(c.Path), Xattrs: c.XattrsChanged}
	there := c.New
	if there == nil {
		there = c.Old
	}
	j.Type = itemType(there)
	j.Flaw = newFlawChange(c)
	if c.Kind != diff.Changed {
		if there.Mode&fsmeta.TypeMask == fsmeta.TypeRegular {
			j.Size = new(c.BytesAdded + c.BytesRemoved) // one of which is zero
		}
		return j
	}
	if c.Content {
		j.Content = &contentJSON{c.BytesAdded, c.BytesRemoved}
	}
	set := func(field **oldNew, changed bool, value func(*archive.Item) any) {
		if changed {
			*field = &oldNew{value(c.Old), value(c.New)}
		}
	}
	set(&j.TypeChange, c.Attrs.Type, func(it *archive.Item) any { return itemType(it) })
	set(&j.Mode, c.Attrs.Mode, func(it *archive.Item) any { return fmt.Sprintf("%04o", it.Mode&fsmeta.PermMask) })
	set(&j.Owner, c.Attrs.Owner, func(it *archive.Item) any { return ownerJSON{it.User, it.Group, it.UID, it.GID} })
	set(&j.Target, c.Attrs.Target, func(it *archive.Item) any { return newJSONPath(it.Source) })
	set(&j.Device, c.Attrs.Device, func(it *archive.Item) any { return it.Rdev })
	set(&j.MTime, c.Attrs.MTime, func(it *archive.Item) any { return it.MTime.Time().Format(time.RFC3339Nano) })
	set(&j.ACLAccess, c.Attrs.ACLAccess, func(it *archive.Item) any { return it.ACLAccess })
	set(&j.ACLDefault, c.Attrs.ACLDefault, func(it *archive.Item) any { return it.ACLDefault })
	set(&j.Flags, c.Attrs.Flags, func(it *archive.Item) any { return it.BSDFlags })
	return j
}

// newFlawChange returns the flaws of both sides, nil if there are none.
func newFlawChange(c *diff.Change) *oldNew {
	flaw := func(it *archive.Item) any {
		if it == nil || it.Flaw() == "" {
			return nil
		}
		return it.Flaw()
	}
	if change := (oldNew{flaw(c.Old), flaw(c.New)}); change != (oldNew{}) {
		return &change
	}
	return nil
}
