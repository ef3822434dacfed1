package pattern

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPatternsWithoutPrefixAreAttics holds patterns against paths as Attic does: the expectations are what it answers.
func TestPatternsWithoutPrefixAreAttics(t *testing.T) {
	for _, tt := range []struct{ pattern, matches, others string }{
		{"/home", "/home /home/ann", "/homes home /h"},
		{"/home/", "/home/ann /home/ann/x", "/home /homes"},
		{"/", "/ /home /home/ann", "home ."},
		{"home", "home home/ann", "/home x/home"},
		{"*.o", "a.o /x/a.o /x/a.o/y .o", "a.odt /x/o"},
		{"*/", "a/b a/b/c", "a"},
		{"/home/*/junk", "/home/ann/junk /home/a/b/junk/c", "/home/junk /home/ann/junks"},
		{"?", "a é 漢/b \xff", "ab \xffa"},
		{"a?b", "aéb a/b a\xffb a\nb", "ab aéé"},
		{"[ab]c", "ac bc", "cc c [ab]c"},
		{"[!ab]c", "cc /c \xffc", "ac bc"},
		{"[^a]", "^ a", "b"},
		{"[a-c-e]", "a b c - e", "d f"},
		{"[]x]", "] x", "a"},
		{"[!]x]", "a", "] x"},
		{"[a-]", "a -", "b"},
		{"[a", "[a [a/b", "a"},
		{"[]", "[]", "]"},
		{"[!]", "[!]", "a"},
		{`[\d]`, `\ d`, "1"},
		{"[é-ü]", "é ê ü", "e \xc3 \xa9"},
		{"\xc3", "\xc3", "é \xc3\xa9"},
		{"\xa9*", "\xa9 \xa9x", "é x\xa9"},
		{"*\xa9", "\xa9 x\xa9", "é"},
		{"*\xff*", "\xff a\xffb", "é ÿ"},
		{"./a", "./a ./a/b a a/b", "/a ../a /./a b/a"},
		{"./*.o", "./a.o a.o", "/a.o ../a.o ."},
		{"./", "./a a", ". .. /a ../a"},
		{".///a", "./a a", "/a"},
		{"./../a", "../a", "a ./a"},
		{"a", "a ./a", "./b/a"},
		{".", ". ./a", "a"},
		{"a//b", "a//b", "a/b"},
		{"xx:a", "xx:a", "a"},
		{"***", "a", ""},
	} {
		p, err := Parse(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		for _, path := range strings.Split(tt.matches, " ") {
			if !p.Match(path) {
				t.Errorf("%q does not match %q", tt.pattern, path)
			}
		}
		for _, path := range strings.Split(tt.others, " ") {
			if path != "" && p.Match(path) {
				t.Errorf("%q matches %q", tt.pattern, path)
			}
		}
	}
}

func TestPatternsWithPrefix(t *testing.T) {
	for _, tt := range []struct{ pattern, matches, others string }{
		{"fm:/home/*.o", "/home/a.o home/x/a.o home/a.o/b", "/x/home/a.o"},
		{"fm:home/", "/home/ann home/ann", "/home home"},
		{"fm:/", ". a /a /", ""},
		{"sh:home/*", "/home/ann /home/ann/x ./home/ann", "/home /x/home/ann"},
		{"sh:/home/*/.cache", "/home/ann/.cache home/ann/.cache/x", "/home/.cache /home/ann/x/.cache"},
		{"sh:**/*.o", "a.o x/a.o /x/y/a.o", "a.odt"},
		{"sh:a/**/b", "a/b a/x/b a/x/y/b/c", "a ab a/xb"},
		{"sh:a/", "a/b a/b/c", "a"},
		{"sh:?", "a é \xff ?/b", "ab"},
		{"sh:a?b", "aéb", "a/b"},
		{"sh:a[!x]b", "ayb", "axb a/b"},
		{"sh:a[/]b", "a/b", "ab"},
		{"sh:[x", "[x", "x"},
		{"sh:\xff*", "\xff \xffa", "ÿ a"},
		{"sh:a.b", "a.b", "axb"},
		{"sh:***/a", "a x/y/a", "a.b"},
		{`re:\.o$`, "a.o x/a.o", "a.o/x"},
		{"re:^home/[^/]+/x", "/home/ann/x home/ann/xy", "/home/x /r/home/ann/x"},
		{"re:(?i)JPG$", "a.jpg /b.JpG", "jpg.x"},
		{"re:^.$", "a é \xff .", "ab"},
		{"pp:/home/ann/", "/home/ann home/ann/x ./home/ann", "/home /home/anna"},
		{"pp:a/../b", "b b/c", "a"},
		{"pp:*", "* */a", "a"},
		{"pp:/", "/ . a /a/b", ""},
		{"pf:/home/ann", "/home/ann home/ann", "/home/ann/x /home"},
	} {
		p, err := Parse(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		for _, path := range strings.Split(tt.matches, " ") {
			if !p.Match(path) {
				t.Errorf("%q does not match %q", tt.pattern, path)
			}
		}
		for _, path := range strings.Split(tt.others, " ") {
			if path != "" && p.Match(path) {
				t.Errorf("%q matches %q", tt.pattern, path)
			}
		}
	}
}

func TestWrongPatternsAreRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                            "is empty",
		"sh:":                         "is empty",
		"[z-a]":                       `has the range "z-a", which is empty`,
		"re:(":                        "is no regular expression: error parsing regexp: missing closing )",
		strings.Repeat("x", MaxLen+1): "is longer than 64 KiB",
		"\xff\xfea\x00":               "has a zero byte in it",
		"- /home/ann/.cache":          "begins with a sign of other programs",
		"+ *.go":                      "begins with a sign of other programs",
		"!*.go":                       "begins with a sign of other programs",
	} {
		err := new(Rules).Exclude(pattern, "--exclude")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--exclude: the pattern ") {
			t.Errorf("%.20q: %.300v", pattern, err)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%.20q: a message of %d bytes", pattern, len(err.Error()))
		}
	}
}

func TestTheFirstRuleDecides(t *testing.T) {
	r := new(Rules)
	file := "\ufeff# a comment\r\n\n  spaced \r\n*.o\n/home/ann/tmp/\nlast"
	if err := r.Exclude("/home/ann/x", "--exclude"); err != nil {
		t.Fatal(err)
	}
	if err := r.ExcludeFrom(strings.NewReader(file), "ex"); err != nil {
		t.Fatal(err)
	}
	if err := r.Exclude("/home/ann", "--exclude"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/home/ann/x":     "--exclude: /home/ann/x",
		"/home/ann/x/a.o": "--exclude: /home/ann/x",
		"/home/ann/y/a.o": "ex:4: *.o",
		"/home/ann/tmp":   "--exclude: /home/ann",
		"/home/ann/tmp/y": "ex:5: /home/ann/tmp/",
		"  spaced ":       "ex:3:   spaced ",
		"spaced":          "",
		"./last/x":        "ex:6: last",
		"# a comment":     "",
	} {
		excluded, rule := r.Decide(path)
		got := ""
		if rule != nil {
			got = rule.String()
		}
		if got != want || excluded != (want != "") {
			t.Errorf("%q: %v, %q, want %q", path, excluded, got, want)
		}
	}
	for _, none := range []*Rules{nil, new(Rules)} {
		if excluded, rule := none.Decide("a"); excluded || rule != nil || none.Len() != 0 {
			t.Errorf("no rules decide %v, %v", excluded, rule)
		}
	}
}

// TestIncludesAreAskedAfterExcludes is Attic's use of both, of which the expectations are.
func TestIncludesAreAskedAfterExcludes(t *testing.T) {
	files := strings.Fields("/etc/passwd /etc/hosts /home /home/user/.profile /home/user/.bashrc /home/user2/.profile " +
		"/home/user2/public_html/index.html /var/log/messages /var/log/dmesg")
	for _, tt := range []struct {
		includes, excludes string
		want               []int
	}{
		{"/", "", []int{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"", "", []int{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"/", "/h", []int{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"/", "/home", []int{0, 1, 7, 8}},
		{"/", "/home/", []int{0, 1, 2, 7, 8}},
		{"/home/u", "", nil},
		{"/ /home /etc/hosts", "/", nil},
		{"/home/", "/home/user2", []int{2, 3, 4}},
		{"/", "*.profile /var/log", []int{0, 1, 2, 4, 6}},
		{"/", "/home/*/public_html *.profile */log/*", []int{0, 1, 2, 4}},
		{"/etc/ /var", "dmesg", []int{0, 1, 7, 8}},
	} {
		r := new(Rules)
		for _, p := range strings.Fields(tt.excludes) {
			if err := r.Exclude(p, "--exclude"); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range strings.Fields(tt.includes) {
			if err := r.Include(p, "PATH"); err != nil {
				t.Fatal(err)
			}
		}
		var got []int
		for i, f := range files {
			if excluded, _ := r.Decide(f); !excluded {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("include %q, exclude %q: %v, want %v", tt.includes, tt.excludes, got, tt.want)
		}
	}
}

// TestALiteralIsFoundAsAPatternMatches compares the two ways to ask the same: by name, and one after the other.
func TestALiteralIsFoundAsAPatternMatches(t *testing.T) {
	seed := testSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	text := func(letters string) string {
		b := make([]byte, 1+rnd.IntN(6))
		for i := range b {
			b[i] = letters[rnd.IntN(len(letters))]
		}
		return string(b)
	}
	for range 20_000 {
		r := new(Rules)
		for range 1 + rnd.IntN(4) {
			if err := r.Exclude(text("ab/.*?"), "x"); err != nil {
				t.Fatal(err)
			}
		}
		path := text("ab/.")
		want := slices.IndexFunc(r.rules, func(rule *Rule) bool { return rule.Pattern.Match(path) })
		_, rule := r.Decide(path)
		if got := slices.Index(r.rules, rule); got != want {
			t.Fatalf("%q: rule %d of %q decides, want %d", path, got, r.rules, want)
		}
	}
}

func TestAFileOfPatternsIsBounded(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"a long line", "a\n" + strings.Repeat("x", 1<<20), "ex:2: the line is longer than 64 KiB"},
		{"many lines", strings.Repeat("abcdef\n", 1_000_000), "ex:100001: too many patterns"},
		{"many long lines", strings.Repeat(strings.Repeat("y", 60_000)+"\n", 1000), "ex:280: too many patterns"},
		{"many expressions", strings.Repeat("re:abc\n", 100_000), "ex:10001: too many patterns"},
		{"a long comment, and many", "#" + strings.Repeat("x", 1<<20) + "\r\n" + strings.Repeat("#x\n\n", 1<<19), ""},
		{"the longest line", strings.Repeat("x", MaxLen) + "\r\n" + strings.Repeat("x", MaxLen), ""},
	} {
		err := new(Rules).ExcludeFrom(strings.NewReader(tt.file), "ex")
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestNoPatternTakesExponentialTime has the patterns that are the worst for those who try everything.
func TestNoPatternTakesExponentialTime(t *testing.T) {
	path := strings.Repeat("a", 4000) + "/b"
	for _, pattern := range []string{
		strings.Repeat("*a", 500) + "c", strings.Repeat("*?", 500) + "c", strings.Repeat("*[ab]", 500) + "c",
		"sh:" + strings.Repeat("*a", 500) + "c", "sh:" + strings.Repeat("**/", 500) + "c", "re:(a*)*c",
	} {
		p, err := Parse(pattern)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if p.Match(path) {
			t.Errorf("%.20q matches", pattern)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%.20q took %v", pattern, took)
		}
	}
}

// oracle is the regular expression that the default style stands for.
func oracle(pattern string) *regexp.Regexp {
	pattern = whole(pattern)
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for pattern != "" {
		r, n := nextCharacter(pattern)
		rest := pattern[n:]
		switch r {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteString(`.`)
		case '[':
			c, after, err := parseClass(pattern)
			if err != nil {
				return nil
			}
			if rest = after; c == nil {
				b.WriteString(`\[`)
				break
			}
			b.WriteString(map[bool]string{false: `[`, true: `[^`}[c.not])
			for _, x := range c.ranges {
				fmt.Fprintf(&b, `\x{%x}-\x{%x}`, x[0], x[1])
			}
			b.WriteString(`]`)
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
		pattern = rest
	}
	return regexp.MustCompile(b.String() + `\z`)
}

func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{
		{"*.o", "/home/a.o"},
		{"/home/*/x[!a-c]?", "/home/ann/xdé/y"},
		{"a*b*c/", "aabbcc/x"},
		{"[]", "[]"},
		{"\xc3*\xa9", "é"},
		{"sh:**/a*[!b]", "x/y/ac"},
		{"re:^(a|b)+$", "abab"},
		{"pp:/a/../b/", "b/c"},
		{"fm:./x?", "./xy"},
		{"pf:/", "."},
		{"*[\xff-\xfe]", "a"},
		{"a\n*", "a\nb"},
		{"*?*?*[a]", "b/a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 200 || len(path) > 400 {
			return // for the sake of the regular expressions
		}
		p, err := Parse(pattern)
		if err != nil {
			return
		}
		got := p.Match(path)
		r := new(Rules)
		if err := r.Exclude(pattern, "x"); err != nil {
			t.Fatal(err)
		}
		if excluded, rule := r.Decide(path); excluded != got || (rule != nil) != got {
			t.Fatalf("%q on %q: match %v, decide %v", pattern, path, got, excluded)
		}
		if got && p.style != regex && p.style != full && !p.Match(path+"/below") {
			t.Fatalf("%q matches %q and nothing below", pattern, path)
		}
		if p.style != attic {
			return
		}
		o := oracle(pattern)
		s := newSubject(path)
		want := o.MatchString(toUnicode(s.given)) || s.bare != "" && o.MatchString(toUnicode(s.bare))
		if strings.HasPrefix(pattern, "./") { // here alone we go beyond Attic
			want = got && !strings.HasPrefix(path, "/")
		}
		if got != want {
			t.Fatalf("%q on %q: %v, want %v", pattern, path, got, want)
		}
	})
}

func testSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("GARRET_TEST_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("GARRET_TEST_SEED=%d", seed)
	return seed
}

// BenchmarkDecide has the excludes of a home folder, and paths that none matches.
func BenchmarkDecide(b *testing.B) {
	rules := func(styles ...string) *Rules {
		r := new(Rules)
		for i := range 50 {
			text := fmt.Sprintf(styles[i%len(styles)], i)
			if err := r.Exclude(text, "--exclude"); err != nil {
				b.Fatal(err)
			}
		}
		return r
	}
	paths := make([]string, 80_000)
	for i := range paths {
		paths[i] = fmt.Sprintf("/home/ann/projects/number%d/src/some/package%d/file%d.go", i/1000, i/20%50, i)
	}
	for name, r := range map[string]*Rules{
		"mixed":   rules("/home/*/.cache%d", "*.o%d", "/home/ann/tmp%d/", "*/node_modules%d/*", "*[0-9]x%d"),
		"names":   rules("/home/ann/tmp%d"),
		"shell":   rules("sh:**/.cache%d"),
		"regexps": rules(`re:\.o%d$`),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for _, p := range paths {
					if excluded, _ := r.Decide(p); excluded {
						b.Fatal(p)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(paths)), "ns/path")
		})
	}
}
