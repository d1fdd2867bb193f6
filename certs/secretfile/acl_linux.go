package secretfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The layout of system.posix_acl_access (linux/posix_acl_xattr.h): a version, then entries of 8 bytes, little endian.
const (
	aclVersion   = 2
	aclUser      = 0x02
	aclGroupObj  = 0x04
	aclGroup     = 0x08
	aclMaxBytes  = 4096
	aclEntryLen  = 8
	aclHeaderLen = 4
)

// accessList returns the grants of a file's POSIX access list, nil where it has none. With a list, the group bits of the
// mode are its mask, not the group's rights: systemd's LoadCredential= gives the service's user its file this way.
func accessList(f *os.File) ([]grant, error) {
	buf := make([]byte, aclMaxBytes)
	n, err := unix.Fgetxattr(int(f.Fd()), "system.posix_acl_access", buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseACL(buf[:n])
}

func parseACL(b []byte) ([]grant, error) {
	if len(b) < aclHeaderLen || binary.LittleEndian.Uint32(b) != aclVersion || (len(b)-aclHeaderLen)%aclEntryLen != 0 {
		return nil, fmt.Errorf("access list of %d bytes is not of version %d", len(b), aclVersion)
	}
	grants := []grant{} // not nil: there is a list, even if it gives nothing
	for b = b[aclHeaderLen:]; len(b) > 0; b = b[aclEntryLen:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		if perm == 0 {
			continue
		}
		switch tag {
		case aclUser:
			grants = append(grants, grant{to: namedUser, id: int(id)})
		case aclGroupObj:
			grants = append(grants, grant{to: owningGroup})
		case aclGroup:
			grants = append(grants, grant{to: namedGroup, id: int(id)})
		}
	}
	return grants, nil
}
