// Package location reads the ways to name a repository, and an archive in it:
//
//	PATH                           a folder of this machine
//	file:///PATH                   the same
//	[USER@]HOST:PATH               a folder of another machine
//	ssh://[USER@]HOST[:PORT]/PATH  the same
//
// each with ::ARCHIVE after it where an archive is meant. A path with a colon in it is local if a slash comes first
// (./a:b).
package location

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Location names a repository and perhaps an archive in it. Its fields are comparable.
type Location struct {
	User    string // who to be on Host; empty: whatever ssh says
	Host    string // empty: this machine
	Port    int    // 0: whatever ssh says
	Path    string // of the repository; empty only where nothing but an archive was given
	Archive string // empty: the repository itself
}

// Parse reads a location.
func Parse(s string) (Location, error) {
	repo, archive, named := strings.Cut(s, "::")
	l := Location{Archive: archive}
	if named && archive == "" {
		return l, fmt.Errorf("location %q ends in :: without the name of an archive", s)
	}
	if strings.ContainsRune(s, 0) {
		return l, fmt.Errorf("location %q has a zero byte in it", s)
	}
	switch {
	case strings.HasPrefix(repo, "ssh://"):
		host, path, ok := strings.Cut(strings.TrimPrefix(repo, "ssh://"), "/")
		if !ok {
			return l, fmt.Errorf("location %q names no path on the host", s)
		}
		l.Path = "/" + path
		if name, port, ok := strings.Cut(host, ":"); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return l, fmt.Errorf("location %q has %q for a port", s, port)
			}
			host, l.Port = name, int(n)
		}
		if err := l.setHost(host); err != nil {
			return l, fmt.Errorf("location %q %w", s, err)
		}
	case strings.HasPrefix(repo, "file://"):
		l.Path = strings.TrimPrefix(repo, "file://")
		if !strings.HasPrefix(l.Path, "/") {
			return l, fmt.Errorf("location %q must have an absolute path: file:///PATH", s)
		}
	default:
		l.Path = repo
		host, path, ok := strings.Cut(repo, ":")
		if ok && !strings.Contains(host, "/") {
			l.Path = path
			if err := l.setHost(host); err != nil {
				return l, fmt.Errorf("location %q %w", s, err)
			}
		}
	}
	if l.Path == "" && (l.Host != "" || !named) {
		return l, fmt.Errorf("location %q names no path", s)
	}
	return l, nil
}

// setHost splits [USER@]HOST. Neither may look like an option to ssh.
func (l *Location) setHost(s string) error {
	l.Host = s
	if user, host, ok := strings.Cut(s, "@"); ok {
		if user == "" {
			return fmt.Errorf("names no user before @")
		}
		l.User, l.Host = user, host
	}
	if l.Host == "" {
		return fmt.Errorf("names no host")
	}
	if strings.HasPrefix(l.Host, "-") || strings.HasPrefix(l.User, "-") {
		return fmt.Errorf("has a host or a user that begins with a dash")
	}
	return nil
}

// Remote reports whether the repository is on another machine.
func (l Location) Remote() bool { return l.Host != "" }

// Repository returns the location without the archive.
func (l Location) Repository() Location {
	l.Archive = ""
	return l
}

// Abs returns the location with a local path made absolute and clean, so that it names the same from every folder.
func (l Location) Abs() (Location, error) {
	if l.Remote() || l.Path == "" {
		return l, nil
	}
	path, err := filepath.Abs(l.Path)
	if err != nil {
		return l, fmt.Errorf("make %q absolute: %w", l.Path, err)
	}
	l.Path = path
	return l, nil
}

// String returns a text that Parse reads as the same location.
func (l Location) String() string {
	s := l.Path
	switch {
	case l.Remote():
		host := l.Host
		if l.User != "" {
			host = l.User + "@" + host
		}
		switch {
		case l.Port != 0:
			s = fmt.Sprintf("ssh://%s:%d%s", host, l.Port, l.Path)
		default:
			s = host + ":" + l.Path
		}
	case strings.HasPrefix(s, "ssh://"), strings.HasPrefix(s, "file://"):
		s = "./" + s
	default:
		if before, _, ok := strings.Cut(s, ":"); ok && !strings.Contains(before, "/") {
			s = "./" + s
		}
	}
	if l.Archive != "" {
		s += "::" + l.Archive
	}
	return s
}
