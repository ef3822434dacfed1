package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

// completionTime bounds how long a person waits for the completion of what they type.
const completionTime = 2 * time.Second

// complete lets the shell complete the archives' names of all commands whose usage has one.
func (a *app) complete(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil && strings.Contains(cmd.Use, "::ARCHIVE") {
			cmd.ValidArgsFunction = a.completeArchives
		}
	}
}

// completeArchives completes the archive of a first argument REPO::ARCHIVE. All other arguments are files, which the shell
// completes itself.
func (a *app) completeArchives(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	repo, prefix, ok := strings.Cut(toComplete, "::")
	if !ok || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var matches []string
	for _, name := range a.archiveNames(cmd.Context(), repo) {
		if strings.HasPrefix(name, prefix) && ui.Line(name) == name {
			matches = append(matches, repo+"::"+name)
		}
	}
	return matches, cobra.ShellCompDirectiveNoFileComp
}

// archiveNames returns the archives of a repository if they can be had at once: without a question, a message, or waiting
// for somebody else.
func (a *app) archiveNames(ctx context.Context, repo string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	quiet := &app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, ui: ui.New(nil, io.Discard)}
	if rest, ok := strings.CutPrefix(repo, "~/"); ok { // the shell has not replaced it yet
		repo = filepath.Join(os.Getenv("HOME"), rest)
	}
	loc, err := quiet.location(repo, false)
	if err != nil {
		return nil
	}
	cat, done, err := readCatalog(ctx, loc)
	if err != nil {
		return nil
	}
	defer done()
	var names []string
	for _, e := range cat.Archives() {
		names = append(names, e.Name)
	}
	return names
}

// readCatalog opens the catalog of a repository in which nothing is changed, if nothing must be asked for that. done closes
// the repository.
func readCatalog(ctx context.Context, loc location.Location) (cat *catalog.Catalog, done func() error, err error) {
	if loc.Remote() {
		return nil, nil, errors.New("to ask another machine may take long, and raise questions")
	}
	repo, err := repository.Open(ctx, loc.Path, &repository.Options{ReadOnly: true, Damaged: true})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			repo.Close()
		}
	}()
	env, err := catalog.Manifest(ctx, repo)
	if err != nil {
		return nil, nil, err
	}
	key, err := envelope.OpenKey(envelope.OpenOptions{RepositoryID: repo.ID(), Location: loc.String(), Envelope: env})
	if err != nil {
		return nil, nil, err
	}
	if cat, err = catalog.New(repo, key, env); err != nil {
		return nil, nil, err
	}
	return cat, repo.Close, nil
}
