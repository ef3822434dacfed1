package backup_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"garret/internal/fsmeta"
)

// descend goes down a tree of directories that has nothing else in it but files, calls visit with each, and after that
// leave on the way back.
func descend(t *testing.T, top string, visit func(depth int, d *fsmeta.Dir) bool, leave func(depth int, d *fsmeta.Dir)) {
	t.Helper()
	d, err := fsmeta.OpenDir(top)
	must(t, err)
	var trail fsmeta.Trail
	trail.Enter(d)
	for visit(trail.Len(), d) {
		d, err = d.OpenDir(deepName)
		must(t, err)
		trail.Enter(d)
	}
	for trail.Len() > 0 {
		d, err := trail.Dir()
		must(t, err)
		leave(trail.Len(), d)
		trail.Leave()
	}
}

const deepName = "directory" // the whole path is longer than any that the system takes

func TestATreeMayBeDeeperThanFilesMayBeOpen(t *testing.T) {
	const depth, limit = 700, 256
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)

	content := func(depth int) string { return fmt.Sprint("in ", depth) }
	dir := t.TempDir()
	nothing := func(int, *fsmeta.Dir) {}
	descend(t, dir, func(n int, d *fsmeta.Dir) bool {
		f, err := d.Create("file")
		must(t, err)
		_, err = f.WriteString(content(n))
		must(t, err)
		must(t, f.Close())
		if n < depth {
			must(t, d.Mkdir(deepName))
		}
		return n < depth
	}, nothing)
	remove := func(top string) {
		descend(t, top, func(n int, d *fsmeta.Dir) bool {
			_, err := d.Lstat(deepName)
			return err == nil
		}, func(n int, d *fsmeta.Dir) {
			must(t, d.Remove("file", false))
			if n < depth {
				must(t, d.Remove(deepName, true))
			}
		})
	}
	defer remove(dir) // as the library's own way to do it opens all of them

	target, stats := roundTrip(t, newMemStore(), newKey(t), dir, "deep")
	defer remove(target)
	if stats.Files != depth || stats.Dirs != depth {
		t.Errorf("stats %+v", *stats)
	}
	descend(t, target, func(n int, d *fsmeta.Dir) bool {
		f, err := d.Open("file")
		must(t, err)
		defer f.Close()
		buf := make([]byte, 100)
		if k, err := f.Read(buf); err != nil || string(buf[:k]) != content(n) {
			t.Errorf("at depth %d: %q, %v", n, buf[:k], err)
		}
		return n < depth
	}, nothing)
}

func TestADeepTreeThatIsMovedMeanwhileIsToldOf(t *testing.T) {
	top := t.TempDir()
	const depth = 300
	path := top
	var trail fsmeta.Trail
	for range depth {
		d, err := fsmeta.OpenDir(path)
		must(t, err)
		trail.Enter(d)
		must(t, d.Mkdir("d"))
		path += "/d"
	}
	half := top + strings.Repeat("/d", 100)
	must(t, unix.Rename(half, top+"/moved"))
	for trail.Len() > 101 {
		if _, err := trail.Dir(); err != nil {
			t.Fatalf("at depth %d: %v", trail.Len(), err)
		}
		trail.Leave()
	}
	trail.Leave()
	for trail.Len() > 0 {
		if _, err := trail.Dir(); err == nil || !strings.Contains(err.Error(), "was moved meanwhile") {
			t.Fatalf("at depth %d: %v", trail.Len(), err)
		}
		trail.Leave()
	}
}
