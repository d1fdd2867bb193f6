package secretfile

import (
	"fmt"
	"slices"
	"strings"
)

// A dacl is a Windows file's owner and access list, read.
type dacl struct {
	owner   string // SID
	present bool   // without a list everybody may do everything
	allow   []ace
}

// An ace gives rights to somebody. Those that deny only make a file safer, and are left out.
type ace struct {
	sid         string
	mask        uint32
	inheritOnly bool // it counts for what is made below, not for the file
}

// Security identifiers that Windows has everywhere.
const (
	sidSystem           = "S-1-5-18"
	sidAdministrators   = "S-1-5-32-544"
	sidTrustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	sidOwnerRights      = "S-1-3-4"
	sidServices         = "S-1-5-80-" // NT SERVICE\…
	sidAllServices      = "S-1-5-80-0"
)

// harmless are rights that neither read nor change a file: READ_CONTROL, SYNCHRONIZE, FILE_READ_ATTRIBUTES and FILE_READ_EA.
const harmless = 0x00020000 | 0x00100000 | 0x80 | 0x8

const wantedDACL = "expected SYSTEM, Administrators or this process's account as owner, and nobody else in the access list, as in D:P(A;;FA;;;SY)(A;;FA;;;BA)"

// judge returns what is wrong with the list for a process that is self: its user and, where it is a service, that one's SID.
func (d *dacl) judge(path string, self []string) error {
	trusted := func(sid string) bool {
		return sid == sidSystem || sid == sidAdministrators || sid == sidTrustedInstaller || slices.Contains(self, sid)
	}
	refuse := func(format string, args ...any) error {
		return &AccessError{Path: path, Text: fmt.Sprintf(format, args...) + ": " + wantedDACL}
	}
	if !trusted(d.owner) {
		return refuse("owner is %s", d.owner)
	}
	if !d.present {
		return refuse("it has no access list, which lets everybody in")
	}
	for _, a := range d.allow {
		if !a.inheritOnly && a.mask&^harmless != 0 && a.sid != sidOwnerRights && !trusted(a.sid) {
			return refuse("its access list lets %s in (rights %#x)", a.sid, a.mask)
		}
	}
	return nil
}

// isService says whether a SID is that of one service.
func isService(sid string) bool { return strings.HasPrefix(sid, sidServices) && sid != sidAllServices }
