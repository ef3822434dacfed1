package cli

import (
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"

	"garret/internal/archive"
	"garret/internal/location"
)

// placeholders returns what stands for {name} and for {name:format} in the name of an archive. A format is none of the
// concern of those that are no times.
func placeholders() map[string]func(format string) (string, error) {
	now := time.Now()
	text := func(value func() (string, error)) func(string) (string, error) {
		return func(format string) (string, error) {
			if format != "" {
				return "", fmt.Errorf("takes no format")
			}
			return value()
		}
	}
	return map[string]func(string) (string, error){
		"hostname": text(os.Hostname),
		"user": text(func() (string, error) {
			u, err := user.Current()
			if err != nil {
				return "", err
			}
			return u.Username, nil
		}),
		"pid":    text(func() (string, error) { return strconv.Itoa(os.Getpid()), nil }),
		"now":    func(format string) (string, error) { return formatTime(now, format) },
		"utcnow": func(format string) (string, error) { return formatTime(now.UTC(), format) },
	}
}

// formatTime writes a time as strftime does.
func formatTime(t time.Time, format string) (string, error) {
	if format == "" {
		return t.Format("2006-01-02T15:04:05"), nil
	}
	// The library leaves what it does not know as it is, which is a percent sign then and something.
	parts := strings.Split(format, "%%")
	for i, part := range parts {
		parts[i] = strftime.Format(part, t)
		if _, unknown, found := strings.Cut(parts[i], "%"); found {
			return "", fmt.Errorf("has a format with %q, which strftime does not know", fmt.Sprintf("%%%.1s", unknown))
		}
	}
	return strings.Join(parts, "%"), nil
}

// newArchive reads the location of an archive that is to be made, in whose name placeholders are replaced.
func (a *app) newArchive(arg string) (location.Location, error) {
	loc, err := a.location(arg, true)
	if err == nil {
		loc, err = expandName(loc, placeholders())
	}
	return loc, err
}

// expandName replaces the placeholders in the name of an archive, and refuses what cannot be one.
func expandName(l location.Location, values map[string]func(string) (string, error)) (location.Location, error) {
	name, err := expand(l.Archive, values)
	if err != nil {
		return l, &usageError{fmt.Sprintf("the archive's name %q: %v", l.Archive, err)}
	}
	if strings.Count(name, "/") > strings.Count(l.Archive, "/") { // as nobody wrote it
		return l, &usageError{fmt.Sprintf("the archive's name %q becomes %q, which cannot be one", l.Archive, name)}
	}
	if err := archive.CheckName(name); err != nil {
		return l, &usageError{err.Error()}
	}
	l.Archive = name
	return l, nil
}

func expand(text string, values map[string]func(string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexAny(text, "{}")
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		b.WriteString(text[:i])
		brace := text[i : i+1]
		text = text[i+1:]
		if rest, double := strings.CutPrefix(text, brace); double {
			b.WriteString(brace)
			text = rest
			continue
		}
		inside, rest, closed := strings.Cut(text, "}")
		if brace == "}" || !closed {
			return "", fmt.Errorf("a single %q; a brace that stands for itself is written twice, %q", brace, brace+brace)
		}
		name, format, _ := strings.Cut(inside, ":")
		value, ok := values[name]
		if !ok {
			return "", fmt.Errorf("{%s} is unknown: there are {%s}; a brace that stands for itself is written twice, {{%s}}",
				name, strings.Join(slices.Sorted(maps.Keys(values)), "}, {"), inside)
		}
		expanded, err := value(format)
		if err != nil {
			return "", fmt.Errorf("{%s} %w", inside, err)
		}
		b.WriteString(expanded)
		text = rest
	}
}
