package secretfile

import (
	"errors"
	"strings"
	"testing"
)

func TestOnWindowsTheAccessListDecides(t *testing.T) { // O02
	const (
		self, service = "S-1-5-21-1-2-3-1001", "S-1-5-80-1-2-3-4-5"
		users         = "S-1-5-32-545"
		everyone      = "S-1-1-0"
		full, read    = 0x1f01ff, 0x120089
	)
	good := []ace{{sid: sidSystem, mask: full}, {sid: sidAdministrators, mask: full}}
	for name, c := range map[string]struct {
		d    dacl
		want string // part of the refusal; "": taken
	}{
		"the installer's list":         {dacl{sidAdministrators, true, good}, ""},
		"with the process's user":      {dacl{self, true, append(good[:2:2], ace{sid: self, mask: read})}, ""},
		"with its service":             {dacl{sidSystem, true, append(good[:2:2], ace{sid: service, mask: read})}, ""},
		"nobody":                       {dacl{sidSystem, true, nil}, ""},
		"users may look at its times":  {dacl{sidSystem, true, append(good[:2:2], ace{sid: users, mask: 0x100080})}, ""},
		"users below it":               {dacl{sidSystem, true, append(good[:2:2], ace{sid: users, mask: full, inheritOnly: true})}, ""},
		"users read":                   {dacl{sidSystem, true, append(good[:2:2], ace{sid: users, mask: read})}, users},
		"everyone writes":              {dacl{sidSystem, true, append(good[:2:2], ace{sid: everyone, mask: 0x2})}, everyone},
		"everyone may change the list": {dacl{sidSystem, true, append(good[:2:2], ace{sid: everyone, mask: 0x40000})}, everyone},
		"another service":              {dacl{sidSystem, true, append(good[:2:2], ace{sid: "S-1-5-80-9-9-9-9-9", mask: read})}, "S-1-5-80-9"},
		"another owner":                {dacl{"S-1-5-21-1-2-3-1002", true, good}, "owner is S-1-5-21-1-2-3-1002"},
		"no list":                      {dacl{sidSystem, false, nil}, "no access list"},
	} {
		err := c.d.judge(`C:\ProgramData\Fairlead\agent.key`, []string{self, service})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refusal, ok := errors.AsType[*AccessError](err)
		if !ok || !strings.Contains(refusal.Error(), c.want) || !strings.Contains(refusal.Error(), `Fairlead\agent.key`) ||
			!strings.Contains(refusal.Error(), "expected SYSTEM") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if isService(sidAllServices) || !isService(service) {
		t.Error("one service is not all of them")
	}
}
