package fsmeta

import (
	"strings"

	"golang.org/x/sys/unix"
)

// MaxAttrs is how many bytes the extended attributes of one item have at most. Resource forks are attributes.
const MaxAttrs = 16 << 20

// openLink, as a flag of open, opens a symbolic link itself.
const openLink = unix.O_SYMLINK

func (h attrHandle) list(buf []byte) (int, error) {
	if h.fd < 0 {
		return 0, unix.ENOTSUP
	}
	return unix.Flistxattr(h.fd, buf)
}

func (h attrHandle) get(name string, buf []byte) (int, error) { return unix.Fgetxattr(h.fd, name, buf) }

func (h attrHandle) set(name string, value []byte) error {
	if h.fd < 0 {
		return unix.ENOTSUP
	}
	return unix.Fsetxattr(h.fd, name, value, 0)
}

// splitNames reads a list of names that end in zero bytes.
func splitNames(list []byte) []string {
	if len(list) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00")
}
