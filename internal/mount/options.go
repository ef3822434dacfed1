package mount

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"garret/internal/catalog"
)

// Options say what is mounted, and how. The zero value mounts nothing: Archives must be set.
type Options struct {
	// Archives are what is shown: one folder for each, or, if Single is set, the content of the first alone.
	Archives []catalog.Entry
	Single   bool
	// Source is shown in the system's list of mounts.
	Source string
	// Warn is told once of each file that cannot be shown as it was, and with an empty path of what concerns none. It may
	// be called by several goroutines at a time.
	Warn func(path string, err error)

	AllowOther         bool     // users other than the one who mounts have access
	IgnorePermissions  bool     // even so, whoever has access may read everything
	DefaultPermissions bool     // the kernel checks permissions, also if nobody else has access
	AllowDamaged       bool     // zeros stand for the parts of files that are lost, instead of an error
	NonEmpty           bool     // the mount point may have files in it, which are hidden meanwhile
	UID, GID           *uint32  // who owns all files; nil: who owns them in the archive
	Umask              uint32   // permissions that are taken away
	Flags              []string // of the mount: nosuid, noexec and the like

	TreeBytes  int64 // bound of the memory for archives' directories; 0: 48 MiB. The last three are kept in any case
	ChunkBytes int64 // bound of the memory for opened chunks; 0: 32 MiB
}

// OptionsHelp lists what ParseOptions takes, for people.
const OptionsHelp = `  allow_other          other users have access too; the kernel then checks permissions
  ignore_permissions   with allow_other: whoever has access may read everything
  default_permissions  the kernel checks permissions in any case
  uid=N, gid=N         who owns all files
  umask=OOO            permissions to take away, in octal
  allow_damaged_files  zeros stand for the parts of files that are lost, instead of an error
  nonempty             the mount point may have files in it, which are hidden meanwhile
  [no]dev, [no]suid, [no]exec, ro, noatime`

// OptionError is about an option that ParseOptions does not take.
type OptionError struct{ msg string }

func (e *OptionError) Error() string { return e.msg }

// Parse takes in options as mount(8) has them, apart by commas. Errors are of type *OptionError.
func (o *Options) Parse(list string) error {
	switches := map[string]*bool{
		"allow_other":         &o.AllowOther,
		"ignore_permissions":  &o.IgnorePermissions,
		"default_permissions": &o.DefaultPermissions,
		"allow_damaged_files": &o.AllowDamaged,
		"nonempty":            &o.NonEmpty,
		"ro":                  new(bool), // which it is always
		"noatime":             new(bool),
	}
	numbers := map[string]func(string) error{
		"uid":   func(s string) error { return parseID(s, &o.UID) },
		"gid":   func(s string) error { return parseID(s, &o.GID) },
		"umask": o.parseUmask,
	}
	for option := range strings.SplitSeq(list, ",") {
		name, value, valued := strings.Cut(option, "=")
		set, parse := switches[name], numbers[name]
		flag := slices.Contains(mountFlags, name)
		var err error
		switch {
		case name == "rw":
			err = errors.New("archives cannot be written to")
		case set == nil && parse == nil && !flag:
			err = errors.New("it is not known; \"garret mount --help\" lists those that are")
		case parse != nil && !valued:
			err = errors.New("it needs a value")
		case parse != nil:
			err = parse(value)
		case valued:
			err = errors.New("it takes no value")
		case flag:
			o.Flags = append(o.Flags, name)
		default:
			*set = true
		}
		if err != nil {
			return &OptionError{fmt.Sprintf("mount option %q: %v", option, err)}
		}
	}
	return nil
}

// mountFlags are the options that are the system's.
var mountFlags = []string{"dev", "nodev", "suid", "nosuid", "exec", "noexec"}

func parseID(s string, to **uint32) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 { // which means "leave it" to the system
		return errors.New("it must be a number below 4294967295")
	}
	*to = new(uint32(n))
	return nil
}

func (o *Options) parseUmask(s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("it must be an octal number up to 777")
	}
	o.Umask = uint32(n)
	return nil
}
