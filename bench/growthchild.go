package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"garret/bench/measure"
	"garret/internal/archive"
	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/repository"
)

// childFlag is what this program calls itself with, followed by a childWork in JSON.
const childFlag = "-growth-child"

// childWork is work of a process of its own, through the library.
type childWork struct {
	Do       string // "make objects", "make archives" or "measure"
	Repo     string
	Objects  int
	Archives int
	Turn     int // of measuring, from 1
}

// A childResult is one work measured.
type childResult struct {
	Work  string
	Usage measure.Usage
}

func child(ctx context.Context, arg string, stdout io.Writer) error {
	var w childWork
	if err := json.Unmarshal([]byte(arg), &w); err != nil {
		return err
	}
	results := []childResult{}
	var err error
	switch w.Do {
	case "make objects":
		err = w.makeObjects(ctx)
	case "make archives":
		err = w.makeArchives(ctx)
	case "measure":
		results, err = w.measure(ctx)
	default:
		err = fmt.Errorf("there is no work %q", w.Do)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.Do, err)
	}
	return json.NewEncoder(stdout).Encode(results)
}

func settle(ctx context.Context) error {
	unix.Sync() // what others have left to write is not to be waited for
	return ctx.Err()
}

func objectID(i int) (id repository.ID) {
	rng := rand.New(rand.NewPCG(uint64(i), 42))
	for k := 0; k < len(id); k += 8 {
		binary.LittleEndian.PutUint64(id[k:], rng.Uint64())
	}
	return id
}

// smallSize is the length in bytes of the objects that are there in numbers.
const smallSize = 100

// put stores objects with the numbers from i on, and commits them.
func put(ctx context.Context, r *repository.Repository, i, count, size int) error {
	value := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(value) // never fails
	for k := i; k < i+count; k++ {
		binary.LittleEndian.PutUint64(value, uint64(k))
		if err := r.Put(ctx, objectID(k), value); err != nil {
			return err
		}
	}
	return r.Commit(ctx)
}

func (w childWork) makeObjects(ctx context.Context) error {
	r, err := repository.Create(ctx, w.Repo, nil)
	if err != nil {
		return err
	}
	return errors.Join(put(ctx, r, 0, w.Objects, smallSize), r.Close())
}

// Objects of the works have numbers that no others have.
const (
	firstNumber = 1 << 40
	turnNumbers = 1 << 20
)

// The dead bytes of compactions: every second object of a segment.
const (
	deadObjects = 32
	deadSize    = 64 << 10
)

// measure does what needs no archives.
func (w childWork) measure(ctx context.Context) (results []childResult, err error) {
	from := firstNumber + w.Turn*turnNumbers
	step := func(work string, each int, do func() error) {
		if err != nil {
			return
		}
		runtime.GC()
		var u measure.Usage
		if u, err = measure.Self(do); err != nil {
			err = fmt.Errorf("%s: %w", work, err)
			return
		}
		results = append(results, childResult{work, u.Each(each)})
	}
	r, err := repository.Open(ctx, w.Repo, &repository.Options{Exclusive: true})
	if err != nil {
		return nil, err
	}
	step("commit one object", commitsAtOnce, func() error {
		for i := range commitsAtOnce {
			if err := put(ctx, r, from+i, 1, smallSize); err != nil {
				return err
			}
		}
		return nil
	})
	from += commitsAtOnce
	if err == nil {
		err = put(ctx, r, from, 2*deadObjects, deadSize)
	}
	step("delete 2 MiB of 4, commit and compact", 1, func() error { return w.deleteHalf(ctx, r, from) })
	from += 2 * deadObjects
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	step("open, get one object, close", opensAtOnce, func() error {
		rng := rand.New(rand.NewPCG(uint64(w.Turn), 1))
		for range opensAtOnce {
			r, err := repository.Open(ctx, w.Repo, nil)
			if err != nil {
				return err
			}
			_, err = r.Get(ctx, objectID(rng.IntN(w.Objects)))
			if err = errors.Join(err, r.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	// A compaction that is asked for has something to do only where commits do not compact.
	if r, err = repository.Open(ctx, w.Repo, &repository.Options{Exclusive: true, CompactThreshold: 2}); err != nil {
		return nil, err
	}
	if err = put(ctx, r, from, 2*deadObjects, deadSize); err == nil {
		err = w.deleteHalf(ctx, r, from)
	}
	step("compact 2 MiB of 4, as a command", 1, func() error {
		freed, err := r.Compact(ctx)
		if err == nil && freed < deadObjects*deadSize {
			err = fmt.Errorf("only %d bytes are freed", freed)
		}
		return err
	})
	return results, errors.Join(err, r.Close())
}

func (w childWork) deleteHalf(ctx context.Context, r *repository.Repository, from int) error {
	for i := range deadObjects {
		if err := r.Delete(ctx, objectID(from+2*i)); err != nil {
			return err
		}
	}
	return r.Commit(ctx)
}

// makeArchives fills a repository with one archive of as many files as there are to be objects, and with small ones.
func (w childWork) makeArchives(ctx context.Context) error {
	r, err := repository.Open(ctx, w.Repo, &repository.Options{Exclusive: true})
	if err != nil {
		return err
	}
	env, err := catalog.Manifest(ctx, r)
	if err == nil {
		var cat *catalog.Catalog
		if cat, err = catalog.New(r, envelope.NewPlaintext(), env); err == nil {
			err = w.makeArchivesIn(ctx, r, cat)
		}
	}
	return errors.Join(err, r.Close())
}

func (w childWork) makeArchivesIn(ctx context.Context, r *repository.Repository, cat *catalog.Catalog) error {
	shared := files{"home/photos", w.Objects}
	if err := makeArchive(ctx, r, cat, "base", shared); err != nil {
		return err
	}
	some := &fewCommits{Repository: r}
	shared.count = archiveFiles
	for i := range w.Archives - 1 {
		name := archiveName(i)
		if err := makeArchive(ctx, some, cat, name, shared, files{"home/" + name, archiveFiles}); err != nil {
			return err
		}
	}
	return r.Commit(ctx)
}

// fewCommits is a repository in which several archives are committed at a time, as it is made: that takes a third of the time.
type fewCommits struct {
	*repository.Repository
	asked int
}

func (r *fewCommits) Commit(ctx context.Context) error {
	if r.asked++; r.asked%10 > 0 {
		return nil
	}
	return r.Repository.Commit(ctx)
}

// files are some below a folder, each with content that only its path decides.
type files struct {
	folder string
	count  int
}

func makeArchive(ctx context.Context, r backup.Store, cat *catalog.Catalog, name string, content ...files) error {
	w, err := backup.NewWriter(ctx, r, cat, backup.Options{Name: name})
	if err != nil {
		return err
	}
	defer w.Close()
	user := "root"
	for _, f := range content {
		for i := range f.count {
			path := fmt.Sprintf("%s/%05d/IMG_%08d.jpeg", f.folder, i/filesPerDir, i)
			err := w.Add(&archive.Item{
				Path: path, Mode: fsmeta.TypeRegular | 0o644, User: &user, Group: &user,
				MTime: archive.Nanos{Sec: 1_400_000_000, Nsec: uint32(i)},
			}, strings.NewReader("This is the content of "+path))
			if err != nil {
				return err
			}
		}
	}
	_, err = w.Finish()
	return err
}
