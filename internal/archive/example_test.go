package archive_test

import (
	"crypto/sha256"
	"fmt"

	"garret/internal/archive"
	"garret/repository"
)

// The stream of items of an archive is written in chunks, and read from them again.
func Example() {
	store := make(map[repository.ID][]byte)
	w := archive.NewItemWriter(0, func(data []byte) (repository.ID, error) {
		id := repository.ID(sha256.Sum256(data))
		store[id] = append([]byte(nil), data...)
		return id, nil
	})
	for _, path := range []string{"a", "a/b"} {
		if err := w.Add(&archive.Item{Path: path, Mode: 0o40755}); err != nil {
			fmt.Println(err)
			return
		}
	}
	ids, err := w.Flush()
	if err != nil {
		fmt.Println(err)
		return
	}

	var d archive.ItemDecoder
	for _, id := range ids {
		d.Feed(store[id])
		for {
			it, ok, err := d.Next()
			if err != nil {
				fmt.Println(err)
				return
			}
			if !ok {
				break // the next chunk is needed
			}
			fmt.Println(it.Path)
		}
	}
	if err := d.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// a
	// a/b
}
