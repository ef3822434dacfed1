package crash

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// calls are the system calls that a trace must have. Those that are not modelled are there to be noticed.
const calls = "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,rename,renameat," +
	"renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,truncate,ftruncate,fallocate,link,linkat,symlink,symlinkat,close," +
	"dup,dup2,dup3,copy_file_range,sendfile,splice,mmap,ioctl,fcntl,io_uring_setup,io_submit,chdir,fchdir"

// Strace returns the command line that runs a command and records it to a file, for Replay.
func Strace(file string, command ...string) []string {
	return append([]string{
		"strace", "-f", "--seccomp-bpf", "-qq", "-o", file, "-xx", "-s", strconv.Itoa(64 << 20), "-e", "signal=none",
		"-e", "trace=" + calls,
	}, command...)
}

// Replay does to the medium what a process did, by its trace, and calls at after each call that has changed something.
func (m *Medium) Replay(trace io.Reader, at func() error) error {
	p := process{m: m, open: map[int64]*opened{}, begun: map[string]begun{}}
	r := bufio.NewReaderSize(trace, 1<<20)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			changed, lineErr := p.line(strings.TrimRight(line, "\n"))
			if lineErr != nil {
				return fmt.Errorf("trace: %w: %.200s", lineErr, line)
			}
			if changed {
				if err := at(); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// process is one that a trace is of. Its threads share all.
type process struct {
	m     *Medium
	open  map[int64]*opened
	begun map[string]begun // by thread
}

// opened is an open file or folder of the medium.
type opened struct {
	n      *node
	path   string
	offset int64
	append bool
}

// begun is a call that others have come between.
type begun struct {
	text string
	seq  int
	file *opened // of a close
}

var errNotModelled = errors.New("a call that is not modelled")

// line handles a line of strace: "THREAD CALL(ARGUMENT, ...) = RESULT", where what others do can stand between the two halves.
func (p *process) line(line string) (bool, error) {
	thread, text, _ := strings.Cut(line, " ")
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") || strings.HasSuffix(text, "<detached ...>") {
		return false, nil
	}
	since := p.m.seq
	var closing *opened
	if rest, ok := strings.CutSuffix(text, "<unfinished ...>"); ok {
		b := begun{text: rest, seq: p.m.seq}
		if arg, ok := strings.CutPrefix(rest, "close("); ok {
			// Its number is free from here on.
			fd, _ := strconv.ParseInt(strings.Trim(arg, ") "), 10, 64)
			delete(p.open, fd)
			b.file = &opened{}
		}
		p.begun[thread] = b
		return false, nil
	}
	if strings.HasPrefix(text, "<... ") {
		_, rest, ok := strings.Cut(text, "resumed>")
		b, known := p.begun[thread]
		if !ok || !known {
			return false, errors.New("the end of a call without its beginning")
		}
		text, since, closing = b.text+rest, b.seq, b.file
	}
	if closing != nil {
		return false, nil
	}
	name, rest, ok := strings.Cut(text, "(")
	i := strings.LastIndex(rest, " = ")
	if !ok || i < 0 {
		return false, errors.New("no call")
	}
	args := strings.Split(strings.TrimSuffix(strings.TrimSpace(rest[:i]), ")"), ", ")
	for k := range args {
		args[k] = strings.TrimSpace(args[k])
	}
	value, _, _ := strings.Cut(strings.TrimSpace(rest[i+3:]), " ")
	result, err := strconv.ParseInt(value, 0, 64)
	if value == "?" || err == nil && result < 0 {
		return false, nil // it never ended, or changed nothing
	}
	if err != nil {
		return false, err
	}
	p.m.seq++
	return p.call(name, args, result, since)
}

func number(s string) (int64, error) { return strconv.ParseInt(s, 0, 64) }

// text returns a string of strace -xx.
func text(s string) ([]byte, error) {
	s, ok := strings.CutPrefix(s, `"`)
	s, ok2 := strings.CutSuffix(s, `"`)
	if !ok || !ok2 {
		return nil, fmt.Errorf("no string, or one that is cut off: %.40s", s)
	}
	return hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
}

// call does what a call did that succeeded, and reports whether it has changed anything. since is when it began.
func (p *process) call(name string, args []string, result int64, since int) (bool, error) {
	switch name {
	case "openat":
		return p.openat(args, result)
	case "mkdirat", "unlinkat", "renameat", "renameat2", "linkat", "symlinkat":
		return p.names(name, args)
	case "chdir", "fchdir":
		return false, errNotModelled
	case "open", "creat", "rename", "unlink", "rmdir", "mkdir", "truncate", "link", "symlink":
		return false, errNotModelled // Go has no use for them
	}
	if name == "mmap" {
		if f, _ := number(args[4]); p.open[f] == nil || !strings.Contains(args[2], "PROT_WRITE") || strings.Contains(args[3], "MAP_PRIVATE") {
			return false, nil
		}
		return false, errNotModelled
	}
	if name == "copy_file_range" || name == "sendfile" || name == "splice" {
		for _, arg := range args {
			if f, err := number(arg); err == nil && p.open[f] != nil {
				return false, errNotModelled
			}
		}
		return false, nil
	}
	fd, err := number(args[0])
	f := p.open[fd]
	if err != nil || f == nil {
		return false, nil // it is about none of the medium's files
	}
	switch name {
	case "close":
		delete(p.open, fd)
		return false, nil
	case "fsync":
		f.n.sync(since)
		return true, nil
	case "fdatasync":
		f.n.sync(since)
		return true, nil
	case "write", "pwrite64":
		data, err := text(args[1])
		if err != nil {
			return false, err
		}
		offset := f.offset
		if name == "pwrite64" {
			if offset, err = number(args[3]); err != nil {
				return false, err
			}
		} else if f.append {
			offset = int64(len(f.n.data))
		}
		f.n.edit(edit{seq: p.m.seq, offset: offset, data: data[:result]})
		if name == "write" {
			f.offset = offset + result
		}
		return result > 0, nil
	case "ftruncate":
		size, err := number(args[1])
		f.n.edit(edit{seq: p.m.seq, offset: size})
		return true, err
	case "fallocate":
		from, err := number(args[2])
		length, err2 := number(args[3])
		if size := from + length; args[1] == "0" && size > int64(len(f.n.data)) {
			f.n.edit(edit{seq: p.m.seq, offset: size})
		} else if args[1] != "0" {
			return false, errNotModelled
		}
		return true, errors.Join(err, err2)
	case "fcntl":
		if strings.HasPrefix(args[1], "F_DUPFD") {
			return false, errNotModelled
		}
		return false, nil
	case "ioctl", "sync_file_range":
		return false, nil
	}
	return false, errNotModelled
}

// inside returns the path of a file relative to the medium, or false if it lies elsewhere.
func (p *process) inside(folder, name string) (string, bool, error) {
	b, err := text(name)
	if err != nil {
		return "", false, err
	}
	path := string(b)
	if !filepath.IsAbs(path) {
		fd, err := number(folder)
		if f := p.open[fd]; err == nil && f != nil {
			path = filepath.Join(p.m.path, f.path, path)
		} else {
			return "", false, nil // the tests give absolute paths
		}
	}
	rel, err := filepath.Rel(p.m.path, path)
	return rel, err == nil && filepath.IsLocal(rel), nil
}

// find returns the folder that a path is in, its last name, and what has it, if anything does.
func (m *Medium) find(path string) (folder *node, name string, n *node, err error) {
	if path == "." {
		return nil, "", m.root, nil
	}
	folder = m.root
	parts := strings.Split(path, "/")
	for _, part := range parts[:len(parts)-1] {
		if folder = folder.entries[part]; folder == nil || folder.entries == nil {
			return nil, "", nil, fmt.Errorf("no folder for %q", path)
		}
	}
	name = parts[len(parts)-1]
	return folder, name, folder.entries[name], nil
}

func (p *process) openat(args []string, fd int64) (bool, error) {
	delete(p.open, fd)
	path, ok, err := p.inside(args[0], args[1])
	if err != nil || !ok {
		return false, err
	}
	flags := strings.Split(args[2], "|")
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	if has("O_SYNC") || has("O_DSYNC") || has("O_TMPFILE") || has("O_PATH") {
		return false, errNotModelled
	}
	folder, name, n, err := p.m.find(path)
	if err != nil {
		return false, err
	}
	changed := false
	if n == nil {
		if !has("O_CREAT") {
			return false, fmt.Errorf("%q is opened and does not exist", path)
		}
		n = &node{}
		folder.change(change{p.m.seq, []string{name}, []*node{n}})
		changed = true
	} else if has("O_TRUNC") && len(n.data) > 0 {
		n.edit(edit{seq: p.m.seq})
		changed = true
	}
	p.open[fd] = &opened{n: n, path: path, append: has("O_APPEND")}
	return changed, nil
}

// names handles the calls that change names.
func (p *process) names(call string, args []string) (bool, error) {
	path, ok, err := p.inside(args[0], args[1])
	if call == "symlinkat" {
		path, ok, err = p.inside(args[1], args[2])
	}
	two := call == "renameat" || call == "renameat2" || call == "linkat"
	to, ok2 := path, ok
	if two && err == nil {
		to, ok2, err = p.inside(args[2], args[3])
	}
	if err != nil || !ok && !ok2 {
		return false, err
	}
	if ok != ok2 || call == "symlinkat" {
		return false, errNotModelled
	}
	folder, name, n, err := p.m.find(path)
	if err != nil {
		return false, err
	}
	if call != "mkdirat" && n == nil {
		return false, fmt.Errorf("%q does not exist", path)
	}
	c := change{seq: p.m.seq}
	switch call {
	case "mkdirat":
		c.names, c.to = []string{name}, []*node{newFolder()}
	case "unlinkat":
		c.names, c.to = []string{name}, []*node{nil}
	default:
		target, newName, _, err := p.m.find(to)
		if err != nil {
			return false, err
		}
		if target != folder || len(args) > 4 && args[4] != "0" && args[4] != "RENAME_NOREPLACE" {
			return false, errNotModelled
		}
		c.names, c.to = []string{newName}, []*node{n}
		if call != "linkat" {
			c.names, c.to = append(c.names, name), append(c.to, nil)
		}
	}
	folder.change(c)
	return true, nil
}

// Diff returns a path at which the medium, as processes see it, is not as the folder at its path is, or nothing: then the
// trace had all that was done to it.
func (m *Medium) Diff() (string, error) {
	real, err := load(m.path)
	if err != nil {
		return "", err
	}
	return differ(".", m.root, real), nil
}

func differ(path string, a, b *node) string {
	if a == nil || b == nil || (a.entries == nil) != (b.entries == nil) || string(a.data) != string(b.data) {
		return path
	}
	names := maps.Clone(a.entries)
	maps.Copy(names, b.entries)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if at := differ(filepath.Join(path, name), a.entries[name], b.entries[name]); at != "" {
			return at
		}
	}
	return ""
}
