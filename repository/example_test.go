package repository_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"garret/repository"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	r, err := repository.Create(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	value := []byte("a photograph")
	id := repository.ID(sha256.Sum256(value))
	if err := r.Put(ctx, id, value); err != nil {
		log.Fatal(err)
	}
	// Durable when it returns.
	if err := r.Commit(ctx); err != nil {
		log.Fatal(err)
	}

	got, err := r.Get(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", got)
	// Output: a photograph
}

func ExampleRepository_Rollback() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := repository.Create(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	_ = r.Put(ctx, repository.ID{1}, []byte("one"))
	_ = r.Rollback()
	_, err = r.Get(ctx, repository.ID{1})
	fmt.Println(errors.Is(err, repository.ErrNotFound))
	// Output: true
}

func ExampleRepository_GetMany() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := repository.Create(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	ids := []repository.ID{{1}, {2}, {3}}
	for i, id := range ids {
		if err := r.Put(ctx, id, fmt.Appendf(nil, "value %d", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := r.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	for value, err := range r.GetMany(ctx, slices.Values(ids)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", value)
	}
	// Output:
	// value 0
	// value 1
	// value 2
}

func ExampleRepository_Check() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "repo")
	r, err := repository.Create(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Put(ctx, repository.ID{1}, []byte("value")); err != nil {
		log.Fatal(err)
	}
	if err := r.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	if err := r.Close(); err != nil {
		log.Fatal(err)
	}

	// OpenForCheck also opens what Open refuses with ErrCheckNeeded.
	if r, err = repository.OpenForCheck(ctx, path, nil); err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	report, err := r.Check(ctx, repository.CheckOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.OK(), report.Objects)
	// Output: true 1
}
