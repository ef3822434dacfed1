package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
)

func (a *app) listCommand() *cobra.Command {
	var short, null bool
	var c choice
	cmd := &cobra.Command{
		Use:   "list [REPO][::ARCHIVE] [PATH...]",
		Short: "List the archives of a repository, or the files of an archive",
		Long: `List the archives of a repository, the oldest first, or the files of an archive. With PATHs, list only these and what is
in them. After the path of a file that changed while it was read there is "(flaw: changed)", and "(flaw: short)" where it
may not be whole.

` + choiceHelp + `

With --json, a line for each archive: "name", "id" and "time" (RFC 3339, UTC), and "comment" and
"tags" if it has any; or a line for each file:

  path             its path in the archive
  type             file, dir, symlink, hardlink, fifo, char, block, socket or unknown
  mode             permissions, with set-id and sticky bits, in octal digits: "0644"
  uid, gid         its owner and group
  user, group      their names, if there are any
  size             of the content, in bytes
  mtime            when the content was last changed: RFC 3339, UTC
  mtime_ns         the same in nanoseconds since 1970
  source           of a symlink what it points to, of a hardlink the path of the same file elsewhere in the archive
  major, minor     the number of a device
  xattrs           names of the extended attributes
  flaw             "changed" if it changed while it was read, so that its content may be a mixture; "short" if it may not be
                   whole; "unknown" if a later program has marked it
  acl              true if there is an access control list
  flags            file flags, if they were kept

Text that is not UTF-8 is approximated, and there in full in base64 as name_base64, path_base64 or source_base64.

Control characters in names, such as line feeds, are shown as \n or \x1b. With --null, the names alone are listed as they
are, with a zero byte after each: for programs, as "xargs -0" is.`,
		Example: `  garret list /backup/photos
  garret list /backup/photos::monday Pictures/2024
  garret list --last 3 --match-archives 'home-*' /backup/photos
  garret list --json /backup/photos | jq -r .name
  garret list --null /backup/photos::monday | xargs -0 -n 1 echo`,
		Args: args(0, -1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if null && a.json {
				return &usageError{"--null and --json are two ways to list for programs; take one"}
			}
			loc, err := a.anyLocation(optional(args, 0))
			if err != nil {
				return err
			}
			if len(args) > 1 && loc.Archive == "" {
				return &usageError{fmt.Sprintf("to list paths, name an archive: %s::ARCHIVE", args[0])}
			}
			if err := c.check(loc); err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			out := bufio.NewWriter(a.stdout)
			defer func() { err = cmp.Or(err, out.Flush()) }()
			l := lister{app: a, s: s, out: out, short: short, null: null}
			if loc.Archive == "" {
				return l.archives(cmd.Context(), c.of(s.cat))
			}
			return l.items(cmd.Context(), newSelection(args[1:]))
		},
	}
	c.flags(cmd.Flags())
	cmd.Flags().BoolVar(&short, "short", false, "list the names alone")
	cmd.Flags().BoolVarP(&null, "null", "0", false, "list the names alone, as they are, with a zero byte after each")
	return cmd
}

// A lister prints archives, or the items of one.
type lister struct {
	*app
	s           *session
	out         *bufio.Writer
	short, null bool
}

// print prints one archive or item: its name alone, or what else there is to tell of it.
func (l *lister) print(name string, line func() string, object func() any) error {
	var err error
	switch {
	case l.json:
		err = newEncoder(l.out).Encode(object())
	case l.null:
		_, err = l.out.WriteString(name + "\x00")
	case l.short:
		_, err = fmt.Fprintln(l.out, l.line(name))
	default:
		_, err = fmt.Fprintln(l.out, line())
	}
	return err
}

func (l *lister) archives(ctx context.Context, entries []catalog.Entry) error {
	// What is lost of an archive is not to be found out by a list, which goes on without its remarks.
	print := func(e catalog.Entry, rec *archive.Archive, _ error) error {
		return l.print(e.Name,
			func() string { return strings.TrimRight(l.archiveLine(e)+"  "+l.line(remarksText(rec)), " ") },
			func() any { return newArchiveJSON(e, rec) })
	}
	if !l.short && !l.null || l.json {
		return l.s.eachRecord(ctx, entries, print)
	}
	for _, e := range entries {
		if err := print(e, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) items(ctx context.Context, sel *selection) error {
	rec, err := l.s.cat.Archive(ctx, l.s.loc.Archive)
	if err != nil {
		return err
	}
	now := time.Now()
	match := sel.match()
	warned := false
	for it, err := range l.s.cat.Items(ctx, rec) {
		if catalog.Lost(err) {
			warned = true
			l.warn("", fmt.Errorf("some files are lost: %w", err))
			continue
		}
		if err != nil {
			return err
		}
		if match != nil && !match(it.Path) {
			continue
		}
		err = l.print(it.Path,
			func() string { return l.line(itemLine(it, now)) },
			func() any { return newItemJSON(it) })
		if err != nil {
			return err
		}
	}
	for _, path := range sel.unmatched() {
		warned = true
		l.warn(path, errors.New("is not in the archive"))
	}
	if warned {
		return errWarnings
	}
	return nil
}

// archiveJSON is an archive of a repository as list prints it.
type archiveJSON struct {
	Name   string    `json:"name"`
	Base64 string    `json:"name_base64,omitempty"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	jsonRemarks
}

func newArchiveJSON(e catalog.Entry, rec *archive.Archive) archiveJSON {
	return archiveJSON{e.Name, base64IfNotUTF8(e.Name), e.ID.String(), e.Time.UTC(), newJSONRemarks(rec)}
}

// itemJSON is an item of an archive as list prints it.
type itemJSON struct {
	jsonPath
	Type         string       `json:"type"`
	Mode         string       `json:"mode"`
	UID          uint32       `json:"uid"`
	GID          uint32       `json:"gid"`
	User         *string      `json:"user,omitempty"`
	Group        *string      `json:"group,omitempty"`
	Size         int64        `json:"size"`
	MTime        string       `json:"mtime"`
	MTimeNS      json.Number  `json:"mtime_ns"`
	Source       string       `json:"source,omitempty"`
	SourceBase64 string       `json:"source_base64,omitempty"`
	Major        *uint32      `json:"major,omitempty"`
	Minor        *uint32      `json:"minor,omitempty"`
	Xattrs       []string     `json:"xattrs,omitempty"`
	Flaw         archive.Flaw `json:"flaw,omitempty"`
	ACL          bool         `json:"acl,omitempty"`
	Flags        *uint64      `json:"flags,omitempty"`
}

func newItemJSON(it *archive.Item) itemJSON {
	j := itemJSON{
		jsonPath: newJSONPath(it.Path), Type: kindOf(it).name, Mode: fmt.Sprintf("%04o", it.Mode&^fsmeta.TypeMask),
		UID: it.UID, GID: it.GID, User: it.User, Group: it.Group, Size: sizeOf(it),
		MTime: it.MTime.Time().Format(time.RFC3339Nano), MTimeNS: nanoseconds(it.MTime),
		Source: it.Source, SourceBase64: base64IfNotUTF8(it.Source),
		Flaw: it.Flaw(), ACL: it.ACLAccess != nil || it.ACLDefault != nil, Flags: it.BSDFlags,
	}
	if it.Rdev != nil {
		major, minor := unix.Major(*it.Rdev), unix.Minor(*it.Rdev) // as this system numbers them
		j.Major, j.Minor = &major, &minor
	}
	for _, name := range slices.Sorted(maps.Keys(it.Xattrs)) {
		if name != archive.FlawXattr {
			j.Xattrs = append(j.Xattrs, name)
		}
	}
	return j
}

// nanoseconds writes a time as one number, which may have more than 64 bits.
func nanoseconds(t archive.Nanos) json.Number {
	if t.Sec >= -1<<33 && t.Sec < 1<<33 {
		return json.Number(strconv.FormatInt(t.Sec*1e9+int64(t.Nsec), 10))
	}
	n := new(big.Int).Mul(big.NewInt(t.Sec), big.NewInt(1e9))
	return json.Number(n.Add(n, big.NewInt(int64(t.Nsec))).String())
}

// kind is a type of file, as a letter of ls -l and in a word.
type kind struct {
	letter byte
	name   string
}

func kindOf(it *archive.Item) kind {
	switch it.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		return kind{'d', "dir"}
	case fsmeta.TypeRegular:
		if it.Source != "" {
			return kind{'h', "hardlink"}
		}
		return kind{'-', "file"}
	case fsmeta.TypeSymlink:
		return kind{'l', "symlink"}
	case fsmeta.TypeChar:
		return kind{'c', "char"}
	case fsmeta.TypeBlock:
		return kind{'b', "block"}
	case fsmeta.TypeFIFO:
		return kind{'p', "fifo"}
	case fsmeta.TypeSocket:
		return kind{'s', "socket"}
	}
	return kind{'?', "unknown"}
}

// sizeOf returns the length of an item's content in bytes.
func sizeOf(it *archive.Item) int64 {
	var size int64
	for _, c := range it.Chunks {
		size += int64(c.Size)
	}
	return size
}

// itemLine describes an item as ls -l does.
func itemLine(it *archive.Item, now time.Time) string {
	kind, extra := kindOf(it), ""
	switch {
	case kind.letter == 'l':
		extra = " -> " + it.Source
	case kind.letter == 'h':
		extra = " link to " + it.Source
	}
	extra += flawNote(it.Flaw())
	return fmt.Sprintf("%c%s %-6s %-6s %8d %s %s%s", kind.letter, permissions(it.Mode), owner(it.User, it.UID),
		owner(it.Group, it.GID), sizeOf(it), listTime(it.MTime.Time().Local(), now), it.Path, extra)
}

// flawNote is what follows the path of a file with a flaw.
func flawNote(f archive.Flaw) string {
	if f == "" {
		return ""
	}
	return fmt.Sprintf(" (flaw: %s)", f)
}

// permissions writes the permissions in nine letters.
func permissions(mode uint32) string {
	text := []byte("rwxrwxrwx")
	for i := range text {
		if mode>>(8-i)&1 == 0 {
			text[i] = '-'
		}
	}
	for _, special := range []struct {
		bit    uint32
		at     int
		letter byte
	}{{0o4000, 2, 's'}, {0o2000, 5, 's'}, {0o1000, 8, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if text[special.at] == 'x' {
			text[special.at] = special.letter
		} else {
			text[special.at] = special.letter - 'a' + 'A'
		}
	}
	return string(text)
}

func owner(name *string, id uint32) string {
	if name != nil && *name != "" {
		return *name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// listTime writes a time with the hour if it is within a year from now, and else with the year. As in Attic, a day that
// has begun counts for times to come, and not for those gone by.
func listTime(t, now time.Time) string {
	const day = 24 * time.Hour
	d := now.Sub(t) // the greatest or least value, if it is further away than that
	days := d / day
	if d < 0 {
		days = -(d+1)/day + 1
	}
	if days < 365 {
		return t.Format("Jan 02 15:04")
	}
	return t.Format("Jan 02  2006")
}
