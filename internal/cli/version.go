package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Tell the version of this program",
		Long: `Tell the version of this program, the system that it was built for, and the version of Go that it was built with. With
--verbose, list the modules in it too, with their versions.

With --json, an object: "version", "revision" (of the source, if it is known), "os", "arch" and "go".`,
		Args: args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := ownVersion()
			if a.json {
				return a.emit(v)
			}
			_, err := fmt.Fprintf(a.stdout, "garret %s\n", v)
			if info, ok := debug.ReadBuildInfo(); ok && a.verbose {
				for _, m := range info.Deps {
					_, moduleErr := fmt.Fprintf(a.stdout, "  %s %s\n", m.Path, m.Version)
					err = cmp.Or(err, moduleErr)
				}
			}
			return err
		},
	}
}

// buildVersion is what is known about how the program was built.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Go       string `json:"go"`

	time string // of the revision, RFC 3339
}

func (v buildVersion) String() string {
	version := v.Version
	if version == "(devel)" && v.Revision != "" {
		version += " " + v.Revision
	}
	return fmt.Sprintf("%s %s/%s %s", version, v.OS, v.Arch, v.Go)
}

func ownVersion() buildVersion {
	v := buildVersion{Version: "(unknown)", OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.time":
				v.time = s.Value
			}
		}
	}
	return v
}
