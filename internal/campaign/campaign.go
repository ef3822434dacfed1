// Package campaign says how much of a long test is done: all of it where changes are taken (.ci/run), a share of it with the
// plain `go test ./...`, so that whoever tries the program waits minutes and not a quarter of an hour. It is for tests.
package campaign

import (
	"os"
	"strconv"
	"testing"
)

// Variable is the environment variable that asks for whole campaigns when it is "full".
const Variable = "GARRET_CAMPAIGN"

// Full reports whether campaigns are to be whole. With -short they never are.
func Full() bool { return os.Getenv(Variable) == "full" && !testing.Short() }

// Each returns for how many cases of a list one is to be done: each one in a whole campaign, each n-th otherwise, and with
// -short a quarter of these.
func Each(t testing.TB, n int) int {
	t.Helper()
	switch {
	case Full():
		n = 1
	case testing.Short():
		n *= 4
	}
	t.Logf("1 of %d cases (%s=full for all)", n, Variable)
	return n
}

// Share returns how many cases a test is to have, and logs it: full in a whole campaign, share otherwise, and with -short a
// quarter of the share. It is never less than one.
func Share(t testing.TB, full, share int) int {
	t.Helper()
	n := share
	switch {
	case Full():
		n = full
	case testing.Short():
		n = (share + 3) / 4
	}
	n = max(1, n)
	t.Logf("%d cases of a campaign of %d (%s=full for all)", n, full, Variable)
	return n
}

// Set is Share for campaigns whose number of cases can be set by a variable of the environment too, which then decides.
func Set(t testing.TB, variable string, full, share int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return Share(t, full, share)
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of cases", variable, s)
	}
	return n
}
