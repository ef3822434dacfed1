package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"garret/internal/ui"
)

func TestEveryCommandIsListedUnderAHeading(t *testing.T) {
	a := &app{stdin: strings.NewReader(""), stdout: &output{Writer: io.Discard}, ui: ui.New(nil, io.Discard)}
	root := a.root()
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.GroupID == "" {
			t.Errorf("%q is in no group", cmd.Name())
		}
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%q is described as %q", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 130 {
				t.Errorf("%q has a line of %d columns: %q", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
