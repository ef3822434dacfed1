package rpc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"garret/repository"
)

// Version 3 reads a repository that needs a repair; the others refuse, as they always did.
func TestADamagedRepositoryIsReadThroughAServer(t *testing.T) {
	eachVersion(t, func(t *testing.T, v int) {
		ctx := t.Context()
		path := filepath.Join(t.TempDir(), "repo")
		r, err := repository.Create(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		id, value := numbered(7)
		if err := errors.Join(r.Put(ctx, id, value), r.Commit(ctx), r.Close()); err != nil {
			t.Fatal(err)
		}
		segment := filepath.Join(path, "data/0/1")
		b, err := os.ReadFile(segment)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-3] ^= 0x10 // of the COMMIT
		if err := os.WriteFile(segment, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := connect(t, path, ClientOptions{Version: v, Damaged: true}, ServerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mustRepair(t, c, path) })
		got, err := c.Get(ctx, id)
		if v < 3 {
			if c.Damage() != nil || !errors.Is(err, repository.ErrCheckNeeded) {
				t.Errorf("got %v, and damage %v", err, c.Damage())
			}
			return
		}
		if err != nil || string(got) != string(value) {
			t.Errorf("got %q, %v", got, err)
		}
		if damage := c.Damage(); !errors.Is(damage, repository.ErrCheckNeeded) || !strings.Contains(damage.Error(), "segment 1 ends with a commit that is damaged") {
			t.Errorf("the damage is %v", damage)
		}
		if report, err := c.Check(ctx, repository.CheckOptions{}); err != nil || report.OK() {
			t.Errorf("a check finds nothing: %v", err)
		}
		if _, err := c.Check(ctx, repository.CheckOptions{Repair: true}); !errors.Is(err, repository.ErrReadOnly) {
			t.Errorf("a repair gives %v", err)
		}
		if err := errors.Join(c.Put(ctx, id, nil), c.Commit(ctx)); !errors.Is(err, repository.ErrReadOnly) && !errors.Is(err, repository.ErrFailed) {
			t.Errorf("it can be written to: %v", err)
		}
	})
}

// mustRepair ends a conversation and repairs the repository, for whoever checks it at the end.
func mustRepair(t *testing.T, c *Client, path string) {
	t.Helper()
	c.Close()
	r, err := repository.OpenForCheck(context.Background(), path, &repository.Options{Exclusive: true, LockWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Check(context.Background(), repository.CheckOptions{Repair: true})
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
}
