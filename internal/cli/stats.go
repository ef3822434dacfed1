package cli

import (
	"fmt"
	"strings"
	"time"

	"garret/internal/cache"
	"garret/internal/ui"
	"garret/repository"
)

// archiveStats are the statistics of an archive that has been made.
type archiveStats struct {
	Name       string
	ID         repository.ID
	Start, End time.Time
	This       cache.Stats // of this archive; what is deduplicated is what it has added
	All        cache.Stats // of all archives
}

// printArchiveStats prints the statistics of an archive that has been made as Attic does.
func (a *app) printArchiveStats(s archiveStats) {
	line := strings.Repeat("-", 78)
	fmt.Fprintln(a.stdout, line)
	fmt.Fprintf(a.stdout, "Archive name: %s\n", a.line(s.Name))
	fmt.Fprintf(a.stdout, "Archive fingerprint: %v\n", s.ID)
	fmt.Fprintf(a.stdout, "Start time: %s\n", s.Start.Local().Format(time.ANSIC))
	fmt.Fprintf(a.stdout, "End time: %s\n", s.End.Local().Format(time.ANSIC))
	fmt.Fprintf(a.stdout, "Duration: %s\n", ui.Duration(s.End.Sub(s.Start)))
	fmt.Fprintf(a.stdout, "Number of files: %d\n", s.This.Files)
	a.printStats("This archive:", s.This, s.All)
	fmt.Fprintln(a.stdout, line)
}

// printStats prints Attic's table: the sizes of something, and those of all archives.
func (a *app) printStats(label string, these, all cache.Stats) {
	a.printHead()
	a.printSizes(label, these)
	a.printSizes("All archives:", all)
}

func (a *app) printHead() {
	fmt.Fprintf(a.stdout, "\n%-15s %20s %20s %20s\n", "", "Original size", "Compressed size", "Deduplicated size")
}

func (a *app) printSizes(label string, s cache.Stats) {
	fmt.Fprintf(a.stdout, "%-15s %20s %20s %20s\n",
		label, signedBytes(s.Original), signedBytes(s.Compressed), signedBytes(s.Deduplicated))
}

// signedBytes writes a size for people, of what has been deleted with a minus.
func signedBytes(n int64) string {
	if n < 0 {
		return "-" + ui.Bytes(-n)
	}
	return ui.Bytes(n)
}

// negated returns the statistics of what is deleted.
func negated(s cache.Stats) cache.Stats {
	return cache.Stats{
		Files: -s.Files, Original: -s.Original, Compressed: -s.Compressed, Deduplicated: -s.Deduplicated, Chunks: -s.Chunks,
	}
}

// jsonStats are statistics as JSON objects have them. All sizes are in bytes.
type jsonStats struct {
	Files        int64 `json:"files"`
	Original     int64 `json:"original_size"`
	Compressed   int64 `json:"compressed_size"`
	Deduplicated int64 `json:"deduplicated_size"`
	Chunks       int64 `json:"chunks"`
}

func newJSONStats(s cache.Stats) jsonStats {
	return jsonStats{s.Files, s.Original, s.Compressed, s.Deduplicated, s.Chunks}
}

// statsJSONHelp says what is in jsonStats, for the help of commands.
const statsJSONHelp = `files, original_size, compressed_size, deduplicated_size and chunks. Sizes are in bytes; the last two
fields are of what no other archive uses, and of all archives count each chunk once.`
