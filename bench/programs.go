package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"garret/bench/measure"
)

// A place is a program's own: its repository, cache and keys. It is empty at first.
type place struct{ dir string }

func (p place) repo() string { return filepath.Join(p.dir, "repo") }

// file is what programs write that make one file.
func (p place) file() string { return filepath.Join(p.dir, "file") }

// in returns a command that runs in a directory and finds nothing of what the user has.
func (p place) in(dir string, args ...string) measure.Command {
	return measure.Command{Args: args, Dir: dir, Env: []string{
		"HOME=" + p.dir,
		"XDG_CACHE_HOME=" + filepath.Join(p.dir, "cache"),
		"XDG_CONFIG_HOME=" + filepath.Join(p.dir, "config"),
		"LC_ALL=C.UTF-8",
		"GARRET_PASSPHRASE=secret",
		"GARRET_CACHE_DIR=" + filepath.Join(p.dir, "cache"),
		"GARRET_KEYS_DIR=" + filepath.Join(p.dir, "keys"),
		"BORG_PASSPHRASE=secret",
		"BORG_BASE_DIR=" + p.dir,
		"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		"RESTIC_PASSWORD=secret",
		"RESTIC_CACHE_DIR=" + filepath.Join(p.dir, "cache"),
		"KOPIA_PASSWORD=secret",
		"KOPIA_CONFIG_PATH=" + filepath.Join(p.dir, "kopia.config"),
		"KOPIA_CACHE_DIRECTORY=" + filepath.Join(p.dir, "cache"),
		"KOPIA_LOG_DIR=" + filepath.Join(p.dir, "log"),
		"KOPIA_CHECK_FOR_UPDATES=false",
	}}
}

func (p place) run(args ...string) measure.Command { return p.in(p.dir, args...) }

// A program does work. What it does not do is nil, or returns no commands. Archives have names; data is an absolute path of a
// folder, or of a file.
type program struct {
	name    string
	path    string                          // of what is run
	version []string                        // arguments that make it tell its version
	init    func(p place) []measure.Command // is not measured
	create  func(p place, archive, data string) []measure.Command
	again   bool                                         // it notices what has not changed since a former archive
	stat    func(p place, data string) []measure.Command // looks at all files, as any program has to
	list    func(p place, archive string) []measure.Command
	extract func(p place, archive, target string) []measure.Command                       // into a folder that is there
	check   func(p place) []measure.Command                                               // reads and verifies all data
	remove  func(ctx context.Context, p place, archive string) ([]measure.Command, error) // and gives its room back
}

// programs returns those of the names that are installed, and the names of the others.
func programs(garrets []string, names []string) (found []*program, missing []string) {
	for i, path := range garrets {
		name := "garret"
		if i > 0 {
			name = filepath.Base(path)
		}
		found = append(found, garret(name, path))
	}
	known := map[string]func(path string) *program{
		"borg": borg, "restic": restic, "kopia": kopia, "tar": tar, "tar|zstd": tarZstd, "cp": cp, "find": find, "dd": dd,
	}
	for _, name := range names {
		make, ok := known[name]
		path, err := exec.LookPath(strings.Split(name, "|")[0])
		if name == "tar|zstd" && err == nil {
			_, err = exec.LookPath("zstd")
		}
		if !ok || err != nil {
			missing = append(missing, name)
			continue
		}
		p := make(path)
		p.name = name
		found = append(found, p)
	}
	return found, missing
}

func garret(name, path string) *program {
	// A check reads all data in any case. Where it can also open and compare all of it, that is what peers do.
	check := []string{path, "check"}
	if out, err := exec.Command(path, "check", "--help").Output(); err == nil && strings.Contains(string(out), "--verify-data") {
		check = append(check, "--verify-data")
	}
	return &program{
		name: name, path: path, version: []string{"version"}, again: true,
		init: func(p place) []measure.Command { return one(p.run(path, "init", "-e", "keyfile", p.repo())) },
		create: func(p place, archive, data string) []measure.Command {
			dir, what := split(data)
			return one(p.in(dir, path, "create", p.repo()+"::"+archive, what))
		},
		list: func(p place, archive string) []measure.Command {
			return one(p.run(path, "list", p.repo()+"::"+archive))
		},
		extract: func(p place, archive, target string) []measure.Command {
			return one(p.run(path, "extract", p.repo()+"::"+archive, "--target", target))
		},
		check: func(p place) []measure.Command { return one(p.run(append(check, p.repo())...)) },
		remove: func(_ context.Context, p place, archive string) ([]measure.Command, error) {
			return one(p.run(path, "delete", p.repo()+"::"+archive)), nil // which compacts
		},
	}
}

func borg(path string) *program {
	return &program{
		path: path, version: []string{"--version"}, again: true,
		init: func(p place) []measure.Command { return one(p.run(path, "init", "-e", "repokey", p.repo())) },
		create: func(p place, archive, data string) []measure.Command {
			dir, what := split(data)
			return one(p.in(dir, path, "create", p.repo()+"::"+archive, what))
		},
		list: func(p place, archive string) []measure.Command {
			return one(p.run(path, "list", p.repo()+"::"+archive))
		},
		extract: func(p place, archive, target string) []measure.Command {
			return one(p.in(target, path, "extract", p.repo()+"::"+archive))
		},
		check: func(p place) []measure.Command { return one(p.run(path, "check", "--verify-data", p.repo())) },
		remove: func(_ context.Context, p place, archive string) ([]measure.Command, error) {
			return []measure.Command{p.run(path, "delete", p.repo()+"::"+archive), p.run(path, "compact", p.repo())}, nil
		},
	}
}

func restic(path string) *program {
	return &program{
		path: path, version: []string{"version"}, again: true,
		init: func(p place) []measure.Command { return one(p.run(path, "-r", p.repo(), "init")) },
		create: func(p place, archive, data string) []measure.Command {
			dir, what := split(data)
			return one(p.in(dir, path, "-q", "-r", p.repo(), "backup", "--tag", archive, what))
		},
		list: func(p place, archive string) []measure.Command {
			return one(p.run(path, "-r", p.repo(), "ls", "--tag", archive, "latest"))
		},
		extract: func(p place, archive, target string) []measure.Command {
			return one(p.run(path, "-q", "-r", p.repo(), "restore", "--tag", archive, "latest", "--target", target))
		},
		check: func(p place) []measure.Command { return one(p.run(path, "-q", "-r", p.repo(), "check", "--read-data")) },
		remove: func(ctx context.Context, p place, archive string) ([]measure.Command, error) {
			id, err := snapshotID(ctx, p.run(path, "-r", p.repo(), "snapshots", "--json", "--tag", archive), nil)
			return one(p.run(path, "-q", "-r", p.repo(), "forget", "--prune", id)), err
		},
	}
}

func kopia(path string) *program {
	id := func(ctx context.Context, p place, archive string) (string, error) {
		return snapshotID(ctx, p.run(path, "snapshot", "list", "--all", "--json"), &archive)
	}
	// withID makes commands that need the id of an archive, which is looked up outside of the measurement.
	withID := func(p place, archive string, args func(id string) []string) []measure.Command {
		id, err := id(context.Background(), p, archive)
		if err != nil {
			id = archive // and let kopia say that there is no such snapshot
		}
		return one(p.run(append([]string{path}, args(id)...)...))
	}
	file := "" // the name of the file, if that is all the data
	return &program{
		path: path, version: []string{"--version"}, again: true,
		init: func(p place) []measure.Command {
			return one(p.run(path, "repository", "create", "filesystem", "--path", p.repo()))
		},
		create: func(p place, archive, data string) []measure.Command {
			file = ""
			if info, err := os.Stat(data); err == nil && !info.IsDir() {
				file = filepath.Base(data)
			}
			return one(p.run(path, "snapshot", "create", "--no-progress", "--tags", "name:"+archive, data))
		},
		list: func(p place, archive string) []measure.Command {
			return withID(p, archive, func(id string) []string { return []string{"list", "-l", "-r", id} })
		},
		extract: func(p place, archive, target string) []measure.Command {
			target = filepath.Join(target, file) // a file's copy has this name, and is not put into a folder
			return withID(p, archive, func(id string) []string { return []string{"restore", "--no-progress", id, target} })
		},
		check: func(p place) []measure.Command {
			return one(p.run(path, "snapshot", "verify", "--verify-files-percent=100"))
		},
		remove: func(ctx context.Context, p place, archive string) ([]measure.Command, error) {
			id, err := id(ctx, p, archive)
			return []measure.Command{
				p.run(path, "snapshot", "delete", "--delete", id),
				p.run(path, "maintenance", "run", "--full", "--safety=none"),
			}, err
		},
	}
}

// snapshotID finds the id of an archive in what a command lists: the only one or, if tag is not nil, the one with the tag.
func snapshotID(ctx context.Context, c measure.Command, tag *string) (string, error) {
	out, err := measure.Output(ctx, c)
	if err != nil {
		return "", err
	}
	var snapshots []struct {
		ID   string          `json:"id"`
		Tags json.RawMessage `json:"tags"`
	}
	if err := json.Unmarshal(out, &snapshots); err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	for _, s := range snapshots {
		var tags map[string]string
		if tag == nil {
			return s.ID, nil
		}
		if json.Unmarshal(s.Tags, &tags) == nil && (tags["tag:name"] == *tag || tags["name"] == *tag) {
			return s.ID, nil
		}
	}
	return "", errors.New("there is no such archive")
}

func tar(path string) *program {
	return &program{
		path: path, version: []string{"--version"},
		create: func(p place, _, data string) []measure.Command {
			dir, what := split(data)
			return one(p.in(dir, path, "-cf", p.file(), what))
		},
		list:    func(p place, _ string) []measure.Command { return one(p.run(path, "-tvf", p.file())) },
		extract: func(p place, _, target string) []measure.Command { return one(p.in(target, path, "-xf", p.file())) },
	}
}

func tarZstd(path string) *program {
	sh := func(p place, dir, script string) []measure.Command {
		return one(p.in(dir, "/bin/sh", "-c", script, "sh", p.file()))
	}
	return &program{
		path: path, version: []string{"--version"},
		create: func(p place, _, data string) []measure.Command {
			dir, what := split(data)
			c := sh(p, dir, `tar -cf - "$2" | zstd -q -1 -T0 -f -o "$1"`)
			c[0].Args = append(c[0].Args, what)
			return c
		},
		list: func(p place, _ string) []measure.Command { return sh(p, p.dir, `zstd -q -d -c "$1" | tar -tvf -`) },
		extract: func(p place, _, target string) []measure.Command {
			return sh(p, target, `zstd -q -d -c "$1" | tar -xf -`)
		},
		check: func(p place) []measure.Command { return one(p.run("zstd", "-q", "-t", p.file())) },
	}
}

func cp(path string) *program {
	return &program{
		path: path, version: []string{"--version"},
		create: func(p place, _, data string) []measure.Command { return one(p.run(path, "-a", data, p.file())) },
	}
}

func find(path string) *program {
	return &program{
		path: path, version: []string{"--version"},
		stat: func(p place, data string) []measure.Command {
			return one(p.run(path, data, "-printf", `%p %s %m %U %G %T@ %C@ %i\n`))
		},
	}
}

// dd copies a file as fast as the disk takes it.
func dd(path string) *program {
	return &program{
		path: path, version: []string{"--version"},
		create: func(p place, _, data string) []measure.Command {
			if info, err := os.Stat(data); err != nil || !info.Mode().IsRegular() {
				return nil
			}
			return one(p.run(path, "if="+data, "of="+p.file(), "bs=1M", "conv=fsync"))
		},
	}
}

func one(c measure.Command) []measure.Command { return []measure.Command{c} }

// split returns where a program runs to store data under a short path, and that path.
func split(data string) (dir, what string) { return filepath.Dir(data), filepath.Base(data) }
