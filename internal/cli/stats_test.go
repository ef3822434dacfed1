package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"garret/internal/cache"
	"garret/repository"
)

func TestStatisticsAreThoseOfAttic(t *testing.T) {
	var out strings.Builder
	a := &app{stdout: &output{Writer: &out}}
	start := time.Date(2026, 11, 22, 9, 8, 7, 0, time.Local)
	a.printArchiveStats(archiveStats{
		Name: "home", ID: repository.ID{0xab}, Start: start, End: start.Add(2500 * time.Millisecond),
		This: cache.Stats{Files: 12345, Original: 1_234_567_890, Compressed: 1_000, Deduplicated: 0},
		All:  cache.Stats{Files: 99999, Original: 9_876_543_210_000, Compressed: 12_345_678, Deduplicated: 999},
	})
	a.printStats("Deleted data:", negated(cache.Stats{Original: 2_000_000, Compressed: 1_500, Deduplicated: 1}), cache.Stats{})
	want := `------------------------------------------------------------------------------
Archive name: home
Archive fingerprint: ab` + strings.Repeat("0", 62) + `
Start time: Sun Nov 22 09:08:07 2026
End time: Sun Nov 22 09:08:09 2026
Duration: 2.50 s
Number of files: 12345

                       Original size      Compressed size    Deduplicated size
This archive:                 1.2 GB               1.0 kB                  0 B
All archives:                 9.9 TB                12 MB                999 B
------------------------------------------------------------------------------

                       Original size      Compressed size    Deduplicated size
Deleted data:                -2.0 MB              -1.5 kB                 -1 B
All archives:                    0 B                  0 B                  0 B
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
