package secretfile

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// aclBytes encodes an access list: the owner reads, the group does not, one named user reads.
func aclBytes(uid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	add := func(tag, perm uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	const nobody = 0xffffffff
	add(0x01, 4, nobody)
	add(aclUser, 4, uid)
	add(aclGroupObj, 0, nobody)
	add(0x10, 4, nobody) // the mask, which shows as the group bits of the mode
	add(0x20, 0, nobody)
	return b
}

func TestAccessListIsReadInsteadOfTheGroupBits(t *testing.T) {
	path := write(t, 0o400)
	err := unix.Setxattr(path, "system.posix_acl_access", aclBytes(54321), 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("this file system has no access lists")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), "uid 54321") {
		t.Errorf("a stranger in the list: %v", err)
	}
	// What systemd's LoadCredential= makes: root's file, a foreign group whose bits are only the mask.
	if err := unix.Setxattr(path, "system.posix_acl_access", aclBytes(uint32(os.Geteuid())), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 0, 54321); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(path); err != nil {
		t.Errorf("this process in the list: %v", err)
	}
}

func TestAccessListThatIsCutShortIsRefused(t *testing.T) {
	whole := aclBytes(1)
	for n := range whole {
		_, err := parseACL(whole[:n])
		if isWhole := n >= aclHeaderLen && (n-aclHeaderLen)%aclEntryLen == 0; isWhole != (err == nil) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
