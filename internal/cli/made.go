package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"garret/internal/backup"
)

// What create and import-tar have in common.

// making are the options that say what is told of an archive that is made.
type making struct {
	timestamp, comment string
	tags               []string
}

func (m *making) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.timestamp, "timestamp", "",
		"the `TIME` of the archive, as 2026-11-30T22:15:00, with Z or +01:00 if not of here; or a file that has it")
	f.StringVar(&m.comment, "comment", "", "a `TEXT` that is shown with the archive")
	f.StringArrayVar(&m.tags, "tag", nil, "a `TAG` of the archive, see \"garret help tag\"; may be given several times")
}

// makingHelp says what making is about, for the help of commands.
const makingHelp = `With --timestamp, the archive has another time than now: for what was backed up before, by another program or as a
folder. A time is that of the calendar here, unless Z or an offset from UTC says otherwise: 2026-11-30, 2026-11-30T22:15,
2026-11-30 22:15:00+01:00. Of a file, it is the time when its content was changed.`

// set says so in o.
func (m *making) set(o *backup.Options) (err error) {
	if m.timestamp != "" {
		if o.Time, err = parseTimestamp(m.timestamp); err != nil {
			return err
		}
	}
	if o.Comment = m.comment; !utf8.ValidString(m.comment) {
		return &usageError{"--comment: the text is not UTF-8"}
	}
	o.Tags, err = checkTags(m.tags)
	return err
}

// sign says who makes an archive, and how.
func sign(o *backup.Options) {
	o.Cmdline = os.Args
	if name, err := os.Hostname(); err == nil {
		o.Hostname = name
	}
	if u, err := user.Current(); err == nil {
		o.Username = u.Username
	}
}

// watchUses has the table of chunks know what an archive uses that is being made. made is called once it is committed.
func (a *app) watchUses(s *session, o *backup.Options) (made func(*backup.Stats)) {
	chunks := s.known.chunks(a, s.repo.ID())
	chunks.Retain(s.cat.Manifest)
	uses := chunks.NewUses()
	o.Uses = uses
	return func(done *backup.Stats) {
		uses.Files = done.Contents
		chunks.Add(done.Record, uses)
		a.saveChunks(chunks)
	}
}

// madeJSONHelp says what is in jsonMade, for the help of commands.
const madeJSONHelp = `"name", "id", "start" and "end"; "warnings", of what could not be stored as it was; and "this_archive"
and "all_archives" with
` + statsJSONHelp

// jsonMade is what is told of an archive that has been made.
type jsonMade struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Warnings int64     `json:"warnings"`
	This     jsonStats `json:"this_archive"`
	All      jsonStats `json:"all_archives"`
}

// tellMade prints the statistics of an archive that has been made. For these, archives are read that this machine does
// not know yet.
func (a *app) tellMade(ctx context.Context, s *session, name string, start time.Time, done *backup.Stats) error {
	end := time.Now()
	chunks, err := s.chunks(ctx)
	if err != nil {
		return fmt.Errorf("the archive is stored, but its statistics cannot be told: %w", err)
	}
	this, _ := chunks.Archive(done.Record.ID)
	this.Deduplicated, this.Chunks = done.NewBytes, done.NewChunks
	all := chunks.Total()
	if a.json {
		return a.emit(jsonMade{
			name, done.Record.ID.String(), start, end, done.Warnings, newJSONStats(this), newJSONStats(all),
		})
	}
	a.printArchiveStats(archiveStats{Name: name, ID: done.Record.ID, Start: start, End: end, This: this, All: all})
	return nil
}
