package fsmeta

import "golang.org/x/sys/unix"

// MaxAttrs is how many bytes the extended attributes of one item have at most.
const MaxAttrs = 1 << 20

// openLink, as a flag of open, opens a symbolic link itself; 0 where nothing does.
const openLink = 0

// The attributes are those of the namespace for users. As Attic does it, archives have their names without it.
const userSpace = "user."

func (h attrHandle) list(buf []byte) (int, error) {
	if h.fd < 0 {
		return 0, unix.ENOTSUP
	}
	return unix.FlistxattrNS(h.fd, unix.EXTATTR_NAMESPACE_USER, buf)
}

func (h attrHandle) get(name string, buf []byte) (int, error) {
	return unix.Fgetxattr(h.fd, userSpace+name, buf)
}

func (h attrHandle) set(name string, value []byte) error {
	if h.fd < 0 {
		return unix.ENOTSUP
	}
	return unix.Fsetxattr(h.fd, userSpace+name, value, 0)
}

// splitNames reads a list of names with the length before each, in one byte.
func splitNames(list []byte) (names []string) {
	for len(list) > 0 {
		n := min(int(list[0]), len(list)-1)
		names = append(names, string(list[1:1+n]))
		list = list[1+n:]
	}
	return names
}
