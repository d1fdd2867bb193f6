//go:build unix

package secretfile

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// nonblock keeps the open of a FIFO from waiting for a writer.
const nonblock = syscall.O_NONBLOCK

const wanted = "expected owner root or this process, and mode 0600, 0400, or 0640 with a group of this process"

func checkAccess(path string, f *os.File, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("secret file %s: this system does not say who owns it", path)
	}
	refuse := func(format string, args ...any) error {
		return &AccessError{Path: path, Text: fmt.Sprintf(format, args...) + ": " + wanted}
	}
	mode := info.Mode().Perm()
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return refuse("owner is uid %d, mode %#o", st.Uid, mode)
	}
	if mode&0o007 != 0 {
		return refuse("mode %#o lets everybody in", mode)
	}
	groups, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("secret file %s: reading this process's groups: %w", path, err)
	}
	mine := func(gid int) bool { return gid == os.Getegid() || slices.Contains(groups, gid) }
	if mode&0o070 == 0 {
		return nil // with an access list too: then these bits are its mask, which cuts everybody named in it
	}
	acl, err := accessList(f)
	if err != nil {
		return fmt.Errorf("secret file %s: reading its access list: %w", path, err)
	}
	if acl == nil {
		acl = []grant{{to: owningGroup}}
	}
	for _, g := range acl {
		switch {
		case g.to == owningGroup && !mine(int(st.Gid)):
			return refuse("mode %#o lets group %d in, of which this process is no member", mode, st.Gid)
		case g.to == namedGroup && !mine(g.id):
			return refuse("its access list lets group %d in, of which this process is no member", g.id)
		case g.to == namedUser && g.id != 0 && g.id != os.Geteuid():
			return refuse("its access list lets uid %d in", g.id)
		}
	}
	return nil
}

// A grant is a right, of whatever kind, that an access list gives to somebody beside the owner.
type grant struct {
	to holder
	id int // of a named user or group
}

type holder int

const (
	owningGroup holder = iota
	namedGroup
	namedUser
)
