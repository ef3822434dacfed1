package cli

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/ui"
	"garret/repository"
)

func (a *app) infoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info [REPO][::ARCHIVE]",
		Short: "Tell about a repository or an archive",
		Long: `Tell about a repository or an archive: how much content there is, how much of it remains when it is compressed, and
how much when each piece is counted once. Of an archive it tells too how much of it is in no other one: so much would
become free without it.`,
		Example: `  garret info /backup/photos
  garret info /backup/photos::monday`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.anyLocation(optional(args, 0))
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			if loc.Archive != "" {
				return a.infoArchive(cmd.Context(), s, loc.Archive)
			}
			return a.infoRepository(cmd.Context(), s)
		},
	}
}

// field prints one line of what is told.
func (a *app) field(name, format string, args ...any) {
	fmt.Fprintf(a.stdout, "%-18s %s\n", name+":", a.text(fmt.Sprintf(format, args...)))
}

func (a *app) infoRepository(ctx context.Context, s *session) error {
	objects, err := s.repo.Len(ctx)
	if err != nil {
		return err
	}
	var all sizes
	for _, e := range s.cat.Archives() {
		if err := all.add(ctx, s, e.Name); err != nil {
			return err
		}
	}
	a.field("Repository", "%s", s.loc.Repository())
	a.field("Id", "%v", s.repo.ID())
	a.field("Encryption", "%v", s.cat.Key.Type())
	a.field("Archives", "%d", len(s.cat.Manifest.Archives))
	a.field("Objects", "%d", objects)
	all.print(a)
	return nil
}

func (a *app) infoArchive(ctx context.Context, s *session, name string) error {
	rec, err := s.cat.Archive(ctx, name)
	if err != nil {
		return err
	}
	var one sizes
	if err := one.add(ctx, s, name); err != nil {
		return err
	}
	own := maps.Clone(one.chunks)
	for _, e := range s.cat.Archives() {
		if e.Name == name {
			continue
		}
		var other sizes
		if err := other.add(ctx, s, e.Name); err != nil {
			return err
		}
		maps.DeleteFunc(own, func(id repository.ID, _ int64) bool {
			_, shared := other.chunks[id]
			return shared
		})
	}
	a.field("Name", "%s", rec.Name)
	a.field("Id", "%v", s.cat.Manifest.Archives[name].ID)
	a.field("Hostname", "%s", rec.Hostname)
	a.field("Username", "%s", rec.Username)
	a.field("Time", "%s", rec.Time.Local().Format(time.ANSIC))
	quoted := make([]string, len(rec.Cmdline))
	for i, arg := range rec.Cmdline {
		quoted[i] = shellQuote(arg)
	}
	a.field("Command line", "%s", strings.Join(quoted, " "))
	one.print(a)
	a.field("In no other", "%s", ui.Bytes(sum(own)))
	return nil
}

// sizes sums up archives.
type sizes struct {
	items, content, stored int64
	chunks                 map[repository.ID]int64 // each once, with its length as stored
}

func (z *sizes) add(ctx context.Context, s *session, name string) error {
	rec, err := s.cat.Archive(ctx, name)
	if err != nil {
		return err
	}
	if z.chunks == nil {
		z.chunks = map[repository.ID]int64{}
	}
	for it, err := range s.cat.Items(ctx, rec) {
		if err != nil {
			return err
		}
		z.items++
		for _, c := range it.Chunks {
			z.content += int64(c.Size)
			z.stored += int64(c.CSize)
			z.chunks[c.ID] = int64(c.CSize)
		}
	}
	return nil
}

func (z *sizes) print(a *app) {
	a.field("Files and folders", "%d", z.items)
	a.field("Content", "%s", ui.Bytes(z.content))
	a.field("Compressed", "%s", ui.Bytes(z.stored))
	a.field("Deduplicated", "%s", ui.Bytes(sum(z.chunks)))
}

func sum(chunks map[repository.ID]int64) int64 {
	var n int64
	for _, size := range chunks {
		n += size
	}
	return n
}
