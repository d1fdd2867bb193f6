package secretfile

import (
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

const nonblock = 0

// checkAccess judges the access list of the very file that is read.
func checkAccess(path string, f *os.File, _ fs.FileInfo) error {
	d, err := readDACL(windows.Handle(f.Fd()))
	if err != nil {
		return fmt.Errorf("secret file %s: reading its access list: %w", path, err)
	}
	self, err := ourselves()
	if err != nil {
		return fmt.Errorf("secret file %s: asking who this process is: %w", path, err)
	}
	return d.judge(path, self)
}

// checkFolders: on Windows the file's own list is all that counts, since it is opened before it is judged.
func checkFolders(string) error { return nil }

func readDACL(h windows.Handle) (*dacl, error) {
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return nil, err
	}
	d := &dacl{owner: owner.String()}
	list, _, err := sd.DACL()
	if err != nil || list == nil {
		return d, nil //nolint:nilerr // there is none: judge says so
	}
	d.present = true
	for i := range uint32(list.AceCount) {
		var a *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &a); err != nil {
			return nil, err
		}
		if a.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE {
			if a.Header.AceType != windows.ACCESS_DENIED_ACE_TYPE {
				return nil, fmt.Errorf("entry %d is of type %d, which this check does not know", i+1, a.Header.AceType)
			}
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&a.SidStart))
		d.allow = append(d.allow, ace{sid.String(), uint32(a.Mask), a.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0})
	}
	return d, nil
}

// ourselves are the process's user and, where it runs as a service, that service.
func ourselves() ([]string, error) {
	token := windows.GetCurrentProcessToken()
	user, err := token.GetTokenUser()
	if err != nil {
		return nil, err
	}
	self := []string{user.User.Sid.String()}
	groups, err := token.GetTokenGroups()
	if err != nil {
		return nil, err
	}
	for _, g := range groups.AllGroups() {
		if sid := g.Sid.String(); isService(sid) {
			self = append(self, sid)
		}
	}
	return self, nil
}
