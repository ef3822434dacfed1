package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/cache"
)

func (a *app) infoCommand() *cobra.Command {
	var transactions bool
	var c choice
	cmd := &cobra.Command{
		Use:   "info [REPO][::ARCHIVE]",
		Short: "Tell about a repository or some archives",
		Long: `Tell about a repository or an archive: the original size is that of all content and of the lists of files, the
compressed size what remains of it when it is stored, and the deduplicated size is it with each piece counted once. Of
an archive that is what no other archive has: so much would become free without it.

` + choiceHelp + ` Each is
told of by itself, with --json on a line of its own.

An archive that this machine has not seen yet is read for that; what is in the others is known.

With --transactions, the transactions that the log of the repository still has are listed, the oldest first, on the
repository's own machine: number, time (of the file), size, how many objects were stored and deleted (one that is
replaced counts as both), and which archives came (+) and went (-). The latter takes the key; where its passphrase would
have to be asked for, it is told whether the manifest was stored or deleted. Numbers are not consecutive, and where a
compaction has removed a part of the log, that is told. It takes a look at every object's header; --last N lists the last
N alone. "garret rollback" goes back to one.

With --json, one object is printed: repository, an object with location, id, encryption, archives and objects (their
numbers); archive, if one is given, an object with name, id, hostname, username, time, command_line and, if there are
any, comment and tags; this_archive, if one is given, and all_archives, objects with
` + statsJSONHelp + `

With --transactions and --json, a line for each: transaction, its number; time; size in bytes; stored and deleted, numbers
of objects; missing, how many segments before it are gone; damaged, an array of objects with segment, offset and length
in bytes; manifest, "stored" or "deleted" if it was; if the key is there, encryption, archives, how many there are then,
and added and removed, arrays of names.`,
		Example: `  garret info /backup/photos
  garret info /backup/photos::monday
  garret info --transactions --last 20 /backup/photos`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case transactions && (c.prefix != "" || len(c.patterns) > 0 || c.first != 0):
				return &usageError{"--prefix, --match-archives and --first choose archives, and --transactions tells of none"}
			case transactions && (c.last < 0 || c.last == 0 && cmd.Flags().Changed("last")):
				return &usageError{"--last must be at least 1"}
			case transactions:
				loc, err := a.location(optional(args, 0), false)
				if err != nil {
					return err
				}
				return a.listTransactions(cmd.Context(), loc, c.last)
			}
			loc, err := a.anyLocation(optional(args, 0))
			if err != nil {
				return err
			}
			if err := c.check(loc); err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer s.Close()
			var about []string // empty: the repository
			switch {
			case loc.Archive != "":
				about = []string{loc.Archive}
			case c.given():
				chosen, err := c.some(s)
				if err != nil {
					return err
				}
				about = names(chosen)
			}
			return a.info(cmd.Context(), s, about)
		},
	}
	cmd.Flags().BoolVar(&transactions, "transactions", false, "list what the log of the repository has")
	c.flags(cmd.Flags())
	cmd.Flags().Lookup("last").Usage += "; with --transactions, the last N of these"
	return cmd
}

// jsonInfo is what is told.
type jsonInfo struct {
	Repository jsonRepositoryInfo `json:"repository"`
	Archive    *jsonArchiveInfo   `json:"archive,omitempty"`
	This       *jsonStats         `json:"this_archive,omitempty"`
	All        jsonStats          `json:"all_archives"`
}

type jsonRepositoryInfo struct {
	Location   string `json:"location"`
	ID         string `json:"id"`
	Encryption string `json:"encryption"`
	Archives   int    `json:"archives"`
	Objects    int    `json:"objects"`
}

type jsonArchiveInfo struct {
	jsonArchive
	Hostname    string   `json:"hostname"`
	Username    string   `json:"username"`
	CommandLine []string `json:"command_line"`
	jsonRemarks
}

func (s *session) describe(ctx context.Context) (jsonRepositoryInfo, error) {
	objects, err := s.repo.Len(ctx)
	return jsonRepositoryInfo{
		Location:   s.loc.Repository().String(),
		ID:         s.repo.ID().String(),
		Encryption: s.cat.Key.Type().String(),
		Archives:   len(s.cat.Manifest.Archives),
		Objects:    objects,
	}, err
}

func (s *session) describeArchive(ctx context.Context, name string) (*jsonArchiveInfo, error) {
	rec, err := s.cat.Archive(ctx, name)
	if err != nil {
		return nil, err
	}
	e, err := s.entry(name)
	if err != nil {
		return nil, err
	}
	i := &jsonArchiveInfo{
		jsonArchive: newJSONArchive(e),
		Hostname:    rec.Hostname, Username: rec.Username, CommandLine: append([]string{}, rec.Cmdline...),
		jsonRemarks: newJSONRemarks(rec),
	}
	i.Time = rec.Time
	return i, nil
}

// info prints what there is to tell of archives or, without any, of the repository. What is damaged is missing in the numbers,
// which is said.
func (a *app) info(ctx context.Context, s *session, about []string) error {
	var archives []*jsonArchiveInfo
	for _, name := range about {
		i, err := s.describeArchive(ctx, name)
		if err != nil {
			return err
		}
		archives = append(archives, i)
	}
	repo, err := s.describe(ctx)
	if err != nil {
		return err
	}
	chunks, err := s.chunks(ctx)
	if err != nil {
		return err
	}
	for _, e := range s.cat.Archives() {
		if damage := chunks.Damage(e.ID); damage != nil {
			a.ui.Printf("garret: archive %q is damaged, and not all of it is in the numbers: %s", e.Name, oneLine(damage))
			err = errWarnings
		}
	}
	all := chunks.Total()
	if len(archives) == 0 {
		i := jsonInfo{Repository: repo, All: newJSONStats(all)}
		if a.json {
			return cmp.Or(a.emit(i), err)
		}
		a.tellRepository(i, all)
	}
	for n, archive := range archives {
		i := jsonInfo{Repository: repo, Archive: archive, All: newJSONStats(all)}
		this, _ := chunks.Archive(s.cat.Manifest.Archives[archive.Name].ID)
		stats := newJSONStats(this)
		i.This = &stats
		if a.json {
			if err := a.emit(i); err != nil {
				return err
			}
			continue
		}
		if n > 0 {
			fmt.Fprintln(a.stdout)
		}
		a.tellArchive(i, this, all)
	}
	return err
}

// field prints one line of what is told.
func (a *app) field(name, format string, args ...any) {
	fmt.Fprintf(a.stdout, "%s: %s\n", name, a.line(fmt.Sprintf(format, args...)))
}

func (a *app) tellRepository(i jsonInfo, all cache.Stats) {
	a.field("Repository", "%s", i.Repository.Location)
	a.field("Id", "%s", i.Repository.ID)
	a.field("Encryption", "%s", i.Repository.Encryption)
	a.field("Archives", "%d", i.Repository.Archives)
	a.field("Objects", "%d", i.Repository.Objects)
	a.field("Number of files", "%d", all.Files)
	a.field("Chunks", "%d", all.Chunks)
	a.printHead()
	a.printSizes("All archives:", all)
}

func (a *app) tellArchive(i jsonInfo, this, all cache.Stats) {
	a.field("Name", "%s", i.Archive.Name)
	a.field("Fingerprint", "%s", i.Archive.ID)
	a.field("Hostname", "%s", i.Archive.Hostname)
	a.field("Username", "%s", i.Archive.Username)
	a.field("Time", "%s", i.Archive.Time.Local().Format(time.ANSIC))
	if i.Archive.Comment != "" {
		a.field("Comment", "%s", i.Archive.Comment)
	}
	if len(i.Archive.Tags) > 0 {
		a.field("Tags", "%s", strings.Join(i.Archive.Tags, ", "))
	}
	quoted := make([]string, len(i.Archive.CommandLine))
	for n, arg := range i.Archive.CommandLine {
		quoted[n] = shellWord(arg)
	}
	a.field("Command line", "%s", strings.Join(quoted, " "))
	a.field("Number of files", "%d", this.Files)
	a.printStats("This archive:", this, all)
}
