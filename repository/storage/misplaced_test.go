package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestMisplacedSegmentIsNotPassedOver has a config with another number of segments in a folder than there was.
func TestMisplacedSegmentIsNotPassedOver(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"data/0/0", "data/0/1", "data/1/2", "data/1/3", "data/2/4", "data/2/note", "data/x/7"} {
		name = filepath.Join(path, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for perFolder, ok := range map[uint32]bool{2: true, 1: false, 3: false, 12: false} {
		d.SetSegmentsPerFolder(perFolder)
		if got, err := d.Segments(-1); ok != (err == nil) || ok && len(got) != 5 || !ok && !errors.Is(err, ErrMisplaced) {
			t.Errorf("%d in a folder: %v, %v", perFolder, got, err)
		}
	}
}
