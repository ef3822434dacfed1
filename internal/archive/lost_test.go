package archive

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"garret/internal/rawpack"
	"garret/repository"
)

func TestWhatIsLostIsRemembered(t *testing.T) {
	other := rawpack.AppendInt(rawpack.AppendRaw(nil, "other"), 7)
	m := &Manifest{Config: append(rawpack.AppendMapHeader(nil, 1), other...)}
	if lost := m.Lost(); !cmp.Equal(lost, Lost{}) {
		t.Fatalf("without any: %+v", lost)
	}
	many := Lost{Archives: []string{"one", "two\xff"}, Chunks: make([]repository.ID, MaxLostChunks+1)}
	many.Chunks[1] = repository.ID{1}
	for _, lost := range []Lost{{Archives: []string{"a"}, Chunks: []repository.ID{{9}}}, many, {}} {
		if err := m.SetLost(lost); err != nil {
			t.Fatal(err)
		}
		read, err := DecodeManifest(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		lost.Chunks = lost.Chunks[:min(len(lost.Chunks), MaxLostChunks)]
		if diff := cmp.Diff(lost, read.Lost(), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	}
	if want := append(rawpack.AppendMapHeader(nil, 1), other...); !cmp.Equal(m.Config, want) {
		t.Errorf("the rest of the config has become %x", m.Config)
	}
}

func TestMalformedListOfWhatIsLostIsNothing(t *testing.T) {
	for _, config := range []string{
		"\x81\xabgarret_lost\x01", "\x81\xabgarret_lost\x81\xa6chunks\xdd\xff\xff\xff\xff", "\x81\xabgarret_lost\x81\xa6chunks\x91\xa1x",
	} {
		m := &Manifest{Config: []byte(config)}
		if lost := m.Lost(); !cmp.Equal(lost, Lost{}) {
			t.Errorf("%q: %+v", config, lost)
		}
	}
}
