package envelope

import (
	"testing"

	"garret/internal/alloctest"
)

func TestAllocationsForEachEnvelope(t *testing.T) {
	const n = 200
	for _, k := range testKeys(t) {
		if k.Type().Encrypts() {
			k.UseNonces(new(counter))
		}
		data := benchmarkData()
		id := k.ID(data)
		var env []byte
		for _, c := range []struct {
			name  string
			bound float64
			do    func() error
		}{
			{"id", 1.2, func() error { k.ID(data); return nil }},
			{"seal", 3.5, func() (err error) { env, err = k.Seal(env[:0], data); return err }},
			{"open", 6, func() error { _, err := k.Open(&id, env); return err }},
		} {
			t.Run(k.String()+", "+c.name, func(t *testing.T) {
				alloctest.AtMost(t, c.bound, n, func() {
					for range n {
						if err := c.do(); err != nil {
							t.Fatal(err)
						}
					}
				})
			})
		}
	}
}
