package fsck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"garret/internal/archive"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/repository"
)

// readManifest reads the manifest. If that is lost, c.manifest stays nil; in a repository without objects it is empty.
func (c *Check) readManifest(ctx context.Context) error {
	if len(c.objects.ids) == 0 {
		c.manifest = &archive.Manifest{Archives: map[string]archive.ArchiveRef{}}
		return nil
	}
	id := archive.ManifestID
	lost := func(err error) error {
		c.find(Finding{Kind: LostManifest, Object: &id, Err: fmt.Errorf("the manifest is lost: %w", err)})
		return nil
	}
	i := c.objects.find(id)
	if i < 0 || c.objects.marks[i].has(gone) {
		return lost(repository.ErrNotFound)
	}
	var data []byte
	for range 2 { // damage may have happened on the way
		env, err := c.store.Get(ctx, id)
		switch {
		case isLost(err):
			c.report.StoreDamaged = true
			return lost(err)
		case err != nil:
			return fmt.Errorf("read the manifest: %w", err)
		}
		c.env = env
		if data, err = c.key.Open(nil, env); err == nil {
			break
		}
		if isNewer(err) {
			return fmt.Errorf("read the manifest: %w", err)
		}
	}
	c.report.NonceEnd = envelope.NonceEnd(c.env)
	if data == nil {
		return lost(errors.New("its content is wrong"))
	}
	m, err := archive.DecodeManifest(data)
	switch {
	case isNewer(err):
		return err
	case err != nil:
		return lost(err)
	}
	c.manifest = m
	return nil
}

// An entry is an archive as the manifest lists it.
type entry struct {
	name string
	archive.ArchiveRef
}

func (e entry) compare(b entry) int {
	return cmp.Or(e.Time.Compare(b.Time), cmp.Compare(e.name, b.name))
}

// entries returns the archives, the oldest first.
func entries(m *archive.Manifest) []entry {
	var all []entry
	for name, ref := range m.Archives {
		all = append(all, entry{name, ref})
	}
	slices.SortFunc(all, entry.compare)
	return all
}

// archives looks at all archives, and reports whether it came to the end.
func (c *Check) archives(ctx context.Context) (bool, error) {
	all := entries(c.manifest)
	hurry := !c.objects.anyDamaged()
	s := c.Progress.begin("archive", int64(len(all)))
	from := entry{name: c.From.Archive, ArchiveRef: archive.ArchiveRef{Time: c.From.Time}}
	var last *entry
	for _, e := range all {
		s.path.Store(&e.name)
		if c.From.Archive == "" || !hurry || e.compare(from) > 0 {
			if hurry && last != nil && c.isLate() {
				c.report.Partial = true
				c.report.Next = Position{Verified: true, Time: last.Time, Archive: last.name}
				return false, nil
			}
			c.report.Archives++
			if err := c.archive(ctx, e); err != nil {
				return false, err
			}
			last = &e
		}
		s.done.Add(1)
	}
	return true, nil
}

// archive looks at one archive.
func (c *Check) archive(ctx context.Context, e entry) error {
	data, err := c.read(ctx, e.ID)
	var a *archive.Archive
	if err == nil {
		if a, err = archive.DecodeArchive(data); err == nil && !archive.LooksLikeArchive(data) {
			err = fmt.Errorf("object %v is no record of an archive: %w", e.ID, repository.ErrIntegrity)
		}
	}
	switch {
	case isNewer(err):
		c.objects.mark(e.ID, used)
		c.report.KeepsOrphans = true
		c.find(Finding{Kind: UnknownArchive, Archive: e.name, Object: &e.ID, Err: err})
		return nil
	case isLost(err):
		c.report.Dropped = append(c.report.Dropped, e.name)
		c.find(Finding{Kind: LostArchive, Archive: e.name, Object: &e.ID, Err: fmt.Errorf("its record is lost: %w", err)})
		return nil
	case err != nil:
		return err
	}
	w := walk{Check: c, name: e.name, hit: map[string]bool{}}
	err = c.items(ctx, a.Items, stream{
		item: w.item,
		gap:  w.gap,
		skip: func() bool { return len(w.hit) == 0 }, // else a link to one of these may be in there
	})
	if err != nil {
		return err
	}
	if w.gaps {
		w.dirty = !c.heals
		if err := w.findLostLinks(ctx, a.Items); err != nil {
			return err
		}
	}
	state := used
	if w.unknown {
		w.dirty = false
		c.report.KeepsOrphans = true
	}
	if w.dirty {
		state = superseded
		c.rewrite[e.name] = true
	}
	c.objects.mark(e.ID, state)
	for _, id := range a.Items {
		c.objects.mark(id, state)
	}
	return nil
}

// A stream says what is done with the items of an archive.
type stream struct {
	item func(ctx context.Context, it *archive.Item) (sound bool, err error)
	gap  func(id *repository.ID, err error) // some items are lost
	skip func() bool                        // whether items that were found sound in another archive may be passed over
}

// A piece is a chunk of an item stream all of whose items were found sound: when another archive has it too, and in the
// same place between its items, only those at its ends have to be looked at again.
type piece struct {
	head, tail []byte // what belongs to items that began before, and that end after it
	items      int64  // between these
}

// Pieces take a few hundred bytes for each chunk of 64 KiB. Longer ones are not kept.
const maxPieceEnds = 8 << 10

// items goes through the items of an archive.
func (c *Check) items(ctx context.Context, ids []repository.ID, s stream) error {
	var fetch []repository.ID
	for _, id := range ids {
		if s.skip == nil || c.pieces[id] == nil {
			fetch = append(fetch, id)
		}
	}
	ahead := c.newReadAhead(ctx, fetch)
	defer ahead.stop()
	r := itemReader{stream: s}
	for _, id := range ids {
		fed := 0
		if p := c.pieces[id]; p != nil && s.skip != nil && s.skip() && r.dec.InSync() {
			if _, err := r.feed(ctx, p.head); err != nil {
				return err
			}
			if r.dec.InSync() && r.dec.Buffered() == 0 {
				r.dec.Feed(p.tail)
				c.report.Items += p.items
				continue
			}
			fed = len(p.head) // the stream is another here
		}
		data, err := ahead.read(ctx, id)
		if err != nil {
			if !isLost(err) && !isNewer(err) {
				return err
			}
			s.gap(&id, err)
			r.dec.Skip()
			continue
		}
		p, err := r.feed(ctx, data[fed:])
		if err != nil {
			return err
		}
		if s.skip != nil && fed == 0 && p != nil {
			c.pieces[id] = p
		}
	}
	if err := r.dec.Close(); err != nil {
		s.gap(nil, err)
		r.dec.Recover()
	}
	_, err := r.feed(ctx, nil)
	return err
}

type itemReader struct {
	stream
	dec archive.ItemDecoder
}

// feed looks at all items that end in a chunk of the stream. The chunk is a piece, if it can be one.
func (r *itemReader) feed(ctx context.Context, data []byte) (*piece, error) {
	sound, items := r.dec.InSync(), int64(0)
	head := 0
	if r.dec.Buffered() > 0 {
		head = -1 // until the item ends that began before
	}
	r.dec.Feed(data)
	for {
		it, ok, err := r.dec.Next()
		if err != nil {
			r.gap(nil, err)
			r.dec.Recover()
			sound = false
			continue
		}
		if !ok {
			break
		}
		fine, err := r.item(ctx, it)
		if err != nil {
			return nil, err
		}
		if head < 0 {
			head = len(data) - r.dec.Buffered()
			continue
		}
		items++
		sound = sound && fine
	}
	tail := len(data) - r.dec.Buffered()
	if !sound || head < 0 || head+r.dec.Buffered() > maxPieceEnds {
		return nil, nil
	}
	return &piece{bytes.Clone(data[:head]), bytes.Clone(data[tail:]), items}, nil
}

// readAhead fetches objects before they are asked for.
type readAhead struct {
	check   *Check
	ids     []repository.ID // that have been, or will be, fetched; the first is the next
	results []chan result   // of the first ids
	cancel  context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup
}

type result struct {
	data []byte
	err  error
}

// ahead is how many chunks of an item stream are fetched at a time. They have 64 KiB or so, at most 10 MiB.
const ahead = 8

func (c *Check) newReadAhead(ctx context.Context, ids []repository.ID) *readAhead {
	r := &readAhead{check: c, ids: ids}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

func (r *readAhead) stop() {
	r.cancel()
	r.running.Wait()
}

// read returns the data of an object, and takes note if it is lost.
func (r *readAhead) read(ctx context.Context, id repository.ID) ([]byte, error) {
	if len(r.ids) == 0 || r.ids[0] != id {
		return r.check.read(ctx, id)
	}
	for len(r.results) < min(ahead, len(r.ids)) {
		next, out := r.ids[len(r.results)], make(chan result, 1)
		r.results = append(r.results, out)
		r.running.Go(func() {
			data, _, err := r.check.open(r.ctx, next)
			out <- result{data, err}
		})
	}
	got := <-r.results[0]
	r.ids, r.results = r.ids[1:], r.results[1:]
	if err := r.check.absent(id); err != nil {
		return nil, err
	}
	return got.data, r.check.note(id, got.err)
}

// A walk is through the items of one archive.
type walk struct {
	*Check
	name  string
	dirty bool // it is to be written anew
	// unknown says that a newer garret has made some of its items, so that it cannot be written anew.
	unknown bool
	gaps    bool            // items are lost
	hit     map[string]bool // files of which something is lost
	found   *Finding        // not reported yet, as the next chunk may be lost too
	more    int             // chunks beyond the first that it is about
}

// gap reports that items are lost, or not known.
func (w *walk) gap(id *repository.ID, err error) {
	if isNewer(err) {
		if !w.unknown {
			w.find(Finding{Kind: UnknownArchive, Archive: w.name, Object: id, Err: fmt.Errorf("some of its items are not known: %w", err)})
		}
		w.unknown = true
		return
	}
	w.gaps = true
	w.report.Gaps++
	w.find(Finding{Kind: LostItems, Archive: w.name, Object: id, Err: fmt.Errorf("some of its items are lost: %w", err)})
}

// item looks at an item, and reports whether all is well with it.
func (w *walk) item(ctx context.Context, it *archive.Item) (bool, error) {
	w.report.Items++
	if isLink(it) && w.hit[it.Source] {
		w.find(Finding{
			Kind: DamagedLink, Archive: w.name, Path: it.Path,
			Err: fmt.Errorf("it is another name of %q, of which something is lost", it.Source),
		})
		return false, nil
	}
	var lost, healed, resized, patched, strange bool
	err := settle(ctx, w.objects, it, func(v verdict) error {
		if v.fate != fateLost {
			w.objects.mark(v.use.ID, used|content)
		}
		if w.objects.is(v.use.ID, unknown) {
			strange = true
			w.piece(it, v, UnknownChunk, fmt.Errorf("chunk %v: %w", v.use.ID, repository.ErrNewer))
		}
		switch v.fate {
		case fateLost:
			lost = true
			w.report.PatchedBytes += int64(v.use.Size)
			w.objects.mark(v.use.ID, wanted) // if it is there, it is damaged
			w.wounded.add(w.name, v.healthy.ID)
			w.piece(it, v, LostChunk, w.why(v.use.ID))
		case fatePatched:
			patched = true
			w.wounded.add(w.name, v.healthy.ID)
			w.objects.mark(v.healthy.ID, wanted)
		case fateHealed:
			healed = true
			w.objects.mark(it.Chunks[v.i].ID, superseded)
			w.piece(it, v, Healable, errors.New("what was lost is there again"))
		case fateSound:
			if v.resized {
				resized = true
				w.piece(it, v, WrongSize, fmt.Errorf("chunk %v has %d", v.use.ID, v.use.Size))
			}
		}
		return nil
	})
	w.tell()
	if lost {
		w.hit[it.Path] = true
		w.report.Patched++
	}
	if healed {
		w.report.Healable++
	}
	if resized {
		w.report.Resized++
	}
	if patched && !lost {
		w.report.Wounded++
	}
	w.dirty = w.dirty || healed || (lost || resized) && !w.heals
	return !lost && !healed && !resized && !patched && !strange, err
}

// isLink reports whether an item is another name of an item before.
func isLink(it *archive.Item) bool {
	return it.Source != "" && it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && len(it.Chunks) == 0
}

// findLostLinks looks for hard links to what was in the gaps. It goes through the items twice more, as few are linked.
func (w *walk) findLostLinks(ctx context.Context, ids []repository.ID) error {
	links := map[string][]string{}
	each := func(do func(it *archive.Item)) error {
		return w.items(ctx, ids, stream{
			item: func(_ context.Context, it *archive.Item) (bool, error) {
				do(it)
				return true, nil
			},
			gap: func(*repository.ID, error) {},
		})
	}
	err := each(func(it *archive.Item) {
		if isLink(it) {
			links[it.Source] = append(links[it.Source], it.Path)
		}
	})
	if err == nil && len(links) > 0 {
		err = each(func(it *archive.Item) {
			if !isLink(it) {
				delete(links, it.Path)
			}
		})
	}
	if err != nil || len(links) == 0 {
		return err
	}
	lost := map[string]bool{}
	for _, source := range slices.Sorted(maps.Keys(links)) {
		lost[source] = true
		for _, path := range links[source] {
			w.report.LostLinks++
			w.find(Finding{
				Kind: LostLink, Archive: w.name, Path: path, Err: fmt.Errorf("it is another name of %q, which is lost", source),
			})
		}
	}
	w.dangling[w.name] = lost
	return nil
}

// why says why a chunk is lost.
func (w *walk) why(id repository.ID) error {
	if i := w.objects.find(id); i >= 0 && w.objects.marks[i].has(damaged) {
		return fmt.Errorf("chunk %v: its content is wrong: %w", id, repository.ErrIntegrity)
	}
	return fmt.Errorf("chunk %v: %w", id, repository.ErrNotFound)
}

// piece reports a part of a file, together with those of the same kind beside it.
func (w *walk) piece(it *archive.Item, v verdict, kind Kind, why error) {
	size := int64(v.healthy.Size)
	if f := w.found; f != nil && f.Kind == kind && f.Offset+f.Size == v.offset {
		f.Size += size
		w.more++
		return
	}
	w.tell()
	id := v.healthy.ID
	w.found = &Finding{Kind: kind, Archive: w.name, Path: it.Path, Offset: v.offset, Size: size, Object: &id, Err: why}
}

// tell reports what piece has kept.
func (w *walk) tell() {
	if w.found == nil {
		return
	}
	if w.more > 0 {
		w.found.Err = fmt.Errorf("%w, and %d more behind it", w.found.Err, w.more)
	}
	w.find(*w.found)
	w.found, w.more = nil, 0
}

// wounds are what is still lost when a repair is done: what the manifest is to remember.
type wounds struct {
	archives map[string]bool
	chunks   map[repository.ID]bool
}

func (w *wounds) add(name string, chunk repository.ID) {
	if w.archives == nil {
		w.archives, w.chunks = map[string]bool{}, map[repository.ID]bool{}
	}
	w.archives[name] = true
	if len(w.chunks) < archive.MaxLostChunks {
		w.chunks[chunk] = true
	}
}

func (w *wounds) lost() archive.Lost {
	l := archive.Lost{Archives: slices.Sorted(maps.Keys(w.archives))}
	for id := range w.chunks {
		l.Chunks = append(l.Chunks, id)
	}
	slices.SortFunc(l.Chunks, compareIDs)
	return l
}
