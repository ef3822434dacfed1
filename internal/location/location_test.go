package location

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Location
	}{
		{"/srv/attic", Location{Path: "/srv/attic"}},
		{"attic", Location{Path: "attic"}},
		{"../attic::monday", Location{Path: "../attic", Archive: "monday"}},
		{"./a:b", Location{Path: "./a:b"}},
		{"/a:b::c:d", Location{Path: "/a:b", Archive: "c:d"}},
		{"::monday", Location{Archive: "monday"}},
		{"file:///srv/attic::x::y", Location{Path: "/srv/attic", Archive: "x::y"}},
		{"host:attic", Location{Host: "host", Path: "attic"}},
		{"me@host:~/attic::now", Location{User: "me", Host: "host", Path: "~/attic", Archive: "now"}},
		{"ssh://host/attic", Location{Host: "host", Path: "/attic"}},
		{"ssh://me@host:2222/srv/attic::now", Location{User: "me", Host: "host", Port: 2222, Path: "/srv/attic", Archive: "now"}},
	} {
		got, err := Parse(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.in, got, err, tt.want)
			continue
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Errorf("Parse(%q) of %q again = %+v, %v", got.String(), tt.in, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"", "::", "/repo::", "host:", "@host:x", "me@:x", ":x", "file://repo", "ssh://host", "ssh:///x", "ssh://h:0/x",
		"ssh://h:port/x", "ssh://h:70000/x", "-oProxyCommand=x:y", "-x@h:y", "ssh://-x/y", "a\x00b",
	} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/a::b", "h:p", "ssh://u@h:1/p::a", "file:///p", "::a", "./a:b", "./ssh://x/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(l.String())
		if err != nil || again != l {
			t.Fatalf("%q gave %+v, whose text %q gives %+v, %v", s, l, l.String(), again, err)
		}
		if !l.Remote() && strings.HasPrefix(s, "ssh://") {
			t.Fatalf("%q is local: %+v", s, l)
		}
	})
}
