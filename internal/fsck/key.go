package fsck

import (
	"context"
	"fmt"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/repository"
)

// sampled is how many objects Samples looks at, and returned how many it returns at most.
const (
	sampled  = 200
	returned = 8
)

// Samples returns some envelopes of a repository, other than the manifest's, by which its key can be found when that is
// lost: all are of the type that most objects have. There are none if the objects are no envelopes, as in a repository
// that is used for something else than archives.
func Samples(ctx context.Context, store Store) ([][]byte, error) {
	ids, err := store.List(ctx, sampled, nil)
	if err != nil {
		return nil, fmt.Errorf("list the objects: %w", err)
	}
	samples := map[envelope.Type][][]byte{}
	count := map[envelope.Type]int{}
	read := 0
	for _, id := range ids {
		if id == archive.ManifestID {
			continue
		}
		env, err := store.Get(ctx, id)
		if err != nil {
			if isLost(err) {
				continue
			}
			return nil, fmt.Errorf("read object %v: %w", id, err)
		}
		read++
		typ, ok := resembles(id, env)
		if !ok {
			continue
		}
		if count[typ]++; len(samples[typ]) < returned {
			samples[typ] = append(samples[typ], env)
		}
	}
	var best envelope.Type
	for typ := range count {
		if count[typ] > count[best] {
			best = typ
		}
	}
	if 2*count[best] <= read { // the first byte alone says little
		return nil, nil
	}
	return samples[best], nil
}

// resembles reports whether an object may be an envelope, and of which type.
func resembles(id repository.ID, env []byte) (envelope.Type, bool) {
	typ, err := envelope.Detect(env)
	if err != nil {
		return 0, false
	}
	if typ.Encrypts() {
		return typ, len(env) > envelope.Overhead
	}
	_, err = envelope.NewPlaintext().Open(&id, env)
	return typ, err == nil
}
