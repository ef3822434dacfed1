package cli

import (
	"context"
	"sync"

	"garret/internal/cache"
)

// chunks returns the table of what the archives use, brought up to date: archives that are new to this machine are read.
func (s *session) chunks(ctx context.Context) (*cache.Chunks, error) {
	a := s.app
	c := s.known.chunks(a, s.repo.ID())
	var mu sync.Mutex
	var at cache.Progress
	stop := a.ui.Progress(func() (files, bytes int64, path string) {
		mu.Lock()
		defer mu.Unlock()
		return at.Items, at.Bytes, at.Archive
	})
	err := c.Sync(ctx, s.repo, s.cat, func(p cache.Progress) {
		mu.Lock()
		isNew := p.Archive != at.Archive
		at = p
		mu.Unlock()
		if isNew {
			a.say("Reading what archive %q uses (%d of %d)", p.Archive, p.Done+1, p.Total)
		}
	})
	stop()
	a.saveChunks(c) // what has been read need not be read again, even if something else could not be
	return c, err
}

// saveChunks keeps what is known of the chunks, which is worth no more than a message.
func (a *app) saveChunks(c *cache.Chunks) {
	if err := c.Save(); err != nil {
		a.ui.Printf("garret: %s", oneLine(err))
	}
}
