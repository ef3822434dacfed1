package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/internal/ui"
	"garret/repository"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Keep a copy of a repository's key elsewhere, and bring it back",
		Long: `Keep a copy of a repository's key file elsewhere, and bring it back. Without the key file nobody can read a repository
that was made with encryption "keyfile", and it is not in the repository.`,
		Args: func(*cobra.Command, []string) error {
			return &usageError{`"garret key" needs one of: export, import`}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.keyExportCommand(), a.keyImportCommand())
	return cmd
}

func (a *app) keyExportCommand() *cobra.Command {
	var paper bool
	cmd := &cobra.Command{
		Use:   "export [--paper] [REPO [FILE]]",
		Short: "Write the key file of a repository to another place",
		Long: `Write a copy of a repository's key file to a new FILE, or to standard output. The copy is locked by the same passphrase
as the key file is now, and stays so when that is changed.

With --paper, write it in a form that can be printed and typed in again: numbered lines, each with a checksum of its own.

With --json, an object: "repository", "id", "keyfile" (the path of the key file), and "file" (the path of the copy) or, if
no FILE is given, "text" (the copy itself).`,
		Example: `  garret key export /backup/photos /media/stick/photos.key
  garret key export --paper /backup/photos | lp`,
		Args: args(0, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			loc, err := a.location(optional(args, 0), false)
			if err != nil {
				return err
			}
			repo, err := a.openStore(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer repo.Close()
			f, _, err := findKeyfile(cmd.Context(), repo, loc)
			if err != nil {
				return err
			}
			text := f.Text()
			if paper {
				if text, err = f.Paper(); err != nil {
					return fmt.Errorf("key file %q: %w", f.Path(), err)
				}
			}
			result := keyExport{Repository: loc.String(), ID: repo.ID().String(), Keyfile: f.Path(), File: optional(args, 1)}
			if result.File == "" {
				if !a.json {
					_, err = a.stdout.Write(text)
					return err
				}
				result.Text = string(text)
				return a.emit(result)
			}
			if err := envelope.WriteNew(result.File, text); err != nil {
				if errors.Is(err, os.ErrExist) {
					err = fmt.Errorf("%q exists already, and is left as it is; choose another name", result.File)
				}
				return fmt.Errorf("export the key: %w", err)
			}
			if a.json {
				return a.emit(result)
			}
			a.ui.Printf("The key of repository %q is copied to %q.", loc, result.File)
			return nil
		},
	}
	cmd.Flags().BoolVar(&paper, "paper", false, "write a form to print and to type in again")
	return cmd
}

// keyExport is what key export prints as JSON.
type keyExport struct {
	Repository string `json:"repository"`
	ID         string `json:"id"`
	Keyfile    string `json:"keyfile"`
	File       string `json:"file,omitempty"`
	Text       string `json:"text,omitempty"`
}

func (a *app) keyImportCommand() *cobra.Command {
	var paper, replace bool
	cmd := &cobra.Command{
		Use:   "import [--paper] [--replace] REPO [FILE]",
		Short: "Bring back the key file of a repository",
		Long: `Bring back the key file of a repository from a copy that "garret key export" wrote, or from any other copy. FILE may be -
for standard input.

With --paper, FILE has the paper form. Without FILE the lines are asked for one by one, and a mistake is told at once.

The copy must be one of this repository's key. If there is a passphrase, in GARRET_PASSPHRASE or from the terminal, it
is also tried whether it opens, and whether the key opens the repository. A key file that is there already is left as it
is, unless --replace is given and the copy was found to open the repository.

With --json, an object: "repository", "id", "keyfile" (the path of the key file), "imported" (false if it was there
already) and "verified" (whether the key was found to open the repository).`,
		Example: `  garret key import /backup/photos /media/stick/photos.key
  garret key import --paper /backup/photos`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && !paper {
				return &usageError{"no file to import is named; the usage is: " + cmd.UseLine()}
			}
			loc, err := a.location(args[0], false)
			if err != nil {
				return err
			}
			repo, err := a.openStore(cmd.Context(), loc, false)
			if err != nil {
				return err
			}
			defer repo.Close()
			env, err := catalog.Manifest(cmd.Context(), repo)
			if err != nil && !errors.Is(err, catalog.ErrNoManifest) {
				return fmt.Errorf("repository %q: %w", loc, err)
			}
			if err := needsKeyfile(env, loc); err != nil { // before anything is typed
				return err
			}
			f, err := a.readKey(cmd.Context(), repo.ID(), optional(args, 1), paper)
			if err != nil {
				return fmt.Errorf("import the key of repository %q: %w", loc, err)
			}
			return a.importKey(cmd.Context(), repo, loc, env, f, replace)
		},
	}
	cmd.Flags().BoolVar(&paper, "paper", false, "read the form that was printed")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace a key file that is there already")
	return cmd
}

// maxImport bounds the text of a key to import, in bytes.
const maxImport = 64 << 10

// readKey reads a copy of a key file, or what a person types from paper.
func (a *app) readKey(ctx context.Context, id repository.ID, file string, paper bool) (*envelope.Keyfile, error) {
	if file == "" {
		f, err := a.typePaper(ctx, id)
		if !errors.Is(err, ui.ErrNoTerminal) {
			return f, err
		}
		file = "-"
	}
	in := a.stdin
	if file == "-" {
		file = "standard input"
	} else {
		f, err := openFile(ctx, file, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := readAll(ctx, io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, err
	}
	var f *envelope.Keyfile
	switch {
	case len(text) > maxImport:
		err = fmt.Errorf("it is longer than %d bytes", maxImport)
	case paper:
		f, err = envelope.ParsePaper(text, id)
	default:
		if f, err = envelope.ParseKeyfile(text, id); err != nil && bytes.Contains(text, []byte("garret paper key")) {
			err = &usageError{"it is a paper key: import it with --paper"}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", file, err)
	}
	return f, nil
}

// typePaper asks for the lines of a paper key, each until it is right.
func (a *app) typePaper(ctx context.Context, id repository.ID) (*envelope.Keyfile, error) {
	var p envelope.PaperKey
	for p.Next() != 0 {
		line, err := a.ui.Line(ctx, fmt.Sprintf("%2d: ", p.Next()))
		if err != nil {
			if err == io.EOF {
				err = errors.New("there is no more input")
			}
			return nil, err
		}
		if err := p.Add(line); err != nil {
			wrong := &envelope.PaperError{}
			if !errors.As(err, &wrong) {
				return nil, err
			}
			a.ui.Printf("    %s; once more:", wrong.Problem)
		}
	}
	return p.Keyfile(id)
}

// importKey puts a key file where it is looked for. env is the envelope of the manifest, nil if there is none.
func (a *app) importKey(
	ctx context.Context, repo store, loc location.Location, env []byte, f *envelope.Keyfile, replace bool,
) error {
	dirs, err := envelope.KeysDirs()
	if err != nil {
		return err
	}
	there, err := envelope.FindKeyfile(dirs, repo.ID())
	if err != nil && !errors.Is(err, envelope.ErrNoKeyfile) {
		return err
	}
	result := keyImport{Repository: loc.String(), ID: repo.ID().String(), Keyfile: there}
	if there != "" {
		// One that is damaged stays where it is, and does not hide a sound one.
		if old, err := envelope.ReadKeyfile(there, repo.ID()); err != nil {
			there = ""
		} else if bytes.Equal(old.Text(), f.Text()) {
			return a.tellImport(result, "The key of repository %q is there already: %q.", loc, there)
		} else if !replace {
			return &refusedError{fmt.Sprintf("repository %q has a key file already, and a different one: %q; with --replace "+
				"it is replaced", loc, there)}
		}
	}
	_, err = envelope.OpenKeyfile(f, a.openOptions(ctx, repo, loc, env))
	switch {
	case errors.Is(err, envelope.ErrNoPassphrase) && there == "":
		a.ui.Printf("garret: there is no passphrase to try the key with")
	case err != nil:
		return fmt.Errorf("import the key of repository %q: %w", loc, err)
	default:
		result.Verified = env != nil
	}
	if there != "" && !result.Verified {
		return &refusedError{fmt.Sprintf("repository %q has no manifest, so that the key cannot be tried; key file %q is left as "+
			"it is", loc, there)}
	}
	if there != "" {
		err = f.Replace(there)
	} else {
		result.Keyfile = envelope.KeyfilePath(dirs[0], loc.Host, loc.Path)
		err = f.Save(result.Keyfile)
	}
	if err != nil {
		return err
	}
	result.Imported = true
	return a.tellImport(result, "The key of repository %q is imported to %q.", loc, result.Keyfile)
}

// keyImport is what key import prints as JSON.
type keyImport struct {
	Repository string `json:"repository"`
	ID         string `json:"id"`
	Keyfile    string `json:"keyfile"`
	Imported   bool   `json:"imported"`
	Verified   bool   `json:"verified"`
}

func (a *app) tellImport(result keyImport, format string, args ...any) error {
	if a.json {
		return a.emit(result)
	}
	a.ui.Printf(format, args...)
	return nil
}
