package fsck

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"garret/repository"
)

// placedStore is a store whose objects have places: new ones behind those there are.
type placedStore struct {
	*objectStore
	places map[repository.ID]repository.Place
}

func (p *placedStore) Places(_ context.Context, ids []repository.ID) ([]repository.Place, error) {
	var places []repository.Place
	for _, id := range slices.Backward(ids) {
		if _, ok := p.places[id]; !ok {
			p.places[id] = repository.Place{Segment: uint32(len(p.places))}
		}
	}
	for _, id := range ids {
		places = append(places, p.places[id])
	}
	return places, nil
}

// TestCheckInPartsSeesEverything checks a little at a time. Damage is told in the part that meets it, with the archive and
// path that it hits, though the archives are the last part.
func TestCheckInPartsSeesEverything(t *testing.T) {
	for _, placed := range []bool{false, true} {
		t.Run(fmt.Sprintf("placed=%v", placed), func(t *testing.T) {
			f := newFixture(t, true)
			for i := range 10 {
				f.add(fmt.Sprint("archive", i), f.file("a", fmt.Appendf(nil, "content %d", i), 4))
			}
			bad := f.key.ID([]byte("5"))
			f.store.objects[bad] = f.store.objects[f.key.ID([]byte("4"))]
			store := Store(f.store)
			if placed {
				store = &placedStore{f.store, map[repository.ID]repository.Place{}}
			}
			o := Options{VerifyData: true, Until: time.Unix(1, 0), Workers: 2}
			var found []Finding
			o.Report = func(f Finding) { found = append(found, f) }
			verified, archives, parts := int64(0), int64(0), 0
			for ; parts < 1000; parts++ {
				r, err := New(store, f.key, o).Run(t.Context())
				f.ok(err)
				verified += r.Verified
				if !r.Partial {
					archives += r.Archives
					break
				}
				if r.Verified > 2 {
					t.Fatalf("%d objects in a part without time", r.Verified)
				}
				if o.From.Verified {
					archives += r.Archives
				}
				if o.From = r.Next; parts%3 == 0 { // between the parts, somebody backs up
					f.add(fmt.Sprint("new", parts), f.file("b", fmt.Appendf(nil, "new %d", parts), 9))
				}
			}
			if len(found) != 1 || found[0].Archive != "archive5" || found[0].Path != "a" || found[0].Offset != 8 {
				t.Errorf("found %v", found)
			}
			if parts < 12 || verified < 25 || archives < 10 { // at least: some of what is new lies behind where the check has come to
				t.Errorf("%d parts with %d objects and %d archives", parts, verified, archives)
			}
		})
	}
}
