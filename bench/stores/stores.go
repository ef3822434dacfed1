package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"

	"garret/repository"
)

// A store keeps values under keys of 32 bytes. Each has the defaults of its module, but says nothing.
type store interface {
	// putAll stores n values, of which next returns one after the other, each with memory of its own. All are on stable
	// storage when it returns.
	putAll(n int, next func(i int) (key repository.ID, value []byte)) error
	// get returns a value that stays as it is.
	get(key repository.ID) ([]byte, error)
	// list returns all keys.
	list() ([]repository.ID, error)
	// check verifies what the store can verify.
	check() error
	close() error
}

var stores = []struct {
	name string
	open func(dir string) (store, error) // which is made if it is not there
}{
	{"garret", openGarret}, {"bbolt", openBolt}, {"pebble", openPebble}, {"badger", openBadger},
}

type garretStore struct{ *repository.Repository }

func openGarret(dir string) (store, error) {
	path := filepath.Join(dir, "repo")
	r, err := repository.Open(context.Background(), path, nil)
	if err != nil {
		r, err = repository.Create(context.Background(), path, nil)
	}
	return garretStore{r}, err
}

func (s garretStore) putAll(n int, next func(int) (repository.ID, []byte)) error {
	for i := range n {
		key, value := next(i)
		if err := s.Put(context.Background(), key, value); err != nil {
			return err
		}
	}
	return s.Commit(context.Background())
}

func (s garretStore) get(key repository.ID) ([]byte, error) { return s.Get(context.Background(), key) }

func (s garretStore) list() ([]repository.ID, error) { return s.List(context.Background(), 0, nil) }

func (s garretStore) check() error {
	report, err := s.Check(context.Background(), repository.CheckOptions{})
	if err == nil && !report.OK() {
		err = fmt.Errorf("%v", report)
	}
	return err
}

func (s garretStore) close() error { return s.Close() }

type boltStore struct{ *bbolt.DB }

var bucket = []byte("objects")

func openBolt(dir string) (store, error) {
	db, err := bbolt.Open(filepath.Join(dir, "bolt"), 0o600, nil)
	return boltStore{db}, err
}

func (s boltStore) putAll(n int, next func(int) (repository.ID, []byte)) error {
	return s.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		for i := 0; i < n && err == nil; i++ {
			key, value := next(i)
			err = b.Put(key[:], value)
		}
		return err
	})
}

func (s boltStore) get(key repository.ID) (value []byte, err error) {
	err = s.View(func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucket).Get(key[:]))
		return nil
	})
	return value, err
}

func (s boltStore) list() (keys []repository.ID, err error) {
	err = s.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			keys = append(keys, repository.ID(k))
		}
		return nil
	})
	return keys, err
}

// check verifies the structure. There are no checksums of what is in it.
func (s boltStore) check() error {
	return s.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return nil
	})
}

func (s boltStore) close() error { return s.Close() }

type pebbleStore struct{ *pebble.DB }

type silent struct{}

func (silent) Infof(string, ...any)         {}
func (silent) Errorf(string, ...any)        {}
func (silent) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

func openPebble(dir string) (store, error) {
	db, err := pebble.Open(filepath.Join(dir, "pebble"), &pebble.Options{Logger: silent{}})
	return pebbleStore{db}, err
}

// batchSize is how much is put at once, in bytes. What comes last is synced, and all before it with it.
const batchSize = 1 << 20

func (s pebbleStore) putAll(n int, next func(int) (repository.ID, []byte)) error {
	b := s.NewBatch()
	for i := range n {
		key, value := next(i)
		if err := b.Set(key[:], value, nil); err != nil {
			return err
		}
		if b.Len() >= batchSize && i < n-1 {
			if err := b.Commit(pebble.NoSync); err != nil {
				return err
			}
			b = s.NewBatch()
		}
	}
	return b.Commit(pebble.Sync)
}

func (s pebbleStore) get(key repository.ID) ([]byte, error) {
	value, closer, err := s.Get(key[:])
	if err != nil {
		return nil, err
	}
	value = bytes.Clone(value)
	return value, closer.Close()
}

func (s pebbleStore) list() (keys []repository.ID, err error) {
	err = s.each(func(it *pebble.Iterator) error {
		keys = append(keys, repository.ID(it.Key()))
		return nil
	})
	return keys, err
}

// check reads everything, and so has the checksums of all blocks verified.
func (s pebbleStore) check() error {
	return s.each(func(it *pebble.Iterator) error { _, err := it.ValueAndErr(); return err })
}

func (s pebbleStore) each(f func(*pebble.Iterator) error) error {
	it, err := s.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = f(it)
	}
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (s pebbleStore) close() error { return s.Close() }

type badgerStore struct{ *badger.DB }

func openBadger(dir string) (store, error) {
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(dir, "badger")).WithLogger(nil))
	return badgerStore{db}, err
}

func (s badgerStore) putAll(n int, next func(int) (repository.ID, []byte)) error {
	b := s.NewWriteBatch()
	defer b.Cancel()
	for i := range n {
		key, value := next(i)
		if err := b.Set(key[:], value); err != nil {
			return err
		}
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return s.Sync()
}

func (s badgerStore) get(key repository.ID) (value []byte, err error) {
	err = s.View(func(tx *badger.Txn) error {
		item, err := tx.Get(key[:])
		if err == nil {
			value, err = item.ValueCopy(nil)
		}
		return err
	})
	return value, err
}

func (s badgerStore) list() (keys []repository.ID, err error) {
	err = s.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			keys = append(keys, repository.ID(it.Item().Key()))
		}
		return nil
	})
	return keys, err
}

func (s badgerStore) check() error { return s.VerifyChecksum() }

func (s badgerStore) close() error { return s.Close() }
