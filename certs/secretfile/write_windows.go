package secretfile

import (
	"encoding/pem"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func create(path string) (*os.File, error) {
	self, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + self.User.Sid.String() + ")")
	if err != nil {
		return nil, err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

func syncFolder(string) error { return nil } // NTFS journals renames

// Seal returns what to write for a secret. On Windows that is the secret encrypted by DPAPI for this machine: the access list
// keeps other users away, DPAPI whoever has a disk or a backup alone. (For the machine and not for the user, because an
// administrator enrols and the service's account reads.) Elsewhere it is the secret itself.
func Seal(b []byte) ([]byte, error) {
	var out windows.DataBlob
	if err := windows.CryptProtectData(blob(b), nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN|windows.CRYPTPROTECT_LOCAL_MACHINE, &out); err != nil {
		return nil, fmt.Errorf("sealing a secret: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: sealedType, Bytes: taken(&out)}), nil
}

// Unseal returns the secret in what Seal made, and what nobody has sealed as it is.
func Unseal(b []byte) ([]byte, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != sealedType {
		return b, nil
	}
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(blob(block.Bytes), nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("opening a sealed secret, which this machine alone can: %w", err)
	}
	return taken(&out), nil
}

func blob(b []byte) *windows.DataBlob {
	if len(b) == 0 {
		return &windows.DataBlob{}
	}
	return &windows.DataBlob{Size: uint32(len(b)), Data: &b[0]} //nolint:gosec // secrets are small
}

// taken copies what the system has allocated, and frees it.
func taken(out *windows.DataBlob) []byte {
	b := append([]byte(nil), unsafe.Slice(out.Data, out.Size)...)
	_, _ = windows.LocalFree(windows.Handle(unsafe.Pointer(out.Data))) // nothing helps where it fails
	return b
}
