package envelope

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"garret/repository"
)

// goldenPaper is the paper form of a key file that the reference wrote.
func goldenPaper(t testing.TB) (paper []byte, text []byte) {
	t.Helper()
	f, err := ReadKeyfile(goldenKey, goldenID(t))
	if err != nil {
		t.Fatal(err)
	}
	if paper, err = f.Paper(); err != nil {
		t.Fatal(err)
	}
	return paper, f.Text()
}

func TestPaperKeyGivesTheKeyFileBack(t *testing.T) {
	id := goldenID(t)
	paper, want := goldenPaper(t)
	printed, err := os.ReadFile("testdata/attic.paper")
	if err != nil {
		t.Fatal(err)
	}
	if string(printed) != string(paper) { // the form must not change: people have it in a drawer
		t.Errorf("the paper form is now\n%s", paper)
	}
	numbers := regexpNumbers.ReplaceAllString(string(paper), "")
	for name, typed := range map[string]string{
		"as printed":           string(paper),
		"in capitals":          strings.ToUpper(string(paper)),
		"without spaces":       strings.ReplaceAll(string(paper), " ", ""),
		"without numbers":      numbers,
		"without dashes":       strings.ReplaceAll(numbers, "-", ""),
		"with empty lines":     strings.ReplaceAll(string(paper), "\n", "\r\n\n"),
		"with letters for 0/1": strings.NewReplacer("0", "O", "1", "l").Replace(numbers),
	} {
		f, err := ParsePaper([]byte(typed), id)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(f.Text(), want) {
			t.Errorf("%s gave\n%s", name, f.Text())
		}
	}
	f, err := ParsePaper(paper, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(goldenPassphrase); err != nil {
		t.Error(err)
	}
	if _, err := ParsePaper(paper, repository.ID{1}); !errors.Is(err, ErrKeyfile) {
		t.Errorf("another repository's: %v", err)
	}
	for line := range strings.Lines(string(paper)) {
		if len(line) > 80 {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
}

// Every mistake in one digit, and two neighbours that have changed places, are found, in the right line.
func TestPaperKeyFindsMistakes(t *testing.T) {
	id := goldenID(t)
	paper, _ := goldenPaper(t)
	lines := strings.SplitAfter(strings.TrimSpace(string(paper)), "\n")
	check := func(what string, number string, changed []string) {
		t.Helper()
		_, err := ParsePaper([]byte(strings.Join(changed, "")), id)
		if !errors.Is(err, ErrPaper) || !strings.Contains(err.Error(), "line "+number+":") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, line := range lines {
		number, digits, ok := strings.Cut(line, ":")
		if !ok || line[0] == '#' {
			continue
		}
		number = strings.TrimSpace(number)
		at := len(line) - len(digits)
		for j := at; j < len(line); j++ {
			if !strings.Contains("0123456789abcdef", line[j:j+1]) {
				continue
			}
			digit := strings.IndexByte("0123456789abcdef", line[j])
			for _, flip := range []int{1, 2, 4, 8, 15} {
				changed := bytes.Clone([]byte(line))
				changed[j] = "0123456789abcdef"[digit^flip]
				check("another digit", number, append(append(append([]string{}, lines[:i]...), string(changed)), lines[i+1:]...))
			}
			if j+1 < len(line) && line[j] != line[j+1] && strings.Contains("0123456789abcdef", line[j+1:j+2]) {
				changed := bytes.Clone([]byte(line))
				changed[j], changed[j+1] = line[j+1], line[j]
				check("changed places", number, append(append(append([]string{}, lines[:i]...), string(changed)), lines[i+1:]...))
			}
		}
		missing := append(append([]string{}, lines[:i]...), lines[i+1:]...)
		if _, err := ParsePaper([]byte(strings.Join(missing, "")), id); !errors.Is(err, ErrPaper) {
			t.Errorf("without line %s: %v", number, err)
		}
	}
	numbered := regexpNumbers.ReplaceAllString(string(paper), "")
	plain := strings.SplitAfter(numbered, "\n")
	n := len(plain)
	plain[n-4], plain[n-5] = plain[n-5], plain[n-4]
	if _, err := ParsePaper([]byte(strings.Join(plain, "")), id); !errors.Is(err, ErrPaper) {
		t.Errorf("two lines have changed places: %v", err)
	}
	if _, err := ParsePaper(append(bytes.Clone(paper), "0000\n"...), id); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("something follows: %v", err)
	}
	if _, err := ParsePaper(nil, id); err == nil || !strings.Contains(err.Error(), "ends before line 1") {
		t.Errorf("nothing: %v", err)
	}
}

func TestPaperKeyNamesEveryWrongLine(t *testing.T) {
	paper, _ := goldenPaper(t)
	lines := strings.Split(string(paper), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, " 2:") || strings.HasPrefix(line, "12:") {
			lines[i] = line[:len(line)-1]
		}
	}
	_, err := ParsePaper([]byte(strings.Join(lines, "\n")), goldenID(t))
	want := "not a valid paper key: line 2: it has 35 digits instead of 36; line 12: it has 35 digits instead of 36"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestLinesOfTwoPaperKeysDoNotMix(t *testing.T) {
	id := goldenID(t)
	k, err := LoadKeyfile(goldenKey, id, goldenPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.encodeKeyfile("other")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseKeyfile(other, id)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := goldenPaper(t)
	b, err := f.Paper()
	if err != nil {
		t.Fatal(err)
	}
	linesA, linesB := strings.SplitAfter(string(a), "\n"), strings.SplitAfter(string(b), "\n")
	linesA[len(linesA)-6] = linesB[len(linesB)-6]
	if _, err := ParsePaper([]byte(strings.Join(linesA, "")), id); err == nil || !strings.Contains(err.Error(), "not of one key") {
		t.Error(err)
	}
}

func FuzzPaper(f *testing.F) {
	paper, _ := goldenPaper(f)
	f.Add(string(paper))
	id := goldenID(f)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParsePaper([]byte(text), id)
		if err != nil {
			if !errors.Is(err, ErrPaper) && !errors.Is(err, ErrKeyfile) {
				t.Fatal(err)
			}
			return
		}
		paper, err := k.Paper()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePaper(paper, id)
		if err != nil || !bytes.Equal(again.Text(), k.Text()) {
			t.Fatalf("%q gave\n%s, and that on paper\n%s: %v", text, k.Text(), paper, err)
		}
	})
}
