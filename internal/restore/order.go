package restore

import "sync"

// paths are those of the files that are being written. An archive may have a path twice, as one of a tar to which newer
// files were appended: what comes later must not be overtaken by what comes first.
type paths struct {
	mu      sync.Mutex
	changed *sync.Cond
	busy    map[string]bool
}

func newPaths() *paths {
	p := &paths{busy: map[string]bool{}}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// await returns once nobody writes the file.
func (p *paths) await(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy[path] {
		p.changed.Wait()
	}
}

func (p *paths) begin(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy[path] = true
}

func (p *paths) end(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, path)
	p.changed.Broadcast()
}
