package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"testing"
	"time"
	_ "time/tzdata" // machines need not know all zones

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"garret/internal/backup"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/location"
	"garret/repository"
)

func TestMain(m *testing.M) {
	testscript.Main(heedingSignals{m}, map[string]func(){
		"slow-rsh": slowRSH,
		"garret": func() {
			if os.Getenv(throughServer) != "" {
				elsewhere = func(l location.Location) location.Location {
					l.Host = "localhost"
					return l
				}
			}
			if change := os.Getenv(changeWhileRead); change != "" {
				whileReading = changing(change)
			}
			os.Exit(Main())
		},
		"faulty-connection": faultyConnection,
	})
}

// heedingSignals has the processes that tests start heed the signals that whoever started the tests had ignored, as nohup does.
type heedingSignals struct{ testscript.TestingM }

func (m heedingSignals) Run() int {
	for _, s := range []os.Signal{os.Interrupt, unix.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // what is notified is not ignored, and a process begins with the default
		}
	}
	return m.TestingM.Run()
}

// golden is the folder with the repositories that Attic wrote.
const golden = "../archive/testdata/golden"

const scriptsDir = "testdata/script"

func TestScripts(t *testing.T) { runScripts(t, nil, nil) }

// runScripts runs scripts, all if none are given, with more variables in the environment.
func runScripts(t *testing.T, scripts, vars []string) {
	dir := scriptsDir
	if scripts != nil {
		dir = ""
	}
	goldenDir, err := filepath.Abs(golden)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		Files:              scripts,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, testEnv(env.WorkDir)...)
			env.Vars = append(env.Vars, vars...)
			env.Setenv("GOLDEN", goldenDir)
			env.Values[lockedKey{}] = locked{}
			env.Defer(func() { unmountBelow(env.WorkDir) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "local": // repositories are opened without a server
				return len(vars) == 0, nil
			case "root":
				return os.Geteuid() == 0, nil
			case "mounts": // something is mounted on /dev/shm
				return onOtherDevice("/dev", "/dev/shm"), nil
			case "fuse":
				return fuseCondition()
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"archive":    makeArchive,
			"code":       runWithCode,
			"flip":       flip,
			"lock":       lock,
			"lose-items": loseItems,
			"mark":       checkMark,
			"misname":    misname,
			"unlock":     unlock,
		},
	})
}

// onOtherDevice reports whether there are two files, and they are on different file systems.
func onOtherDevice(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Lstat(a, &sa) == nil && unix.Lstat(b, &sb) == nil && sa.Dev != sb.Dev
}

// testEnv is an environment in which nothing of the person's own is read or changed.
func testEnv(dir string) []string {
	return []string{
		"HOME=" + filepath.Join(dir, "home"),
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"GARRET_KEYS_DIR=" + filepath.Join(dir, "keys"),
		"GARRET_CACHE_DIR=" + filepath.Join(dir, "cache"),
		"TZ=UTC",
	}
}

// runWithCode runs a command that must end with an exit code: code N COMMAND [ARGUMENT...]
func runWithCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// makeArchive makes an archive as of some time in a repository that is not encrypted, as if by a host:
// archive REPO NAME TIME PATH [HOST]
func makeArchive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || len(args) > 5 {
		ts.Fatalf("usage: archive REPO NAME TIME PATH [HOST]")
	}
	at, err := time.Parse("2006-01-02T15:04:05", args[2])
	ts.Check(err)
	ctx := context.Background()
	r, err := repository.Open(ctx, ts.MkAbs(args[0]), &repository.Options{Exclusive: true, LockWait: time.Minute})
	ts.Check(err)
	defer r.Close()
	env, err := catalog.Manifest(ctx, r)
	ts.Check(err)
	cat, err := catalog.New(r, envelope.NewPlaintext(), env)
	ts.Check(err)
	_, err = backup.Run(ctx, r, cat, backup.Options{
		Name: args[1], Time: at, Dir: ts.MkAbs("."), Paths: args[3:4], Hostname: optional(args, 4),
	})
	ts.Check(err)
}

// flip changes a byte of a file: flip FILE OFFSET, where a negative offset counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x10
	ts.Check(os.WriteFile(path, data, 0o644))
}

// loseItems deletes the first chunk of an archive's items from a repository that is not encrypted: lose-items REPO ARCHIVE
func loseItems(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lose-items REPO ARCHIVE")
	}
	ctx := context.Background()
	r, err := repository.Open(ctx, ts.MkAbs(args[0]), &repository.Options{Exclusive: true, LockWait: time.Minute})
	ts.Check(err)
	defer r.Close()
	env, err := catalog.Manifest(ctx, r)
	ts.Check(err)
	cat, err := catalog.New(r, envelope.NewPlaintext(), env)
	ts.Check(err)
	a, err := cat.Archive(ctx, args[1])
	ts.Check(err)
	ts.Check(r.Delete(ctx, a.Items[0]))
	ts.Check(r.Commit(ctx))
}

// misname gives an archive a name that no new one can have, in a repository that is not encrypted:
// misname REPO ARCHIVE NAME, with the name as Go quotes it
func misname(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: misname REPO ARCHIVE NAME")
	}
	name, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	ctx := context.Background()
	r, err := repository.Open(ctx, ts.MkAbs(args[0]), &repository.Options{Exclusive: true, LockWait: time.Minute})
	ts.Check(err)
	defer r.Close()
	env, err := catalog.Manifest(ctx, r)
	ts.Check(err)
	cat, err := catalog.New(r, envelope.NewPlaintext(), env)
	ts.Check(err)
	a, err := cat.Archive(ctx, args[1])
	ts.Check(err)
	a.Name = name
	record := a.Encode()
	env, err = cat.Key.Seal(nil, record)
	ts.Check(err)
	ref := cat.Manifest.Archives[args[1]]
	ts.Check(r.Delete(ctx, ref.ID))
	ref.ID = cat.Key.ID(record)
	ts.Check(r.Put(ctx, ref.ID, env))
	archives := cat.Manifest.Archives
	delete(archives, args[1])
	archives[name] = ref
	ts.Check(cat.Save(ctx, r, archives))
	ts.Check(r.Commit(ctx))
}

// locked holds the repositories that a script has locked, by path.
type locked map[string]*repository.Repository

// lock opens a repository exclusively until unlock or the end of the script: lock REPO
func lock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lock REPO")
	}
	r, err := repository.Open(context.Background(), ts.MkAbs(args[0]), &repository.Options{Exclusive: true, LockWait: 5 * time.Minute})
	ts.Check(err)
	ts.Defer(func() { r.Close() })
	ts.Value(lockedKey{}).(locked)[args[0]] = r
}

type lockedKey struct{}

// unlock closes a repository that was locked: unlock REPO
func unlock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unlock REPO")
	}
	ts.Check(ts.Value(lockedKey{}).(locked)[args[0]].Close())
}
