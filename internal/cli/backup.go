package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

func (a *app) backupCommand() *cobra.Command {
	var e excludes
	cmd := &cobra.Command{
		Use:   "backup [PATH]",
		Short: "Back a folder up, with nothing to set up before",
		Long: `Back a folder up, the current one if none is given: what is in it goes to a new archive, named after the folder and
the time. Then the command is printed that brings it back.

The repository is that of GARRET_REPO. Where that is not set it is $XDG_DATA_HOME/garret or ~/.local/share/garret,
which is made on first use, and not encrypted, as it is next to what it keeps. For an encrypted one, or one on another
disk, use "garret init" and set GARRET_REPO.

What is below PATH can be left out with patterns, see "garret help patterns".

With --json, an object: "repository"; "archive", the name of the new archive; "files" and "folders", their numbers;
"bytes", the size of their content, and "new_bytes", how much of it was new in the repository, as it is stored there;
"warnings", the number of files that could not be read, or not as a whole, see "garret help create"; "seconds"; and
"extract", the command that brings it back, as a list of arguments.`,
		Example: `  garret backup                    the current folder
  garret backup -e '*.tmp' ~/Pictures`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runBackup(cmd, optional(args, 0), &e) },
	}
	e.add(cmd)
	return cmd
}

func (a *app) runBackup(cmd *cobra.Command, given string, e *excludes) error {
	path, err := filepath.Abs(given)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	o := createOptions{Options: backup.Options{Dir: path, Paths: []string{"."}, Checkpoint: checkpointInterval}}
	o.Given = filepath.Clean(given)
	if !info.IsDir() {
		o.Dir, o.Paths, o.Given = filepath.Dir(path), []string{name}, filepath.Dir(given)
	}
	if err := e.set(cmd.Context(), a, &o.Selection); err != nil {
		return err
	}
	s, err := a.openDefault(cmd)
	if err != nil {
		return err
	}
	if name = strings.Trim(name, "/"); name == "" {
		name = "root"
	}
	begin := time.Now()
	o.Name = freeName(s, plainName(name)+"-"+begin.Format("2006-01-02T15:04:05"))
	done, err := a.store(cmd.Context(), s, o)
	var told error
	if err == nil {
		told = a.tellBackup(s.loc, o.Name, done, time.Since(begin), restoreTarget(path, name))
	}
	return cmp.Or(endStore(s, done, err), told)
}

// tellBackup prints what was stored, and the command that brings it back.
func (a *app) tellBackup(loc location.Location, name string, done *backup.Stats, d time.Duration, target string) error {
	repo := loc.Repository().String()
	loc.Archive = name
	extract := a.commandAbout(loc, "extract", "--target", pathArgument(target))
	if a.json {
		return a.emit(struct {
			Repository string   `json:"repository"`
			Archive    string   `json:"archive"`
			Files      int64    `json:"files"`
			Folders    int64    `json:"folders"`
			Bytes      int64    `json:"bytes"`
			NewBytes   int64    `json:"new_bytes"`
			Warnings   int64    `json:"warnings"`
			Seconds    float64  `json:"seconds"`
			Extract    []string `json:"extract"`
		}{
			repo, name, done.Files, done.Dirs, done.Bytes, done.NewBytes, done.Warnings, d.Seconds(),
			extract,
		})
	}
	fmt.Fprintf(a.stdout, "Stored %s, in %s.\nTo bring it back:\n  %s\n", summary(done), ui.Duration(d), shellLine(extract))
	return nil
}

// restoreTarget returns a folder to bring a backup of path back to: not where it was, nor below.
func restoreTarget(path, name string) string {
	target := name + ".restored"
	if cwd, err := os.Getwd(); err == nil && cwd == path {
		target = filepath.Join("..", target)
	}
	return target
}

// openDefault opens the repository of GARRET_REPO or, if there is none, the default one, which it makes if need be.
func (a *app) openDefault(cmd *cobra.Command) (*session, error) {
	if _, repo := defaultRepo(); repo != "" {
		loc, err := a.location("", false)
		if err != nil {
			return nil, err
		}
		return a.open(cmd.Context(), loc, true)
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // which is to be ignored then
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the folder for the default repository: %w; set %s", err, repoVar)
		}
		data = filepath.Join(home, ".local", "share")
	}
	loc := location.Location{Path: filepath.Join(data, "garret")}
	var begun error // what is wrong with a repository whose making may have been interrupted
	if names, err := os.ReadDir(loc.Path); err == nil && len(names) > 0 {
		s, err := a.open(cmd.Context(), loc, true)
		if !errors.Is(err, catalog.ErrNoManifest) {
			return s, err
		}
		begun = err
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	s, _, err := a.create(cmd.Context(), loc, envelope.PlaintextType, false)
	if begun != nil && errors.Is(err, repository.ErrExists) {
		return nil, begun
	}
	if err == nil {
		a.ui.Printf("Made the repository %q. It is not encrypted; for one that is: %s, and set %s.",
			loc, shellLine(command("init", "-e", "keyfile", "REPO")), repoVar)
	}
	return s, err
}

// plainName makes the beginning of an archive's name of a file's.
func plainName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == ':' || unicode.IsControl(r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	const most = 200 // the time is to follow, and a suffix
	return strings.TrimSpace(strings.ToValidUTF8(name[:min(len(name), most)], ""))
}

// freeName returns a name that no archive has, the given one if possible.
func freeName(s *session, name string) string {
	for free, n := name, 2; ; n++ {
		if _, taken := s.cat.Manifest.Archives[free]; !taken {
			return free
		}
		free = fmt.Sprintf("%s.%d", name, n)
	}
}
