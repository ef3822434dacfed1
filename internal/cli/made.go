package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"time"

	"garret/internal/backup"
)

// What create and import-tar have in common.

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
const madeJSONHelp = `"name", "id", "start" and "end"; "warnings", of what could not be stored; and "this_archive"
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
