//go:build linux

package servers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

// Slapd is a directory with a handful of people under Base, readable by all.
type Slapd struct {
	*process.Process
	Addr netip.AddrPort
	Base string
}

// people are who is in the directory.
const people = `dn: dc=dc1,dc=example
objectClass: organization
objectClass: dcObject
o: Data centre 1
dc: dc1

dn: ou=people,dc=dc1,dc=example
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,dc=dc1,dc=example
objectClass: inetOrgPerson
uid: ada
cn: Ada Lovelace
sn: Lovelace
mail: ada@dc1.example

dn: uid=grace,ou=people,dc=dc1,dc=example
objectClass: inetOrgPerson
uid: grace
cn: Grace Hopper
sn: Hopper
mail: grace@dc1.example
`

// StartSlapd starts OpenLDAP's server on the host, on a free port.
func StartSlapd(t testing.TB, on Host) *Slapd {
	t.Helper()
	program, add := process.Program(t, "slapd", "slapd"), process.Program(t, "slapadd", "slapd")
	dir := process.Folder(t, "root")
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "slapd.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/slapd.pid
database mdb
suffix "dc=dc1,dc=example"
directory %[1]s/db
maxsize 10485760
access to * by * read
`, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	fill := on.Command(ctx, add, "-f", config)
	fill.Stdin = strings.NewReader(people)
	process.Run(t, fill)
	s := &Slapd{Addr: FreePort(t, on), Base: "dc=dc1,dc=example"}
	// -d keeps it in the foreground; "none" is what it must always say.
	s.Process = process.Start(t, "slapd", on.Command(ctx, program, "-d", "none", "-f", config, "-h", url("ldap", s.Addr)))
	s.Accepts(t, on, s.Addr.String())
	return s
}
