package repository

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"testing"

	"garret/repository/storage"
)

// FuzzTables reads a garret.tables whose checksum is right, with anything in it, beside the index of a real repository. Whoever
// can write to the repository can make the checksum right: it must do no harm to what the segments hold.
func FuzzTables(f *testing.F) {
	mem := new(storage.Mem)
	r := createIn(f, mem, rotOptions())
	ctx := context.Background()
	for i := range 30 {
		if err := r.Put(ctx, numbered(i), []byte(valueOf(i))); err != nil {
			f.Fatal(err)
		}
		if i == 20 {
			if err := r.Commit(ctx); err != nil {
				f.Fatal(err)
			}
			writeIndex(f, r)
		}
	}
	if err := r.Commit(ctx); err != nil {
		f.Fatal(err)
	}
	if err := r.flush(); err != nil {
		f.Fatal(err)
	}
	want := stateOf(f, r)
	mustClose(f, r)
	good := fileOf(f, mem, tablesName)
	f.Add(good[:len(good)-4])
	f.Add(good[:44])
	f.Add([]byte(tablesMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := mem.Clone()
		b := binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
		m.Damage(-1, tablesName, func([]byte) []byte { return b })
		st, err := readState(m)
		if err == nil {
			if again := st.encode(); !bytes.Equal(again, b) && len(st.garbage) == int(binary.LittleEndian.Uint32(b[40+17*len(st.tables):])) {
				if back, err := parseAgain(m, again); err != nil || back.transaction != st.transaction || !maps.Equal(back.garbage, st.garbage) {
					t.Errorf("%v, again %v %v", st, back, err)
				}
			}
		}
		if st != nil {
			st.close()
		}
		r, err := OpenForCheckIn(ctx, m, rotOptions())
		if err != nil {
			return
		}
		defer r.Close()
		for id, value := range want {
			if got, err := r.Get(ctx, id); err == nil && string(got) != value {
				t.Errorf("%v is %.20q", id, got)
			}
		}
	})
}

func parseAgain(m *storage.Mem, b []byte) (*state, error) {
	m = m.Clone()
	m.Damage(-1, tablesName, func([]byte) []byte { return b })
	st, err := readState(m)
	if st != nil {
		st.close()
	}
	return st, err
}

// FuzzInterrupted reads a garret.repair with anything in it.
func FuzzInterrupted(f *testing.F) {
	f.Add([]byte("1\n17\n5e0b8a0f\n"))
	f.Add([]byte("99999999999999999999\n00000000\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(storage.Mem)
		m.Damage(-1, repairName, func([]byte) []byte { return b })
		r := &Repository{store: m}
		if err := r.findInterrupted(); err != nil {
			t.Fatal(err)
		}
		// Whatever it says, it is there: a repair is needed. What it does not say for certain may have been replaced.
		if !r.interrupted || r.replaced == nil && !r.hasMoved(location{7, 9}, location{7, 8}) {
			t.Errorf("%v %v", r.interrupted, r.replaced)
		}
	})
}
