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
	Numeric bool // numbers are all that counts, and nobody has a name; not to be changed once it is in use

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
	if o.Numeric {
		return nil
	}
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
	if o.Numeric {
		return nil
	}
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
	return o.userID(it.User, it.UID), o.groupID(it.Group, it.GID)
}

func (o *Owners) userID(name *string, otherwise uint32) uint32 {
	if name == nil || o.Numeric {
		return otherwise
	}
	id := lookup(o, &o.userIDs, *name, func() (uint32, error) {
		u, err := user.Lookup(*name)
		if err != nil {
			return 0, err
		}
		return parseID(u.Uid)
	})
	if id == nil {
		return otherwise
	}
	return *id
}

func (o *Owners) groupID(name *string, otherwise uint32) uint32 {
	if name == nil || o.Numeric {
		return otherwise
	}
	id := lookup(o, &o.groupIDs, *name, func() (uint32, error) {
		g, err := user.LookupGroup(*name)
		if err != nil {
			return 0, err
		}
		return parseID(g.Gid)
	})
	if id == nil {
		return otherwise
	}
	return *id
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
