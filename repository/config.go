package repository

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"garret/repository/storage"
)

// The named files of a repository.
const (
	configName   = "config"
	readmeName   = "README"
	indexPrefix  = "index."
	hintsPrefix  = "hints."
	ownPrefix    = "garret."
	tablesName   = ownPrefix + "tables"
	deltaPrefix  = ownPrefix + "delta."
	sumsPrefix   = ownPrefix + "sums."
	configLimit  = 64 << 10
	maxOffset    = 1<<32 - 1
	sizeHeadroom = 2 * (20 << 20) // a segment outgrows its limit by less than this
)

// The defaults of a new repository.
const (
	DefaultMaxSegmentSize    = 5 << 20
	DefaultSegmentsPerFolder = 10000
)

// reserveKey is the key of the config that only this program knows.
const reserveKey = "garret_reserve"

// config is the content of the file of that name.
type config struct {
	id                ID
	maxSegmentSize    int64
	segmentsPerFolder uint32
	reserve           int64  // bytes; 0 is as much as the repository needs, see reserveSize, and noReserve is none
	badReserve        string // what is said that makes no sense, in quotes
	appendOnly        bool
}

const noReserve = -1

func newConfig(o *Options) (config, error) {
	c := config{
		maxSegmentSize: o.MaxSegmentSize, segmentsPerFolder: o.SegmentsPerFolder, reserve: max(o.Reserve, noReserve),
		appendOnly: o.AppendOnly,
	}
	if _, err := rand.Read(c.id[:]); err != nil {
		return c, err
	}
	return c, c.validate()
}

func (c config) validate() error {
	if c.maxSegmentSize < 1 || c.maxSegmentSize > maxOffset-sizeHeadroom {
		return fmt.Errorf("%w: max_segment_size %d is not between 1 and %d",
			ErrInvalid, c.maxSegmentSize, maxOffset-sizeHeadroom)
	}
	if c.segmentsPerFolder < 1 {
		return fmt.Errorf("%w: segments_per_dir must be at least 1", ErrInvalid)
	}
	if c.reserve > reserveLimit {
		return fmt.Errorf("a reserve of %d bytes is more than %d", c.reserve, int64(reserveLimit))
	}
	return nil
}

func (c config) String() string {
	reserve := ""
	if c.reserve != 0 {
		reserve = fmt.Sprintf("%s = %d\n", reserveKey, max(c.reserve, 0))
	}
	appendOnly := ""
	if c.appendOnly {
		appendOnly = appendOnlyKey + " = 1\n"
	}
	return fmt.Sprintf("[repository]\nversion = 1\nsegments_per_dir = %d\nmax_segment_size = %d\nid = %v\n%s%s\n",
		c.segmentsPerFolder, c.maxSegmentSize, c.id, reserve, appendOnly)
}

// readConfig reads the config of the repository in s.
func readConfig(s storage.Storage) (config, error) {
	b, err := storage.ReadFile(s, configName, configLimit)
	if err != nil {
		return config{}, err
	}
	return parseConfig(string(b))
}

// parseConfig reads an INI file, of which it knows what configparser makes of a simple one: sections, key = value or
// key: value, comments. Keys that it does not know are left to who wrote them. The error about a version that is to come
// matches ErrNewer, any other ErrInvalid.
func parseConfig(text string) (config, error) { return parseKeys(parseSection(text)) }

// parseSection returns what stands in the section [repository] of an INI file, or nil if there is none.
func parseSection(text string) map[string]string {
	const ours = "repository"
	section := ""
	var values map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' && line[len(line)-1] == ']' {
			if section = line[1 : len(line)-1]; section == ours && values == nil {
				values = map[string]string{}
			}
			continue
		}
		if i := strings.IndexAny(line, "=:"); i > 0 && section == ours {
			values[strings.ToLower(strings.TrimSpace(line[:i]))] = strings.TrimSpace(line[i+1:])
		}
	}
	return values
}

func parseKeys(values map[string]string) (config, error) {
	var c config
	if v := values["version"]; v != "1" {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil && n > 1 {
			return c, fmt.Errorf("%w: its config has version %d", ErrNewer, n)
		}
		return c, fmt.Errorf("%w: config has version %q, want 1", ErrInvalid, v)
	}
	id, err := hex.DecodeString(values["id"])
	if err != nil || len(id) != len(c.id) {
		return c, fmt.Errorf("%w: config has no id of 64 hexadecimal digits", ErrInvalid)
	}
	c.id = ID(id)
	if c.maxSegmentSize, err = strconv.ParseInt(values["max_segment_size"], 10, 64); err != nil {
		return c, fmt.Errorf("%w: max_segment_size: %w", ErrInvalid, err)
	}
	perFolder, err := strconv.ParseUint(values["segments_per_dir"], 10, 32)
	if err != nil {
		return c, fmt.Errorf("%w: segments_per_dir: %w", ErrInvalid, err)
	}
	c.segmentsPerFolder = uint32(perFolder)
	if text, ok := values[appendOnlyKey]; ok {
		c.appendOnly = parseAppendOnly(text)
	}
	if text, ok := values[reserveKey]; ok {
		// One that makes no sense is no reason to keep people from their data.
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil || n < 0 || n > reserveLimit:
			c.badReserve = strconv.Quote(text)
		case n == 0:
			c.reserve = noReserve
		default:
			c.reserve = n
		}
	}
	return c, c.validate()
}
