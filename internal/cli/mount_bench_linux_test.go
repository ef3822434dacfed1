package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"garret/internal/archive"
	"garret/internal/catalog"
	"garret/internal/envelope"
	"garret/internal/fsmeta"
	"garret/repository"
)

// makeArchives makes a repository of archives with so many items each, which are not equal in any two. Their content is
// not there.
func makeArchives(b *testing.B, path string, archives, items int) {
	b.Helper()
	ctx := b.Context()
	repo, err := repository.Create(ctx, path, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer repo.Close()
	cat, err := catalog.New(repo, envelope.NewPlaintext(), nil)
	if err != nil {
		b.Fatal(err)
	}
	put := func(data []byte) (repository.ID, error) {
		id := cat.Key.ID(data)
		env, err := cat.Key.Seal(nil, data)
		if err == nil {
			err = repo.Put(ctx, id, env)
		}
		return id, err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	refs := maps.Clone(cat.Manifest.Archives)
	for k := range archives {
		w := archive.NewItemWriter(0, put)
		user, folder := "root", ""
		for i := range items {
			it := &archive.Item{
				Mode: fsmeta.TypeRegular | 0o644, UID: 1000, GID: 1000, User: &user, Group: &user, HasChunks: true,
				MTime: archive.Nanos{Sec: 1400000000 + int64(k), Nsec: uint32(i)},
			}
			if i%50 == 0 {
				folder = fmt.Sprintf("home/photos/%05d", i/50)
				it.Path, it.Mode, it.HasChunks = folder, fsmeta.TypeDir|0o755, false
			} else {
				it.Path = fmt.Sprintf("%s/IMG_2026%06d.jpeg", folder, i)
				it.Chunks = []archive.Chunk{{Size: rng.Uint32() >> 12, CSize: 1}}
				for j := range it.Chunks[0].ID {
					it.Chunks[0].ID[j] = byte(rng.Uint32())
				}
			}
			if err := w.Add(it); err != nil {
				b.Fatal(err)
			}
		}
		ids, err := w.Flush()
		if err != nil {
			b.Fatal(err)
		}
		rec := &archive.Archive{Name: fmt.Sprintf("archive-%03d", k), Items: ids, Time: time.Unix(1400000000+int64(k), 0).UTC()}
		id, err := put(rec.Encode())
		if err != nil {
			b.Fatal(err)
		}
		refs[rec.Name] = archive.ArchiveRef{ID: id, Time: rec.Time}
	}
	if err := cat.Save(ctx, repo, refs); err != nil {
		b.Fatal(err)
	}
	if err := repo.Commit(ctx); err != nil {
		b.Fatal(err)
	}
}

// startMount serves a repository in another process, and returns it and the mount point.
func startMount(b *testing.B, args ...string) (pid int, point string) {
	b.Helper()
	if ok, err := fuseCondition(); !ok {
		b.Skipf("nothing can be mounted here: %v, %v", mayMount(), err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	point = b.TempDir()
	cmd := exec.Command(exe, append(append([]string{"mount", "--foreground"}, args...), point)...)
	cmd.Args[0] = "garret"
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	for range 1000 {
		if entries, err := os.ReadDir(point); err == nil && len(entries) > 0 {
			return cmd.Process.Pid, point
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("nothing is mounted")
	return 0, ""
}

// peak returns how much memory a process has had at most, in MB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib * 1024 / 1e6
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

func useBenchEnv(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for _, kv := range testEnv(dir) {
		name, value, _ := strings.Cut(kv, "=")
		b.Setenv(name, value)
	}
	b.Setenv("GARRET_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
	return dir
}

// BenchmarkMountList mounts a repository of 50 archives with 50,000 items each, and lists the top of each and one folder
// in it, and then everything as find does.
func BenchmarkMountList(b *testing.B) {
	dir := useBenchEnv(b)
	repo := filepath.Join(dir, "repo")
	makeArchives(b, repo, 50, 50_000)
	for b.Loop() {
		pid, point := startMount(b, repo)
		archives, err := os.ReadDir(point)
		if err != nil || len(archives) != 50 {
			b.Fatalf("%d archives, %v", len(archives), err)
		}
		var slowest time.Duration
		for _, a := range archives {
			begin := time.Now()
			top, err1 := os.ReadDir(filepath.Join(point, a.Name()))
			folder, err2 := os.ReadDir(filepath.Join(point, a.Name(), "home", "photos", "00700"))
			if err1 != nil || err2 != nil || len(top) != 1 || len(folder) != 49 {
				b.Fatalf("%v, %v", err1, err2)
			}
			slowest = max(slowest, time.Since(begin))
		}
		b.ReportMetric(float64(slowest.Milliseconds()), "ms/slowest-ls")
		b.ReportMetric(peak(b, pid), "MB/peak-after-ls")
		begin, n := time.Now(), 0
		err = filepath.WalkDir(point, func(_ string, e fs.DirEntry, err error) error {
			if err == nil {
				_, err = e.Info()
			}
			n++
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "files/s-find")
		b.ReportMetric(peak(b, pid), "MB/peak-after-find")
	}
}

// BenchmarkMountRead reads a large file of a mounted archive from the beginning to the end.
func BenchmarkMountRead(b *testing.B) {
	const size = 512 << 20
	dir := useBenchEnv(b)
	repo, file := filepath.Join(dir, "repo"), filepath.Join(dir, "file")
	f, err := os.Create(file)
	if err == nil {
		_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), size)
	}
	if err != nil {
		b.Fatal(err)
	}
	f.Close()
	for _, args := range [][]string{{"init", repo}, {"create", repo + "::one", file}} {
		if code := Run(context.Background(), args, strings.NewReader(""), io.Discard, os.Stderr); code != exitOK {
			b.Fatalf("%q: exit code %d", args, code)
		}
	}
	b.SetBytes(size)
	for b.Loop() {
		_, point := startMount(b, repo+"::one")
		f, err := os.Open(filepath.Join(point, file))
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 128<<10)); n != size || err != nil {
			b.Fatalf("%d bytes, %v", n, err)
		}
		f.Close()
	}
}
