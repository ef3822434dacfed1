package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/archive"
	"garret/internal/fsmeta"
	"garret/repository"
)

func (a *app) listCommand() *cobra.Command {
	var short bool
	cmd := &cobra.Command{
		Use:   "list [REPO][::ARCHIVE]",
		Short: "List the archives of a repository, or the files of an archive",
		Args:  args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			loc, err := a.anyLocation(optional(args, 0))
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			out := bufio.NewWriter(a.stdout)
			defer func() { err = cmp.Or(err, out.Flush()) }()
			if loc.Archive == "" {
				for _, e := range s.cat.Archives() {
					if short {
						fmt.Fprintln(out, a.line(e.Name))
					} else {
						fmt.Fprintf(out, "%-36s %s\n", a.line(e.Name), e.Time.Local().Format(time.ANSIC))
					}
				}
				return nil
			}
			rec, err := s.cat.Archive(cmd.Context(), loc.Archive)
			if err != nil {
				return err
			}
			now := time.Now()
			gaps := false
			for it, err := range s.cat.Items(cmd.Context(), rec) {
				if errors.Is(err, repository.ErrNotFound) || errors.Is(err, repository.ErrIntegrity) {
					gaps = true
					a.warn("", fmt.Errorf("some files are lost: %w", err))
					continue
				}
				if err != nil {
					return err
				}
				if short {
					fmt.Fprintln(out, a.line(it.Path))
				} else {
					fmt.Fprintln(out, a.line(itemLine(it, now)))
				}
			}
			if gaps {
				return errWarnings
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "list the names alone")
	return cmd
}

// itemLine describes an item as ls -l does.
func itemLine(it *archive.Item, now time.Time) string {
	kind, extra := byte('?'), ""
	switch it.Mode & fsmeta.TypeMask {
	case fsmeta.TypeDir:
		kind = 'd'
	case fsmeta.TypeRegular:
		kind = '-'
		if it.Source != "" {
			kind, extra = 'h', " link to "+it.Source
		}
	case fsmeta.TypeSymlink:
		kind, extra = 'l', " -> "+it.Source
	case fsmeta.TypeChar:
		kind = 'c'
	case fsmeta.TypeBlock:
		kind = 'b'
	case fsmeta.TypeFIFO:
		kind = 'p'
	case fsmeta.TypeSocket:
		kind = 's'
	}
	var size int64
	for _, c := range it.Chunks {
		size += int64(c.Size)
	}
	return fmt.Sprintf("%c%s %-6s %-6s %8d %s %s%s", kind, permissions(it.Mode), owner(it.User, it.UID),
		owner(it.Group, it.GID), size, listTime(it.MTime.Time().Local(), now), it.Path, extra)
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
	if name != nil {
		return *name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// listTime writes a time with the hour if it is within a year from now, and else with the year.
func listTime(t, now time.Time) string {
	if d := now.Sub(t).Abs(); d < 365*24*time.Hour {
		return t.Format("Jan 02 15:04")
	}
	return t.Format("Jan 02  2006")
}
