package fsmeta

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesThatTheSystemMakesUpAreKnown(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(plain, nil, 0o600))
	for path, want := range map[string]bool{"/proc/version": true, "/sys/devices/system/cpu/possible": true, plain: false} {
		f, err := os.Open(path)
		must(t, err)
		if got := MadeUp(f); got != want {
			t.Errorf("%s is made up: %v", path, got)
		}
		must(t, f.Close())
	}
}
