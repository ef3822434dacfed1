package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"garret/bench/measure"
	"garret/bench/report"
)

// A bench measures programs, each work by one after the other, so that what disturbs the machine disturbs all of them.
type bench struct {
	options
	programs []*program
	results  report.Results
	log      io.Writer
	turn     int // who is the first to do a work; it is another one each time
}

// A contest is one round of one kind of work, in which every program has a place of its own.
type contest struct {
	*bench
	dir    string
	places map[*program]place
	failed map[*program]bool
}

// contest begins a round.
func (b *bench) contest(ctx context.Context) (*contest, error) {
	dir, err := os.MkdirTemp(b.dir, "round-")
	if err != nil {
		return nil, err
	}
	c := &contest{bench: b, dir: dir, places: map[*program]place{}, failed: map[*program]bool{}}
	for i, p := range b.programs {
		pl := place{filepath.Join(dir, fmt.Sprint(i))}
		c.places[p] = pl
		if err := os.Mkdir(pl.dir, 0o700); err != nil {
			return nil, err
		}
		if p.init == nil {
			continue
		}
		for _, cmd := range p.init(pl) {
			if _, err := measure.Run(ctx, cmd); err != nil {
				c.fail("make a repository", p, err)
			}
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c, nil
}

func (c *contest) end() error { return os.RemoveAll(c.dir) }

// fail notes that a program has failed, which does no more work in this contest.
func (c *contest) fail(work string, p *program, err error) {
	c.failed[p] = true
	c.results.Of(work, p.name).Err = err.Error()
	fmt.Fprintf(c.log, "%s: %s: %v\n", work, p.name, err)
}

// each lets every program do a work. commands returns nil for a program that does not.
func (c *contest) each(ctx context.Context, work string, commands func(*program, place) ([]measure.Command, error)) error {
	return c.measure(ctx, work, false, commands)
}

// eachStored is each for work after which the sizes of the repositories are of interest.
func (c *contest) eachStored(ctx context.Context, work string, commands func(*program, place) ([]measure.Command, error)) error {
	return c.measure(ctx, work, true, commands)
}

func (c *contest) measure(ctx context.Context, work string, stored bool, commands func(*program, place) ([]measure.Command, error)) error {
	c.turn++
	for i := range c.programs {
		p := c.programs[(i+c.turn)%len(c.programs)]
		if c.failed[p] {
			continue
		}
		cmds, err := commands(p, c.places[p])
		if err == nil && len(cmds) == 0 {
			continue
		}
		u, err := c.runAll(ctx, cmds, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.fail(work, p, err)
			continue
		}
		s := c.results.Of(work, p.name)
		s.Rounds = append(s.Rounds, u)
		if stored {
			_, size, err := sizeOf(c.places[p].dir)
			if repo := c.places[p].repo(); p.init != nil { // its cache is not stored
				_, size, err = sizeOf(repo)
			}
			if err != nil {
				return err
			}
			s.Stored = append(s.Stored, size)
		}
		fmt.Fprintf(c.log, "%-40s %-10s %9s  cpu %9s  %9s\n", work, p.name,
			report.Seconds(u.Wall.Seconds()), report.Seconds(u.CPU.Seconds()), report.Bytes(float64(u.Peak)))
	}
	return nil
}

func (c *contest) runAll(ctx context.Context, cmds []measure.Command, err error) (total measure.Usage, _ error) {
	if err != nil {
		return total, err
	}
	unix.Sync() // what others have left to write is not to be waited for
	for _, cmd := range cmds {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		u, err := measure.Run(ctx, cmd)
		cancel()
		if err != nil {
			return total, err
		}
		total = total.Add(u)
	}
	return total, nil
}

// The works that several kinds of data have.

func (c *contest) create(ctx context.Context, work, archive, data string) error {
	return c.eachStored(ctx, work, func(p *program, pl place) ([]measure.Command, error) {
		if p.create == nil {
			return nil, nil
		}
		return p.create(pl, archive, data), nil
	})
}

// again stores what has been stored before. Who cannot tell what has changed is left out.
func (c *contest) again(ctx context.Context, work, archive, data string) error {
	return c.eachStored(ctx, work, func(p *program, pl place) ([]measure.Command, error) {
		switch {
		case p.stat != nil:
			return p.stat(pl, data), nil
		case p.again:
			return p.create(pl, archive, data), nil
		}
		return nil, nil
	})
}

func (c *contest) list(ctx context.Context, work, archive string) error {
	return c.each(ctx, work, func(p *program, pl place) ([]measure.Command, error) {
		if p.list == nil {
			return nil, nil
		}
		return p.list(pl, archive), nil
	})
}

func (c *contest) extract(ctx context.Context, work, archive string) error {
	return c.each(ctx, work, func(p *program, pl place) ([]measure.Command, error) {
		if p.extract == nil {
			return nil, nil
		}
		target, err := os.MkdirTemp(c.dir, "extracted-")
		if err != nil {
			return nil, err
		}
		return p.extract(pl, archive, target), nil
	})
}

func (c *contest) check(ctx context.Context, work string) error {
	return c.each(ctx, work, func(p *program, pl place) ([]measure.Command, error) {
		if p.check == nil {
			return nil, nil
		}
		return p.check(pl), nil
	})
}

// tree is the work with a tree of files. It leaves all files where they are: ext4 passes over inodes that were freed lately, so
// that whoever makes files after a removal is slow.
func (b *bench) tree(ctx context.Context, name, data string) error {
	c, err := b.contest(ctx)
	if err != nil {
		return err
	}
	return inTurn(
		func() error { return c.create(ctx, "create, "+name, "first", data) },
		func() error { return c.again(ctx, "create again, "+name, "second", data) },
		func() error { return c.list(ctx, "list, "+name, "first") },
		func() error { return c.extract(ctx, "extract, "+name, "first") },
		func() error { return c.check(ctx, "check all data, "+name) },
	)
}

// file is the work with a large file and, if there is one, with a version of it that has changed.
func (b *bench) file(ctx context.Context, name, data, changed string) error {
	c, err := b.contest(ctx)
	if err != nil {
		return err
	}
	err = inTurn(
		func() error { return c.create(ctx, "create, "+name, "first", data) },
		func() error { return c.extract(ctx, "extract, "+name, "first") },
		func() error {
			if changed == "" {
				return nil
			}
			return c.eachStored(ctx, "create, "+name+", 1 % changed", func(p *program, pl place) ([]measure.Command, error) {
				if !p.again {
					return nil, nil
				}
				return p.create(pl, "second", changed), nil
			})
		},
	)
	return ended(c, err)
}

// versionsOf is the work with many versions of a tree, of which some are removed, one for each round.
func (b *bench) versionsOf(ctx context.Context, data string) error {
	all := b.programs
	defer func() { b.programs = all }()
	b.programs = nil
	for _, p := range all {
		if p.remove != nil {
			b.programs = append(b.programs, p)
		}
	}
	c, err := b.contest(ctx)
	if err != nil {
		return err
	}
	work := fmt.Sprintf("create a version of %d", b.versions)
	for v := range b.versions {
		if v > 0 {
			if err := changeTree(data, b.versionFiles, versionFileLimit, uint64(v)); err != nil {
				return ended(c, err)
			}
		}
		if err := c.create(ctx, work, fmt.Sprintf("v%02d", v), data); err != nil {
			return ended(c, err)
		}
	}
	for i := range min(b.rounds, b.versions-1) {
		archive := fmt.Sprintf("v%02d", (b.versions/2+i)%b.versions)
		err = c.eachStored(ctx, fmt.Sprintf("delete one of %d and compact", b.versions),
			func(p *program, pl place) ([]measure.Command, error) { return p.remove(ctx, pl, archive) })
		if err != nil {
			break
		}
	}
	if err == nil {
		err = c.check(ctx, fmt.Sprintf("check all data, %d versions", b.versions))
	}
	return ended(c, err)
}

func inTurn(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func ended(c *contest, err error) error {
	if endErr := c.end(); err == nil {
		err = endErr
	}
	return err
}
