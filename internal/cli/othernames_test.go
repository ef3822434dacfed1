package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestOtherNamesAreTakenOrExplained tries all that is in the table.
func TestOtherNamesAreTakenOrExplained(t *testing.T) {
	useEnv(t)
	root := new(app).root()
	for _, o := range otherNames {
		if (o.ours == "") == (o.advice == "") {
			t.Errorf("%s: it is either taken or explained", o.name)
		}
		if !o.isFlag() {
			if o.ours == "" {
				wantAdvice(t, o, o.name, "--any", "x")
			} else if cmd, _, err := root.Find([]string{o.name}); err != nil || cmd.Name() != o.ours {
				t.Errorf("%s is not %s: %v", o.name, o.ours, err)
			}
			continue
		}
		commands := strings.Fields(o.commands)
		if o.commands == "" {
			commands = []string{"create", "list", "prune"}
		}
		for _, command := range commands {
			cmd, _, err := root.Find([]string{command})
			if err != nil || cmd.Name() != command {
				t.Fatalf("%s: %v", command, err)
			}
			if o.ours == "" {
				wantAdvice(t, o, command, o.name)
				continue
			}
			cmd.InheritedFlags()
			ours := cmd.Flag(strings.TrimPrefix(o.ours, "--"))
			taken := cmd.Flags().Lookup(strings.TrimPrefix(o.name, "--"))
			if len(o.name) == 2 {
				taken = cmd.Flags().ShorthandLookup(o.name[1:])
			}
			if ours == nil || taken != ours {
				t.Errorf("%s %s is not %s", command, o.name, o.ours)
			}
		}
	}
}

// wantAdvice runs a command that must end with advice.
func wantAdvice(t *testing.T, o otherName, args ...string) {
	t.Helper()
	code, _, stderr := inEnv(t.Context(), args...)
	if code != exitError || !strings.Contains(stderr, o.name) || !strings.HasSuffix(stderr, ": "+o.advice+"\n") {
		t.Errorf("garret %s: exit code %d, %s", strings.Join(args, " "), code, stderr)
	}
}

// TestOtherNamesAreDocumented holds the table in the document against that in the program.
func TestOtherNamesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../doc/other-names.md")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	table.WriteString("| who types | for | takes or does |\n| --- | --- | --- |\n")
	for _, o := range otherNames {
		what, instead := "`"+o.name+"`", "`"+o.ours+"`"
		if o.commands != "" {
			what += " of `" + strings.Join(strings.Fields(o.commands), "`, `") + "`"
		}
		if o.ours == "" {
			instead = o.advice
		}
		fmt.Fprintf(&table, "| %s | %s | %s |\n", what, o.programs, instead)
	}
	if !strings.HasSuffix(string(doc), "\n\n"+table.String()) {
		t.Errorf("the table should be:\n%s", table.String())
	}
}
