//go:build soak && unix

package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"garret/internal/rpc"
	"garret/repository"
)

// A server with one client, for as long as the soak lasts. It is built without the race detector, which takes more and more
// memory for what it remembers: the server of the third client has it.

const (
	servedKeys        = 300
	serverMemoryGrows = 8 << 20 // bytes by which the process may grow
)

// served is what the client of the server knows.
type served struct {
	s       *soak
	c       *rpc.Client
	rng     *rand.Rand
	model   map[int]uint32 // what was acknowledged
	version uint32

	transactions, reads, checks int
	memory                      []int64
	descriptors                 []int
}

func servedID(key int) (id repository.ID) {
	id[0], id[1], id[2] = byte(key*37), byte(key), byte(key>>8)
	return id
}

func servedValue(key int, version uint32) []byte {
	c := rand.NewChaCha8([32]byte{byte(key), byte(key >> 8), byte(version), byte(version >> 8), byte(version >> 16), byte(version >> 24)})
	value := make([]byte, c.Uint64()%(1<<(4+c.Uint64()%13)))
	_, _ = c.Read(value)
	return value
}

// serve works on a repository of its own through a server, until the end.
func (s *soak) serve(d time.Duration) {
	ctx := context.Background()
	cmd := exec.Command(s.plain, "serve")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		s.failf("%v", err)
		return
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.failf("start the server: %v", err)
		return
	}
	c, err := rpc.NewClient(ctx, out, in, in, filepath.Join(s.w, "served"), rpc.ClientOptions{Create: true, Exclusive: true})
	if err == nil {
		v := &served{s: s, c: c, rng: s.newRand(), model: map[int]uint32{}}
		err = errors.Join(v.work(cmd.Process.Pid, d), c.Close())
		if err == nil {
			v.judge()
		}
	}
	if waitErr := cmd.Wait(); err != nil || waitErr != nil || errs.Len() > 0 {
		s.failf("the server: %v %v %s", err, waitErr, errs.String())
	}
}

func (v *served) work(pid int, d time.Duration) error {
	tick := time.NewTicker(min(10*time.Second, d/20))
	defer tick.Stop()
	for v.s.ctx.Err() == nil {
		if err := v.transaction(); err != nil {
			return err
		}
		select {
		case <-tick.C:
			v.measure(pid)
		case <-time.After(time.Duration(v.rng.IntN(30)) * time.Millisecond):
		}
	}
	for key := range servedKeys {
		if err := v.get(key, v.model); err != nil {
			return err
		}
	}
	return v.look()
}

// transaction changes some objects and reads some, and ends with a commit, or with a rollback.
func (v *served) transaction() error {
	ctx := context.Background()
	then := map[int]uint32{}
	for key, version := range v.model {
		then[key] = version
	}
	for range v.rng.IntN(60) {
		key := v.rng.IntN(servedKeys)
		var err error
		switch n := v.rng.IntN(5); {
		case n < 2:
			v.version++
			then[key] = v.version
			err = v.c.Put(ctx, servedID(key), servedValue(key, v.version))
		case n == 2 && then[key] != 0:
			delete(then, key)
			err = v.c.Delete(ctx, servedID(key))
		default:
			err = v.get(key, then)
		}
		if err != nil {
			return err
		}
	}
	v.transactions++
	if v.rng.IntN(10) == 0 {
		return v.c.Rollback()
	}
	if err := v.c.Commit(ctx); err != nil {
		return err
	}
	v.model = then
	switch v.rng.IntN(40) {
	case 0:
		_, err := v.c.Compact(ctx)
		return err
	case 1:
		return v.look()
	}
	return nil
}

// get reads an object, which must be as a model says.
func (v *served) get(key int, model map[int]uint32) error {
	v.reads++
	value, err := v.c.Get(context.Background(), servedID(key))
	version := model[key]
	if version == 0 {
		if !errors.Is(err, repository.ErrNotFound) {
			return fmt.Errorf("object %d is not there, and what is read is %.20x, %w", key, value, err)
		}
		return nil
	}
	if err == nil && !bytes.Equal(value, servedValue(key, version)) {
		err = fmt.Errorf("object %d is not as version %d", key, version)
	}
	return err
}

// look checks, and counts the objects.
func (v *served) look() error {
	ctx := context.Background()
	v.checks++
	report, err := v.c.Check(ctx, repository.CheckOptions{})
	if err == nil && !report.OK() {
		err = fmt.Errorf("check finds %v", report.Findings)
	}
	if err != nil {
		return err
	}
	n, err := v.c.Len(ctx)
	if err == nil && n != len(v.model) {
		err = fmt.Errorf("there are %d objects, and should be %d", n, len(v.model))
	}
	return err
}

// measure notes what the server uses, on a system that tells.
func (v *served) measure(pid int) {
	proc := fmt.Sprintf("/proc/%d", pid)
	statm, err := os.ReadFile(filepath.Join(proc, "statm"))
	fds, fdErr := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil || fdErr != nil {
		return
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	v.memory = append(v.memory, pages*int64(os.Getpagesize()))
	// Files of the repository may be open, each once; those that have been removed may not.
	files := filepath.Join(v.s.w, "served") + string(filepath.Separator)
	inUse := map[string]bool{}
	open := 0
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if inUse[to] || !strings.HasPrefix(to, files) || strings.HasSuffix(to, " (deleted)") {
			open++
		}
		inUse[to] = true
	}
	v.descriptors = append(v.descriptors, open)
}

func (v *served) judge() {
	s, n := v.s, len(v.memory)
	s.Logf("through the server: %d transactions, %d reads, %d checks", v.transactions, v.reads, v.checks)
	if n < 8 {
		s.Logf("there are %d samples of the server: too few", n)
		return
	}
	first, last := median(v.memory[n/4:n/2]), median(v.memory[3*n/4:])
	most := 0
	for _, open := range v.descriptors[n/4:] {
		most = max(most, open)
	}
	s.Logf("memory of the server: %d bytes, later %d; descriptors: %d, at most %d", first, last, v.descriptors[n/4], most)
	if last-first > serverMemoryGrows {
		s.failf("the server has come to use more memory: %d bytes, later %d, and may grow by %d", first, last, serverMemoryGrows)
	}
	if most > v.descriptors[n/4] {
		s.failf("the server has come to have more descriptors: %d, and %d before", most, v.descriptors[n/4])
	}
}
