package archive

import "testing"

func TestAMarkIsAnAttributeOfTheItem(t *testing.T) {
	plain := &Item{Path: "a", Mode: 0o100644, HasChunks: true, Xattrs: map[string][]byte{"user.a": []byte("b")}}
	if f := plain.Flaw(); f != "" {
		t.Errorf("the flaw is %q without a mark", f)
	}
	for value, want := range map[string]Flaw{
		"changed": FlawChanged, "short": FlawShort, "of-later-times": "unknown", "": "unknown", "\x1b[2J": "unknown",
	} {
		it := *plain
		it.SetFlaw(Flaw(value))
		got, err := DecodeItem(AppendItem(nil, &it))
		if err != nil {
			t.Fatal(err)
		}
		if got.Flaw() != want || got.Flaw().Text() == "" || len(got.Unknown) != 0 || string(got.Xattrs["user.a"]) != "b" {
			t.Errorf("%q is read as %q; attributes %q", value, got.Flaw(), got.Xattrs)
		}
	}
	if len(plain.Xattrs) != 1 {
		t.Error("the mark of one item is that of another")
	}
}
