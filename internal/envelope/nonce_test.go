package envelope

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"garret/internal/campaign"
	"garret/repository"
)

// memFiles are the small files of a repository, which can be put back to an older state and can fail.
type memFiles struct {
	files map[string][]byte
	fail  error // of the next WriteFile
	late  bool  // whether that happens after the file was written
}

func (m *memFiles) ReadFile(name string) ([]byte, error) {
	data, ok := m.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(data), nil
}

func (m *memFiles) WriteFile(name string, data []byte) error {
	err := m.fail
	m.fail = nil
	if err == nil || m.late {
		if m.files == nil {
			m.files = make(map[string][]byte)
		}
		m.files[name] = bytes.Clone(data)
	}
	return err
}

func (m *memFiles) clone() *memFiles { return &memFiles{files: maps.Clone(m.files)} }

// A ledger knows all counter values that were ever used with a key.
type ledger struct {
	t    testing.TB
	used [][2]uint64
}

func (l *ledger) add(first, blocks uint64) {
	l.t.Helper()
	l.used = append(l.used, [2]uint64{first, first + blocks})
}

// check fails if any counter value was used twice.
func (l *ledger) check() {
	l.t.Helper()
	slices.SortFunc(l.used, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for i := 1; i < len(l.used); i++ {
		if a, b := l.used[i-1], l.used[i]; b[0] < a[1] {
			l.t.Fatalf("used twice: %#x to %#x and %#x to %#x", a[0], a[1], b[0], b[1])
		}
	}
}

// reserve takes values and enters them into the ledger.
func (l *ledger) reserve(n *NonceReserver, blocks uint64) error {
	l.t.Helper()
	first, err := n.Reserve(blocks)
	if err == nil {
		l.add(first, blocks)
	}
	return err
}

func (l *ledger) mustReserve(n *NonceReserver, blocks uint64) {
	l.t.Helper()
	if err := l.reserve(n, blocks); err != nil {
		l.t.Fatal(err)
	}
}

func TestSealedEnvelopesShareNoCounterValue(t *testing.T) {
	k, err := NewKeyfile(repository.ID{1})
	if err != nil {
		t.Fatal(err)
	}
	l := ledger{t: t}
	repo, client := new(memFiles), filepath.Join(t.TempDir(), "id", "nonce")
	var mu sync.Mutex
	var manifest []byte
	for range 3 { // sessions
		k.UseNonces(NewNonceReserver(repo, client, NonceEnd(manifest)))
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := range 100 {
					env, err := k.Seal(nil, bytes.Repeat([]byte{byte(i)}, 10*i*g))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					end, blocks := NonceEnd(env), blocksOf(len(env)-headerSize)
					l.add(end-blocks, blocks)
					manifest = env
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	l.check()
}

func TestReservationIsDurableBeforeItsValuesAreUsed(t *testing.T) {
	repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
	n := NewNonceReserver(repo, client, 0)
	for _, blocks := range []uint64{1, reserveBlocks - 1, 1, 5 * reserveBlocks, 1, reserveBlocks} {
		first, err := n.Reserve(blocks)
		if err != nil {
			t.Fatal(err)
		}
		r, _, _ := readMark(repo.ReadFile(NonceFile))
		l, _, _ := readMark(os.ReadFile(client))
		if r < first+blocks || l < first+blocks {
			t.Errorf("%d to %d are in use, and reserved up to %d and %d", first, first+blocks, r, l)
		}
	}
	if fi, err := os.Stat(client); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
}

func TestFailedReservationGivesNothingAndCanBeRepeated(t *testing.T) {
	broken := errors.New("broken")
	for _, late := range []bool{false, true} {
		l := ledger{t: t}
		repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
		n := NewNonceReserver(repo, client, 0)
		repo.fail, repo.late = broken, late
		if err := l.reserve(n, 1); !errors.Is(err, broken) {
			t.Error(err)
		}
		l.mustReserve(n, 1)
		repo.fail = broken
		if err := l.reserve(n, reserveBlocks); !errors.Is(err, broken) {
			t.Error(err)
		}
		l.mustReserve(n, 5) // of what was reserved before
		l.mustReserve(n, reserveBlocks)
		l.check()
	}
	// Nor without a place for the client's record.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewNonceReserver(new(memFiles), filepath.Join(file, "id", "nonce"), 0).Reserve(1); err == nil {
		t.Error("reserved without the client's record")
	}
}

func TestSessionStartsPastEveryMark(t *testing.T) {
	const base = 1 << 50
	for name, tt := range map[string]struct {
		repo, client, manifest uint64
		least, most            uint64
	}{
		"fresh":             {0, 0, 0, gap, gap + jump},
		"usual":             {base, base, base - 5, base + gap, base + gap + jump},
		"another client's":  {base, 0, base - 5, base + gap, base + gap + jump},
		"written by Attic":  {base, base, base + 9, base + 9 + gap, base + 9 + gap + jump},
		"put back":          {base, base + 5, base, base + 5 + wideGap, base + 5 + wideGap + wideJump},
		"put back to empty": {0, base, 0, base + wideGap, base + wideGap + wideJump},
	} {
		repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
		if tt.repo != 0 {
			repo.WriteFile(NonceFile, formatMark(tt.repo))
		}
		if tt.client != 0 {
			if err := replaceFile(client, formatMark(tt.client)); err != nil {
				t.Fatal(err)
			}
		}
		first, err := NewNonceReserver(repo, client, tt.manifest).Reserve(1)
		if err != nil || first < tt.least || first >= tt.most {
			t.Errorf("%s: %#x, %v, want from %#x below %#x", name, first, err, tt.least, tt.most)
		}
	}
}

func TestDamagedMarkMakesTheGapWide(t *testing.T) {
	good := formatMark(1 << 40)
	damaged := [][]byte{nil, []byte("x"), good[:len(good)-1], append(bytes.Clone(good), '\n')}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 4
		damaged = append(damaged, bad)
	}
	for _, bad := range damaged {
		if mark, isDamaged, err := readMark(bad, nil); mark != 0 || !isDamaged || err != nil {
			t.Errorf("%q: %d, %v, %v", bad, mark, isDamaged, err)
		}
	}
	if mark, isDamaged, err := readMark(good, nil); mark != 1<<40 || isDamaged || err != nil {
		t.Errorf("%q: %d, %v, %v", good, mark, isDamaged, err)
	}
	for _, where := range []string{"repository", "client", "both"} {
		repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
		for at, write := range map[string]func([]byte) error{
			"repository": func(mark []byte) error { return repo.WriteFile(NonceFile, mark) },
			"client":     func(mark []byte) error { return replaceFile(client, mark) },
		} {
			mark := good
			if where == at || where == "both" {
				mark = []byte("garret-nonce 1 000000000000")
			}
			if err := write(mark); err != nil {
				t.Fatal(err)
			}
		}
		if first, err := NewNonceReserver(repo, client, 7).Reserve(1); err != nil || first < 7+wideGap {
			t.Errorf("%s: %#x, %v", where, first, err)
		}
	}
}

// TestNewerMarkIsNotGoneBeyond is about a record in which what is taken is written in another way.
func TestNewerMarkIsNotGoneBeyond(t *testing.T) {
	mark := []byte("garret-nonce 2 7 ranges ")
	mark = fmt.Appendf(mark, "%08x\n", crc32.ChecksumIEEE(mark))
	repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
	if err := repo.WriteFile(NonceFile, mark); err != nil {
		t.Fatal(err)
	}
	if first, err := NewNonceReserver(repo, client, 7).Reserve(1); !errors.Is(err, repository.ErrNewer) {
		t.Errorf("%d, %v", first, err)
	}
	if now, err := repo.ReadFile(NonceFile); err != nil || !bytes.Equal(now, mark) {
		t.Errorf("it is %q, %v", now, err)
	}
	mark[15] ^= 1
	if _, damaged, err := readMark(mark, nil); !damaged || err != nil {
		t.Errorf("with a wrong checksum: %v, %v", damaged, err)
	}
}

func TestUsedUpKeySealsNothing(t *testing.T) {
	for _, mark := range []uint64{maxCounter - gap, maxCounter, 1<<64 - 1} {
		n := NewNonceReserver(new(memFiles), filepath.Join(t.TempDir(), "nonce"), mark)
		if _, err := n.Reserve(1); !errors.Is(err, ErrNoncesUsedUp) {
			t.Errorf("%#x: %v", mark, err)
		}
	}
	n := NewNonceReserver(new(memFiles), filepath.Join(t.TempDir(), "nonce"), 0)
	for _, blocks := range []uint64{maxCounter - 1, maxCounter, 1<<64 - 1} {
		if _, err := n.Reserve(blocks); !errors.Is(err, ErrNoncesUsedUp) {
			t.Errorf("%#x blocks: %v", blocks, err)
		}
	}
	if _, err := n.Reserve(1); err != nil {
		t.Errorf("and then one: %v", err)
	}
}

func TestCopiesOfARepositoryShareNoCounterValueOnOneClient(t *testing.T) {
	l := ledger{t: t}
	client := filepath.Join(t.TempDir(), "nonce")
	first, second := new(memFiles), new(memFiles)
	a, b := NewNonceReserver(first, client, 0), NewNonceReserver(second, client, 0)
	for range 5 { // each goes past its reservation in turn
		l.mustReserve(a, reserveBlocks)
		l.mustReserve(b, reserveBlocks)
		l.mustReserve(b, 3)
	}
	l.check()
}

// TestNoHistoryUsesACounterValueTwice makes up histories of clients that write, commit, crash, lose their records, and
// meet a repository that was put back.
func TestNoHistoryUsesACounterValueTwice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	histories := campaign.Share(t, 15, 5)
	type state struct {
		files    *memFiles
		manifest uint64
	}
	for range histories {
		l := ledger{t: t}
		now := state{files: new(memFiles)}
		var snapshots []state
		dir := t.TempDir()
		for range 30 {
			client := filepath.Join(dir, string(rune('a'+rnd.IntN(3))), "nonce")
			switch rnd.IntN(10) {
			case 0:
				snapshots = append(snapshots, state{now.files.clone(), now.manifest})
			case 1:
				if len(snapshots) > 0 { // put back
					s := snapshots[rnd.IntN(len(snapshots))]
					now = state{s.files.clone(), s.manifest}
				}
			case 2:
				if rnd.IntN(3) == 0 {
					os.Remove(client)
				}
			case 3:
				if rnd.IntN(5) == 0 {
					now.files.WriteFile(NonceFile, []byte("garret-nonce 1 0"))
				}
			default: // a session
				n := NewNonceReserver(now.files, client, now.manifest)
				var end uint64
				for range 1 + rnd.IntN(4) {
					if rnd.IntN(6) == 0 {
						now.files.fail, now.files.late = errors.New("crash"), rnd.IntN(2) == 0
					}
					blocks := uint64(1 + rnd.IntN(1000))
					first, err := n.Reserve(blocks)
					if now.files.fail = nil; err != nil {
						break
					}
					l.add(first, blocks)
					end = first + blocks
				}
				if end != 0 && rnd.IntN(2) == 0 { // committed; otherwise it crashed
					now.manifest = end
				}
			}
		}
		l.check()
	}
}

func TestReferenceThatCrashedIsNotMet(t *testing.T) {
	l := ledger{t: t}
	repo, client := new(memFiles), filepath.Join(t.TempDir(), "nonce")
	first := NewNonceReserver(repo, client, 1000)
	l.add(1000, gap-1) // 4 TiB after the manifest, and no commit
	l.mustReserve(first, 10)
	l.check()
}

func FuzzMark(f *testing.F) {
	f.Add(formatMark(0))
	f.Add(formatMark(1<<64 - 1))
	f.Add([]byte("garret-nonce 1 99999999999999999999 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mark, damaged, err := readMark(data, nil)
		if errors.Is(err, repository.ErrNewer) && mark == 0 && !damaged {
			return
		}
		if err != nil || damaged && mark != 0 || !damaged && !strings.HasPrefix(string(data), "garret-nonce 1 ") {
			t.Errorf("%q: %d, %v, %v", data, mark, damaged, err)
		}
	})
}

// A repository is where the mark of all clients lies.
var _ NonceFiles = (*repository.Repository)(nil)

func TestRepositoryKeepsTheMark(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	repo, err := repository.Create(ctx, filepath.Join(dir, "repo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(dir, "cache", repo.ID().String(), "nonce")
	first, err := NewNonceReserver(repo, client, 0).Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Close(); err != nil {
		t.Fatal(err)
	}
	if repo, err = repository.Open(ctx, filepath.Join(dir, "repo"), &repository.Options{Exclusive: true}); err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	if err := os.Remove(client); err != nil {
		t.Fatal(err)
	}
	second, err := NewNonceReserver(repo, client, 0).Reserve(1)
	if err != nil || second < first+reserveBlocks+gap {
		t.Errorf("%#x, then %#x, %v", first, second, err)
	}
}
