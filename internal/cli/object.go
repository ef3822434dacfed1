package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"garret/internal/location"
	"garret/repository"
)

func (a *app) objectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "object",
		Short: "Handle the objects of a repository as they are stored",
		Long: `Handle the objects of a repository as they are stored: no key is needed, and nothing is decrypted. An object is named
by its id, 64 hexadecimal digits.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return &usageError{`"garret object" needs one of: list, get, put, delete`}
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.objectListCommand(), a.objectGetCommand(), a.objectPutCommand(), a.objectDeleteCommand())
	return cmd
}

func (a *app) objectListCommand() *cobra.Command {
	var digest bool
	cmd := &cobra.Command{
		Use:   "list [REPO]",
		Short: "List the ids of all objects",
		Long: `List the ids of all objects.

With --json, a line for each: "id" and, with --digest, "size" in bytes and "sha256", both of the value as it is stored.`,
		Example: `  garret object list /backup/photos | wc -l`,
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			repo, _, err := a.objects(cmd, args, false)
			if err != nil {
				return err
			}
			defer repo.Close()
			out := bufio.NewWriter(a.stdout)
			defer func() { err = errors.Join(err, out.Flush()) }()
			enc := newEncoder(out)
			for id, err := range repo.All(cmd.Context()) {
				if err != nil {
					return err
				}
				o := objectJSON{ID: id.String()}
				if digest {
					data, err := repo.Get(cmd.Context(), id)
					if err != nil {
						return err
					}
					size := len(data)
					o.Size, o.SHA256 = &size, fmt.Sprintf("%x", sha256.Sum256(data))
				}
				if a.json {
					if err := enc.Encode(o); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintln(out, strings.TrimSpace(o.ID+" "+o.SHA256))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&digest, "digest", false, "add the SHA-256 of each value")
	return cmd
}

func (a *app) objectGetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get [REPO] ID...",
		Short: "Write objects to standard output",
		Long: `Write the values of objects to standard output, as they are stored, one after another.

With --json, a line for each: "id", "size" in bytes, "sha256", and "value" in base64.`,
		Example: `  garret object get /backup/photos 0000000000000000000000000000000000000000000000000000000000000000 | xxd | head`,
		Args:    args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, ids, err := a.objects(cmd, args, false)
			if err != nil {
				return err
			}
			defer repo.Close()
			for _, id := range ids {
				data, err := repo.Get(cmd.Context(), id)
				if err != nil {
					return err
				}
				if a.json {
					size := len(data)
					err = a.emit(objectJSON{ID: id.String(), Size: &size, SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Value: data})
				} else {
					_, err = a.stdout.Write(data)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) objectPutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "put [REPO] ID...",
		Short: "Store standard input as an object, and commit",
		Long: `Store standard input as an object, or as several with the same value, and commit. Objects that exist are replaced.

With --json, a line for each once it is committed: "id".`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, ids, err := a.objects(cmd, args, true)
			if err != nil {
				return err
			}
			defer repo.Close()
			data, err := readAll(cmd.Context(), io.LimitReader(a.stdin, repository.MaxObjectSize+1))
			if err != nil {
				return fmt.Errorf("read standard input: %w", err)
			}
			for _, id := range ids {
				if err := repo.Put(cmd.Context(), id, data); err != nil {
					return err
				}
			}
			if err := repo.Commit(cmd.Context()); err != nil {
				return err
			}
			return a.tellObjects(ids)
		},
	}
}

// readAll is io.ReadAll that ends with the context. The goroutine that reads may then stay behind.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	results := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(r)
		results <- result{data, err}
	}()
	select {
	case r := <-results:
		return r.data, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (a *app) objectDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete [REPO] ID...",
		Short: "Delete objects, and commit",
		Long: `Delete objects, and commit. If one of them does not exist, none is deleted.

With --json, a line for each once that is committed: "id".`,
		Args: args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, ids, err := a.objects(cmd, args, true)
			if err != nil {
				return err
			}
			defer repo.Close()
			for _, id := range ids {
				if err := repo.Delete(cmd.Context(), id); err != nil {
					return err
				}
			}
			if err := repo.Commit(cmd.Context()); err != nil {
				return err
			}
			return a.tellObjects(ids)
		},
	}
}

// objectJSON is an object as the commands print it.
type objectJSON struct {
	ID     string `json:"id"`
	Size   *int   `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Value  []byte `json:"value,omitzero"`
}

// tellObjects prints the objects that were changed, if that is to be JSON.
func (a *app) tellObjects(ids []repository.ID) error {
	if !a.json {
		return nil
	}
	for _, id := range ids {
		if err := a.emit(objectJSON{ID: id.String()}); err != nil {
			return err
		}
	}
	return nil
}

// objects opens the repository that the arguments of an object command begin with, and reads the ids that follow.
// The repository is left out if GARRET_REPO is set and all are ids.
func (a *app) objects(cmd *cobra.Command, args []string, write bool) (store, []repository.ID, error) {
	repo := ""
	if len(args) > 0 {
		_, byDefault := defaultRepo()
		if _, err := repository.ParseID(args[0]); err != nil || byDefault == "" {
			repo, args = args[0], args[1:]
		}
	}
	loc, err := a.location(repo, false)
	if err != nil {
		return nil, nil, err
	}
	var ids []repository.ID
	for _, arg := range args {
		id, err := repository.ParseID(arg)
		if err != nil {
			return nil, nil, &usageError{err.Error()}
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 && cmd.Name() != "list" {
		return nil, nil, &usageError{"no object is named; the usage is: " + cmd.UseLine()}
	}
	r, err := a.openStore(cmd.Context(), loc, write)
	if err == nil {
		a.say("Repository %q: id %v.", loc, r.ID())
	}
	return r, ids, err
}

// anyLocation reads the location of a repository or of an archive.
func (a *app) anyLocation(arg string) (location.Location, error) {
	l, err := location.Parse(arg)
	return a.location(arg, err == nil && l.Archive != "")
}
