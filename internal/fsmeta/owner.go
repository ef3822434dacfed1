package fsmeta

import (
	"os/user"
	"strconv"
	"sync"

	"garret/internal/archive"
)

// Owners turns the numbers of users and groups into names and back, and remembers the answers. The zero value is ready.
// It is safe for concurrent use.
type Owners struct {
	mu         sync.Mutex
	userNames  map[uint32]*string
	groupNames map[uint32]*string
	userIDs    map[string]*uint32
	groupIDs   map[string]*uint32
}

// lookup returns m[key], after asking for it once.
func lookup[K comparable, V any](o *Owners, m *map[K]*V, key K, ask func() (V, error)) *V {
	o.mu.Lock()
	defer o.mu.Unlock()
	if v, ok := (*m)[key]; ok {
		return v
	}
	if *m == nil {
		*m = make(map[K]*V)
	}
	var answer *V
	if v, err := ask(); err == nil {
		answer = &v
	}
	(*m)[key] = answer
	return answer
}

// UserName returns a user's name, nil if there is none.
func (o *Owners) UserName(uid uint32) *string {
	return lookup(o, &o.userNames, uid, func() (string, error) {
		u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
}

// GroupName returns a group's name, nil if there is none.
func (o *Owners) GroupName(gid uint32) *string {
	return lookup(o, &o.groupNames, gid, func() (string, error) {
		g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10))
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
}

// IDs returns the numbers of an item's owner and group on this system: those of the names, or the item's own where
// the names are not known.
func (o *Owners) IDs(it *archive.Item) (uid, gid uint32) {
	uid, gid = it.UID, it.GID
	if it.User != nil {
		if id := lookup(o, &o.userIDs, *it.User, func() (uint32, error) {
			u, err := user.Lookup(*it.User)
			if err != nil {
				return 0, err
			}
			return parseID(u.Uid)
		}); id != nil {
			uid = *id
		}
	}
	if it.Group != nil {
		if id := lookup(o, &o.groupIDs, *it.Group, func() (uint32, error) {
			g, err := user.LookupGroup(*it.Group)
			if err != nil {
				return 0, err
			}
			return parseID(g.Gid)
		}); id != nil {
			gid = *id
		}
	}
	return uid, gid
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
