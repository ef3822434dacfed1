package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/fsmeta"
)

// isLink reports whether an item is a further name of a file.
func isLink(it *archive.Item) bool {
	return it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular && it.Source != ""
}

// missingSources are the files that are not restored themselves, but under other names that they have, by path.
type missingSources map[string]*missingSource

type missingSource struct {
	item  *archive.Item   // once it has been met
	path  string          // what gets its content instead; nothing yet if empty
	names []*archive.Item // that came before it
}

// missingSources finds these files, which takes a look at all items.
func (r *run) missingSources(ctx context.Context) (missingSources, error) {
	sources := missingSources{}
	if r.Match == nil && r.Strip == 0 {
		return sources, nil
	}
	for it, err := range r.catalog.Items(ctx, r.archive) {
		if catalog.Lost(err) {
			continue // which is told when the items are restored
		}
		if err != nil {
			return nil, err
		}
		if isLink(it) && sources[it.Source] == nil && r.wanted(it.Path) && !r.wanted(it.Source) {
			sources[it.Source] = &missingSource{}
		}
	}
	return sources, nil
}

// found takes an item that may be one of them, and returns the names of it that have waited.
func (m missingSources) found(it *archive.Item) []*archive.Item {
	s := m[it.Path]
	if s == nil || s.item != nil || it.Mode&fsmeta.TypeMask != fsmeta.TypeRegular {
		return nil
	}
	s.item = it
	names := s.names
	s.names = nil
	for _, name := range names {
		s.give(name)
	}
	return names
}

// give makes a name that is restored a file of its own if it is the first, and else another name of that. It reports
// whether that could be done yet: if not, found returns the name later.
func (s *missingSource) give(it *archive.Item) bool {
	switch {
	case s.item == nil:
		s.names = append(s.names, it)
		return false
	case s.path == "":
		s.path = it.Path
		it.HasChunks, it.Chunks, it.ChunksHealthy, it.Source = s.item.HasChunks, s.item.Chunks, s.item.ChunksHealthy, ""
	default:
		it.Source = s.path
	}
	return true
}

// waiting returns the names whose file has not been met.
func (m missingSources) waiting() (names []*archive.Item) {
	for _, path := range slices.Sorted(maps.Keys(m)) {
		names = append(names, m[path].names...)
	}
	return names
}

// makeLinks makes the further names of files. A name may be one of a file that is itself such a name and comes later.
func (r *run) makeLinks(ctx context.Context) {
	for links := r.links.items; len(links) > 0 && ctx.Err() == nil; {
		var missing []*archive.Item
		errs := map[*archive.Item]error{}
		for _, it := range links {
			if ctx.Err() != nil {
				return
			}
			err := r.link(ctx, it)
			if errors.Is(err, errNoSource) {
				missing, errs[it] = append(missing, it), err
				continue
			}
			r.report(it, err)
		}
		if len(missing) == len(links) {
			for _, it := range missing {
				r.report(it, errs[it])
			}
			return
		}
		links = missing
	}
}

// checkLinks makes sure that the files are in the archive of which there are further names.
func (r *run) checkLinks(ctx context.Context) error {
	if len(r.links.items) == 0 || ctx.Err() != nil {
		return nil
	}
	there := map[string]bool{}
	for _, it := range r.links.items {
		there[it.Source] = false
	}
	for it, err := range r.catalog.Items(ctx, r.archive) {
		if catalog.Lost(err) {
			continue // which has been told
		}
		if err != nil {
			return err
		}
		if _, ok := there[it.Path]; ok && it.Mode&fsmeta.TypeMask == fsmeta.TypeRegular {
			there[it.Path] = it.Source != it.Path
		}
	}
	for _, it := range r.links.items {
		var err error
		if !there[it.Source] {
			err = fmt.Errorf("is another name of %q, %w", it.Source, errNoSource)
		}
		r.report(it, err)
	}
	return nil
}

var errNoSource = errors.New("which is not there")

// link gives a file that has been written another name.
func (r *run) link(ctx context.Context, it *archive.Item) error {
	if r.broken[it.Source] {
		return fmt.Errorf("is another name of %q, which is not whole", it.Source)
	}
	if it.Source == it.Path {
		return errors.New("is another name of itself")
	}
	from, to := r.place(it.Source), r.place(it.Path)
	if from == to { // once names are cut off at the beginning
		return nil
	}
	old, oldname, err := r.source.to(from, false)
	var info *fsmeta.Info
	if err == nil {
		info, err = old.Lstat(oldname)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("is another name of %q, %w", it.Source, errNoSource)
	case err != nil:
		return err
	case info.Type() != fsmeta.TypeRegular:
		return fmt.Errorf("is another name of %q, which is no file", it.Source)
	case (r.gaps > 0 || !r.fresh) && info.MTime.Sec != it.MTime.Sec: // it may have been there before
		return fmt.Errorf("is another name of %q, which is not restored", it.Source)
	}
	parent, name, err := r.path.to(to, true)
	if err != nil {
		return err
	}
	err = replacing(parent, name, func(name string) error { return parent.Link(old, oldname, name) })
	if cannotLink(err) {
		return r.copyFile(ctx, old, oldname, job{parent, name, it})
	}
	return err
}

// cannotLink reports whether an error says that this file cannot have that further name: it would be on another file
// system, or there are too many, or the file system has no such thing.
func cannotLink(err error) bool {
	for _, e := range []error{unix.EXDEV, unix.EMLINK, unix.EPERM, unix.ENOTSUP, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// copyFile writes a file with the content of one that has been written.
func (r *run) copyFile(ctx context.Context, old *fsmeta.Dir, oldname string, j job) error {
	from, err := old.Open(oldname)
	if err != nil {
		return err
	}
	defer from.Close()
	return r.writeFile(j, func(f *os.File) (damage, err error) {
		out := r.newOutput(f)
		buf := make([]byte, 1<<20)
		for ctx.Err() == nil {
			n, err := io.ReadFull(from, buf)
			if _, err := out.Write(buf[:n]); err != nil {
				return nil, err
			}
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil, out.finish()
			}
			if err != nil {
				return nil, err
			}
		}
		return nil, context.Cause(ctx)
	})
}
