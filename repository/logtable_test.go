package repository

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

func TestLogTableIsAMap(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	table, model := newLogTable(0), map[ID]location{}
	for i := range 200_000 {
		var id ID
		binary.BigEndian.PutUint32(id[28:], uint32(r.IntN(1000+i/10)))
		switch r.IntN(3) {
		case 0:
			table.remove(id)
			delete(model, id)
		default:
			loc := location{r.Uint32() >> 1, r.Uint32()}
			table.set(id, loc)
			model[id] = loc
		}
		got, ok := table.get(id)
		if want, there := model[id]; got != want || ok != there {
			t.Fatalf("step %d: %v %v, want %v %v", i, got, ok, want, there)
		}
	}
	if table.live != len(model) || !maps.Equal(model, maps.Collect(table.all)) {
		t.Errorf("%d objects, want %d", table.live, len(model))
	}
}
