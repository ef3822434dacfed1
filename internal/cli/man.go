package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand is for who packages the program, and so not listed.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages",
		Long: `Write the manual pages into a folder, which is made if need be: one for each command, in section 1, and one for each
topic of the help, in section 7. Their date is that of SOURCE_DATE_EPOCH, else of the source, so that they come out the
same each time.`,
		Hidden: true,
		Args:   args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := manDate()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return err
			}
			header := doc.GenManHeader{Date: &date, Source: "garret", Manual: "Garret"}
			root := cmd.Root()
			markUp(root)
			if err := doc.GenManTree(root, &header, args[0]); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			header.Section = "7"
			for _, topic := range root.Commands() {
				if topic.IsAdditionalHelpTopicCommand() {
					if err := writeTopic(topic, header, args[0]); err != nil {
						return fmt.Errorf("write the manual pages: %w", err)
					}
				}
			}
			return nil
		},
	}
}

// markUp makes Markdown of the help of a command and those below it, as the pages are made from that: what is indented in
// the help is to stay as it is, and the rest has no mark-up.
func markUp(cmd *cobra.Command) {
	var b strings.Builder
	for line := range strings.Lines(cmd.Long) {
		if strings.HasPrefix(line, "  ") {
			b.WriteString("    " + line)
		} else {
			b.WriteString(markdown.Replace(line))
		}
	}
	cmd.Long = b.String()
	for _, sub := range cmd.Commands() {
		markUp(sub)
	}
}

// markdown escapes what Markdown would take for mark-up.
var markdown = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`)

func writeTopic(topic *cobra.Command, header doc.GenManHeader, dir string) error {
	f, err := os.Create(filepath.Join(dir, "garret-"+topic.Name()+".7"))
	if err != nil {
		return err
	}
	return cmp.Or(doc.GenMan(topic, &header, f), f.Close())
}

// manDate returns the date for the manual pages.
func manDate() (time.Time, error) {
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		sec, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return time.Time{}, &usageError{fmt.Sprintf("SOURCE_DATE_EPOCH is %q, which is no number of seconds", epoch)}
		}
		return time.Unix(sec, 0).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339, ownVersion().time); err == nil {
		return t.UTC(), nil
	}
	return time.Unix(0, 0).UTC(), nil
}
