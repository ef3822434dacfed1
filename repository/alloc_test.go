package repository

import (
	"context"
	"testing"

	"garret/internal/alloctest"
)

func TestAllocationsForEachObject(t *testing.T) {
	const n = 2000
	ctx := context.Background()
	r := newRepository(t, nil)
	value := make([]byte, 1<<10)
	next := 0
	put := func() {
		for range n {
			if err := r.Put(ctx, numbered(next), value); err != nil {
				t.Fatal(err)
			}
			next++
		}
		mustCommit(t, r)
	}
	for _, c := range []struct {
		name  string
		bound float64
		do    func()
	}{
		{"put and commit", 2, put},
		{"get", 4, func() {
			for i := range n {
				if _, err := r.Get(ctx, numbered(i)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"has", 0.1, func() {
			for i := range n {
				if ok, err := r.Has(ctx, numbered(i)); err != nil || !ok {
					t.Fatal(ok, err)
				}
			}
		}},
		{"size", 3, func() {
			for i := range n {
				if _, err := r.Size(ctx, numbered(i)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"list", 0.1, func() {
			if ids, err := r.List(ctx, n, nil); err != nil || len(ids) != n {
				t.Fatal(len(ids), err)
			}
		}},
		{"check", 3, func() {
			if report, err := r.Check(ctx, CheckOptions{}); err != nil || !report.OK() {
				t.Fatal(report, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { alloctest.AtMost(t, c.bound, n, c.do) })
	}
}
