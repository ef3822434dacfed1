package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// quoted is a string as strace -xx has it.
func quoted(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return `"` + b.String() + `"`
}

// replay runs a trace on a medium with one file, "old", and returns what Crash gave at the end.
func replay(t *testing.T, lines ...string) (*Medium, func(Fate) map[string]string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range lines {
		for name, path := range map[string]string{"DIR": dir, "OLD": dir + "/old", "NEW": dir + "/new", "SUB": dir + "/sub"} {
			lines[i] = strings.ReplaceAll(lines[i], name, quoted(path))
		}
	}
	if err := m.Replay(strings.NewReader(strings.Join(lines, "\n")+"\n"), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	return m, func(f Fate) map[string]string {
		left := map[string]string{}
		for name, data := range m.Crash(f, rng).Files {
			left[name] = string(data)
		}
		return left
	}
}

var writeNew = []string{
	`1 openat(AT_FDCWD, NEW, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5`,
	`1 write(5, ` + quoted("after") + `, 5) = 5`,
}

// TestNothingIsDurableBeforeItIsSynced replaces a file in each of the wrong ways, and in the right one.
func TestNothingIsDurableBeforeItIsSynced(t *testing.T) {
	rename := `1 renameat(AT_FDCWD, NEW, AT_FDCWD, OLD) = 0`
	folder := []string{`1 openat(AT_FDCWD, DIR, O_RDONLY|O_CLOEXEC) = 6`, `1 fsync(6) = 0`, `1 close(6) = 0`}
	for _, c := range []struct {
		name  string
		lines []string
		want  map[Fate]string
	}{
		{"no sync", append(slices.Clone(writeNew), rename), map[Fate]string{Lost: "before", Kept: "after", NamesAlone: "", DataAlone: "before"}},
		{"no sync of the folder", append(slices.Clone(writeNew), `1 fsync(5) = 0`, rename), map[Fate]string{
			Lost: "before", Kept: "after", NamesAlone: "after", DataAlone: "before",
		}},
		{"no sync of the file", append(append(slices.Clone(writeNew), rename), folder...), map[Fate]string{
			Lost: "", Kept: "after", NamesWithZeros: "\x00\x00\x00\x00\x00", DataAlone: "after",
		}},
		{"all synced", append(append(slices.Clone(writeNew), `1 fsync(5) = 0`, rename), folder...), map[Fate]string{
			Lost: "after", Kept: "after", NamesAlone: "after", DataAlone: "after", NamesWithZeros: "after",
		}},
		{"a sync that began before the write", append([]string{
			writeNew[0], `2 fsync(5 <unfinished ...>`, writeNew[1],
			`2 <... fsync resumed>) = 0`, rename,
		}, folder...), map[Fate]string{Lost: "", Kept: "after"}},
		{
			"a sync that failed", append(append(slices.Clone(writeNew), `1 fsync(5) = -1 EIO (Input/output error)`, rename), folder...),
			map[Fate]string{Lost: "", Kept: "after"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, left := replay(t, c.lines...)
			for fate, want := range c.want {
				if got, ok := left(fate)["old"]; !ok || got != want {
					t.Errorf("fate %d leaves %q (%v), want %q", fate, got, ok, want)
				}
			}
		})
	}
}

// TestRenameIsOneChange never loses both names, nor has both.
func TestRenameIsOneChange(t *testing.T) {
	_, left := replay(t, `1 renameat(AT_FDCWD, OLD, AT_FDCWD, NEW) = 0`)
	seen := map[string]int{}
	for range 200 {
		files := left(Mixed)
		if len(files) != 1 {
			t.Fatalf("left is %v", files)
		}
		for name := range files {
			seen[name]++
		}
	}
	if seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("seen are %v", seen)
	}
}

// TestTornWritesKeepWhatWasSynced appends to a sector that was synced in part.
func TestTornWritesKeepWhatWasSynced(t *testing.T) {
	large := strings.Repeat("x", 3000)
	_, left := replay(t, `1 openat(AT_FDCWD, OLD, O_WRONLY|O_APPEND|O_CLOEXEC) = 5`, `1 write(5, `+quoted(large)+`, 3000) = 3000`)
	sizes, zeros := map[int]bool{}, false
	for range 300 {
		got := left(Mixed)["old"]
		if !strings.HasPrefix(got, "before") {
			t.Fatalf("%.20q is left", got)
		}
		sizes[len(got)] = true
		zeros = zeros || strings.Contains(got, "\x00")
	}
	if len(sizes) < 4 || !zeros {
		t.Errorf("sizes %v, zeros %v", sizes, zeros)
	}
}

// TestWhatIsNotModelledIsNoticed must not pass over calls that it knows nothing of.
func TestWhatIsNotModelledIsNoticed(t *testing.T) {
	for _, line := range []string{
		`1 openat(AT_FDCWD, NEW, O_WRONLY|O_CREAT|O_SYNC, 0600) = 5`,
		`1 dup(4) = 5`,
		`1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 4, 0) = 0x7f0000000000`,
		`1 copy_file_range(9, NULL, 4, NULL, 100, 0) = 100`,
	} {
		dir := t.TempDir()
		m, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		file := quoted(dir + "/file")
		trace := `1 openat(AT_FDCWD, ` + file + `, O_RDWR|O_CREAT, 0600) = 4` + "\n" + strings.ReplaceAll(line, "NEW", quoted(dir+"/new")) + "\n"
		if err := m.Replay(strings.NewReader(trace), func() error { return nil }); err == nil {
			t.Errorf("not noticed: %s", line)
		}
	}
}
