package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"garret/internal/catalog"
	"garret/internal/location"
	"garret/internal/pattern"
)

// A choice is some of the archives of a repository, for commands that are about several. All that is said must hold of an
// archive; the zero value chooses all.
type choice struct {
	prefix      string
	patterns    []string
	first, last int // how many of those that match; 0: all

	globs []*pattern.Glob
}

// choiceHelp says how to choose archives, for the help of commands.
const choiceHelp = `Archives are chosen by the beginning of their names, with --prefix, or by patterns for the whole of them, with
--match-archives: * stands for any characters, ? for one, [abc] for one of these; one of several patterns must match. Of
the archives that match, --first N takes the N oldest, and --last N the newest.`

// flags adds the options.
func (c *choice) flags(f *pflag.FlagSet) {
	c.matchFlags(f)
	f.IntVar(&c.first, "first", 0, "only the `N` oldest of these archives; 0: all")
	f.IntVar(&c.last, "last", 0, "only the `N` newest of these archives; 0: all")
}

// matchFlags adds those that ask for the name alone.
func (c *choice) matchFlags(f *pflag.FlagSet) {
	f.StringVarP(&c.prefix, "prefix", "p", "", "only archives whose names begin with this `TEXT`")
	f.StringArrayVarP(&c.patterns, "match-archives", "a", nil,
		"only archives whose names match this `PATTERN`; may be given several times")
}

// given reports whether anything is chosen.
func (c *choice) given() bool {
	return c.prefix != "" || len(c.patterns) > 0 || c.first != 0 || c.last != 0
}

// check reads the patterns, and refuses what makes no sense with a location.
func (c *choice) check(loc location.Location) error {
	switch {
	case c.first < 0, c.last < 0:
		return &usageError{"--first and --last must not be negative"}
	case c.first != 0 && c.last != 0:
		return &usageError{"--first and --last do not go together; take one"}
	case loc.Archive != "" && c.given():
		return &usageError{"--prefix, --match-archives, --first and --last choose archives, and the location names one already"}
	}
	for _, text := range c.patterns {
		g, err := pattern.ParseGlob(text)
		if err != nil {
			return &usageError{"--match-archives: " + err.Error()}
		}
		c.globs = append(c.globs, g)
	}
	return nil
}

// match reports whether an archive is chosen by its name.
func (c *choice) match(name string) bool {
	return strings.HasPrefix(name, c.prefix) && (len(c.globs) == 0 ||
		slices.ContainsFunc(c.globs, func(g *pattern.Glob) bool { return g.Match(name) }))
}

// of returns the archives that are chosen, the oldest first.
func (c *choice) of(cat *catalog.Catalog) []catalog.Entry {
	entries := slices.DeleteFunc(cat.Archives(), func(e catalog.Entry) bool { return !c.match(e.Name) })
	switch {
	case c.first > 0:
		entries = entries[:min(len(entries), c.first)]
	case c.last > 0:
		entries = entries[max(0, len(entries)-c.last):]
	}
	return entries
}

// some returns what of does, and an error if there are none.
func (c *choice) some(s *session) ([]catalog.Entry, error) {
	entries := c.of(s.cat)
	if len(entries) > 0 {
		return entries, nil
	}
	var conditions []string
	if c.prefix != "" {
		conditions = append(conditions, fmt.Sprintf("begins with %q", c.prefix))
	}
	if len(c.patterns) > 0 {
		conditions = append(conditions, fmt.Sprintf("matches %q", c.patterns))
	}
	if len(conditions) == 0 {
		return nil, fmt.Errorf("repository %q has no archives", s.loc.Repository())
	}
	return nil, fmt.Errorf("no archive has a name that %s", strings.Join(conditions, " and "))
}

// entries returns the archive that a session's location names, or else those that are chosen; what is given must choose some.
func (c *choice) entries(s *session) ([]catalog.Entry, error) {
	switch {
	case s.loc.Archive != "":
		return s.entries([]string{s.loc.Archive})
	case c.given():
		return c.some(s)
	}
	return c.of(s.cat), nil
}

// args returns the options that choose the same.
func (c *choice) args() []string {
	args := []string{"--prefix=" + c.prefix, fmt.Sprintf("--first=%d", c.first), fmt.Sprintf("--last=%d", c.last)}
	for _, text := range c.patterns {
		args = append(args, "--match-archives="+text)
	}
	return args
}

// someArchives reads arguments that name archives of one repository, or that repository alone where a choice is given.
func (a *app) someArchives(cmd *cobra.Command, args []string, c *choice) (location.Location, []string, error) {
	if !c.given() {
		if len(args) == 0 {
			return location.Location{}, nil, &usageError{
				"no archive is given, and no --match-archives or the like; the usage is: " + cmd.UseLine(),
			}
		}
		return a.archives(args)
	}
	if len(args) > 1 {
		return location.Location{}, nil, &usageError{
			fmt.Sprintf("%q: archives are either named or chosen, by --match-archives or the like", args[1]),
		}
	}
	loc, err := a.anyLocation(optional(args, 0))
	if err == nil {
		err = c.check(loc)
	}
	return loc, nil, err
}

// archives reads arguments that name archives of one repository: the first with its location, the others with it or without.
func (a *app) archives(args []string) (location.Location, []string, error) {
	first, err := a.location(args[0], true)
	if err != nil {
		var usage *usageError
		if loc, plain := a.location(args[0], false); plain == nil && errors.As(err, &usage) {
			err = &usageError{fmt.Sprintf("%v; to choose several use --match-archives, "+
				"and to delete the repository with all that is in it, remove the folder %q", err, loc.Path)}
		}
		return first, nil, err
	}
	names := []string{first.Archive}
	for _, arg := range args[1:] {
		name := arg
		if strings.Contains(arg, "::") {
			loc, err := a.location(arg, true)
			if err != nil {
				return first, nil, err
			}
			if loc.Repository() != first.Repository() {
				return first, nil, &usageError{fmt.Sprintf("%q is in another repository than %q", arg, args[0])}
			}
			name = loc.Archive
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return first, names, nil
}

// entry returns what the manifest says of an archive.
func (s *session) entry(name string) (catalog.Entry, error) {
	if ref, ok := s.cat.Manifest.Archives[name]; ok {
		return catalog.Entry{Name: name, ArchiveRef: ref}, nil
	}
	return catalog.Entry{}, s.cat.NoArchive(name)
}

// entries returns what the manifest says of archives.
func (s *session) entries(names []string) ([]catalog.Entry, error) {
	var entries []catalog.Entry
	for _, name := range names {
		e, err := s.entry(name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func names(entries []catalog.Entry) []string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}
