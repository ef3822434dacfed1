package archive

import (
	"fmt"

	"garret/internal/rawpack"
	"garret/repository"
)

// Lost says what a repair could not bring back, so that a backup which stores it once more can tell that, and heal the
// files. It stands in the manifest's config, where Attic leaves it alone:
//
//	{garret_lost: {archives: [name, ...], chunks: [id [32], ...]}}
type Lost struct {
	Archives []string        // that have files with zeros in the place of lost chunks
	Chunks   []repository.ID // that are lost, or the first MaxLostChunks of them
}

// MaxLostChunks is how many lost chunks a manifest remembers: they are written with every manifest.
const MaxLostChunks = 2000

// The keys of what is lost. They are wire format.
const (
	keyLost         = "garret_lost"
	keyLostArchives = "archives"
	keyLostChunks   = "chunks"
)

// Lost returns what the manifest remembers of what is lost. What does not have the form of that is nothing.
func (m *Manifest) Lost() Lost {
	var lost Lost
	if m.Config == nil {
		return lost
	}
	r := rawpack.NewReader(m.Config)
	r.Map(func(key string) {
		if key != keyLost {
			r.Value()
			return
		}
		r.Map(func(key string) {
			switch key {
			case keyLostArchives:
				for range r.ArrayLen() {
					if name := r.Text(); r.Err() == nil {
						lost.Archives = append(lost.Archives, name)
					}
				}
			case keyLostChunks:
				for range min(r.ArrayLen(), r.Len()/minIDSize) {
					if id := readID(r); r.Err() == nil {
						lost.Chunks = append(lost.Chunks, id)
					}
				}
			default:
				r.Value()
			}
		})
	})
	if r.Err() != nil {
		return Lost{}
	}
	return lost
}

// SetLost replaces what the manifest remembers of what is lost. The rest of its config stays. The error is that of a config
// that is no map, and matches repository.ErrIntegrity.
func (m *Manifest) SetLost(lost Lost) error {
	type pair struct {
		key   string
		value []byte
	}
	var pairs []pair
	if m.Config != nil {
		r := rawpack.NewReader(m.Config)
		r.Map(func(key string) {
			if value := r.Value(); key != keyLost {
				pairs = append(pairs, pair{key, value})
			}
		})
		if err := r.Err(); err != nil {
			return fmt.Errorf("the manifest's config: %w: %w", err, repository.ErrIntegrity)
		}
	}
	if len(lost.Archives) > 0 && len(lost.Chunks) > 0 {
		b := rawpack.AppendMapHeader(nil, 2)
		b = rawpack.AppendRaw(b, keyLostArchives)
		b = rawpack.AppendArrayHeader(b, len(lost.Archives))
		for _, name := range lost.Archives {
			b = rawpack.AppendRaw(b, name)
		}
		chunks := lost.Chunks[:min(len(lost.Chunks), MaxLostChunks)]
		b = rawpack.AppendRaw(b, keyLostChunks)
		b = rawpack.AppendArrayHeader(b, len(chunks))
		for i := range chunks {
			b = rawpack.AppendRaw(b, chunks[i][:])
		}
		pairs = append(pairs, pair{keyLost, b})
	}
	config := rawpack.AppendMapHeader(nil, len(pairs))
	for _, p := range pairs {
		config = append(rawpack.AppendRaw(config, p.key), p.value...)
	}
	m.Config = config
	return nil
}
