package fsmeta

import (
	"os"

	"golang.org/x/sys/unix"
)

// madeUp are the types of file systems whose files the kernel makes up as they are read. The size of such a file is often 0,
// or that of a page of memory.
var madeUp = map[uint32]bool{
	unix.PROC_SUPER_MAGIC:      true,
	unix.SYSFS_MAGIC:           true,
	unix.DEBUGFS_MAGIC:         true,
	unix.TRACEFS_MAGIC:         true,
	unix.SECURITYFS_MAGIC:      true,
	unix.SELINUX_MAGIC:         true,
	unix.SMACK_MAGIC:           true,
	unix.CGROUP_SUPER_MAGIC:    true,
	unix.CGROUP2_SUPER_MAGIC:   true,
	unix.EFIVARFS_MAGIC:        true,
	unix.BPF_FS_MAGIC:          true,
	unix.BINFMTFS_MAGIC:        true,
	unix.RDTGROUP_SUPER_MAGIC:  true,
	unix.NSFS_MAGIC:            true,
	unix.OPENPROM_SUPER_MAGIC:  true,
	unix.PSTOREFS_MAGIC:        true,
	0x62656570 /* configfs */ : true,
}

// MadeUp reports whether an open file is one that the system makes up as it is read, whose size says nothing.
func MadeUp(f *os.File) bool {
	var st unix.Statfs_t
	err := control(f, "statfs", func(fd int) error { return unix.Fstatfs(fd, &st) })
	return err == nil && madeUp[uint32(st.Type)]
}
