// Package alloctest guards the speed of inner loops in tests, by what does not depend on the machine: how often they
// allocate for each object. Seconds would.
package alloctest

import "testing"

// AtMost fails a test in which f, which handles a number of objects, allocates more often for each than it may. It calls f
// twice, of which the first warms pools up. Allocations of all goroutines count. It skips the rest of the test
// under the race detector, which makes pools forget.
func AtMost(t *testing.T, perObject float64, objects int, f func()) {
	t.Helper()
	if raceDetector {
		t.Skip("allocations mean nothing under the race detector")
	}
	got := testing.AllocsPerRun(1, f) / float64(objects)
	t.Logf("%.2f allocations for each of %d objects; the bound is %.2f", got, objects, perObject)
	if got > perObject {
		t.Errorf("%.2f allocations for each object are more than %.2f", got, perObject)
	}
}
