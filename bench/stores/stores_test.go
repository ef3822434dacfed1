package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// TestMain lets this program be the process of a store, too.
func TestMain(m *testing.M) {
	for _, arg := range os.Args[1:] {
		if arg == "-child-store" {
			if err := run(context.Background(), os.Args[1:], io.Discard, os.Stderr); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func TestSmallRunOfAllStores(t *testing.T) {
	var out, log bytes.Buffer
	if err := run(context.Background(), []string{"-dir", t.TempDir(), "-total", "1", "-rounds", "1"}, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for _, w := range works {
		for _, size := range []string{"64", "4"} {
			line := "| " + w.name + ", " + size + " KiB |"
			_, rest, found := strings.Cut(out.String(), line)
			rest, _, _ = strings.Cut(rest, "\n")
			if !found || strings.Count(rest, "×") != len(stores)-1 {
				t.Errorf("%q is missing or not whole in\n%s", line, &out)
			}
		}
	}
}
