package archive

import (
	"fmt"
	"time"

	"garret/internal/rawpack"
	"garret/repository"
)

// Unknown are the keys of a record that this program does not know, and their values: pairs of msgpack, one after another, as
// they were read. They are written again behind the others, so that nothing is lost of what a later version, or another
// program, has put there.
type Unknown string

// appendPair appends a key that was read and the value that comes next.
func appendPair(pairs []byte, key string, r *rawpack.Reader) []byte {
	return append(rawpack.AppendRaw(pairs, key), r.Value()...)
}

// len returns how many pairs there are.
func (u Unknown) len() (n int) {
	for r := rawpack.NewReader([]byte(u)); r.Len() > 0 && r.Err() == nil; n++ {
		r.Value()
		r.Value()
	}
	return n
}

// newer returns an error that matches repository.ErrNewer if a record that could not be read is whole, and of a version that
// is to come, or else nil. What a version of to-day takes for wrong may be right in that one.
func newer(what string, data []byte) error {
	version := int64(0)
	r := rawpack.NewReader(data)
	r.Map(func(key string) {
		if value := r.Value(); key == "version" {
			version = rawpack.NewReader(value).Int(0, 1<<15)
		}
	})
	if r.End(); r.Err() != nil || version <= recordVersion {
		return nil
	}
	return fmt.Errorf("decode %s: %w: it has version %d", what, repository.ErrNewer, version)
}

// LooksNewer returns the name and the time of an archive whose record data seems to be, of a version that is to come, or nil.
// It is for those who look for archives' records among other objects.
func LooksNewer(data []byte) *Archive {
	if len(data) == 0 || !isMap(data[0]) || newer("archive", data) == nil {
		return nil
	}
	var a *Archive
	var at time.Time
	r := rawpack.NewReader(data)
	r.Map(func(key string) {
		value := r.Value()
		switch v := rawpack.NewReader(value); {
		case key == "name" && v.NextIsRaw():
			a = &Archive{Name: v.Text()}
		case key == "time":
			if t := readTime(v); v.Err() == nil {
				at = t
			}
		}
	})
	if a != nil {
		a.Time = at
	}
	return a
}

// newerItem is newer of an item, which has no version: it is whole, and has a path and a mode.
func newerItem(data []byte, why error) error {
	seen := 0
	r := rawpack.NewReader(data)
	r.Map(func(key string) {
		raw := r.NextIsRaw()
		if value := r.Value(); key == keyPath && raw || key == keyMode && len(value) > 0 && isInt(value[0]) {
			seen++
		}
	})
	if r.End(); r.Err() != nil || seen != 2 {
		return nil
	}
	return fmt.Errorf("decode item: %w: %w", repository.ErrNewer, why)
}
