//go:build linux

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

func TestDirectoryIsSearched(t *testing.T) {
	d := servers.StartSlapd(t, new(servers.Loopback))
	s := startSite(t, options{}, tunnel{name: "directory", protocol: "tcp", backend: "tcp://" + d.Addr.String()})
	address := s.connect(t, nil, "directory")
	out := process.Run(t, exec.CommandContext(t.Context(), process.Program(t, "ldapsearch", "ldap-utils"),
		"-x", "-LLL", "-H", "ldap://"+address.String(), "-b", d.Base, "(objectClass=inetOrgPerson)", "mail"))
	for _, mail := range []string{"mail: ada@dc1.example", "mail: grace@dc1.example"} {
		if !strings.Contains(out, mail) {
			t.Errorf("expected %q in\n%s", mail, out)
		}
	}
}
