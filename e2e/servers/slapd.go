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

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
)

// Slapd is a directory with a handful of people under Base, readable by all but for their passwords.
type Slapd struct {
	*process.Process
	Addr netip.AddrPort
	TLS  netip.AddrPort // ldaps; Addr takes StartTLS, too
	Base string
	CA   string // PEM, of the certificate for ServerName
}

// Who is in the directory, beside the entry that searches; ada alone is in the group clerks.
const (
	SlapdServerName       = "ldap.dc1.example"
	SlapdSearcher         = "uid=fairlead,dc=dc1,dc=example"
	SlapdSearcherPassword = "searcher's secret"
	SlapdAdaPassword      = "lovelace's engine"
	SlapdGracePassword    = "hopper's moth"
)

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
userPassword: lovelace's engine

dn: uid=grace,ou=people,dc=dc1,dc=example
objectClass: inetOrgPerson
uid: grace
cn: Grace Hopper
sn: Hopper
mail: grace@dc1.example
userPassword: hopper's moth

dn: uid=fairlead,dc=dc1,dc=example
objectClass: account
objectClass: simpleSecurityObject
uid: fairlead
userPassword: searcher's secret

dn: ou=groups,dc=dc1,dc=example
objectClass: organizationalUnit
ou: groups

dn: cn=clerks,ou=groups,dc=dc1,dc=example
objectClass: groupOfNames
cn: clerks
member: uid=ada,ou=people,dc=dc1,dc=example
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
	ca := certstest.NewCA(t, "slapd.example")
	certFile, keyFile := certstest.WriteCertificate(t, dir, "slapd", ca.Issue(t, "spiffe://slapd.example/slapd", certstest.DNS(SlapdServerName)))
	caFile := certstest.WriteBundle(t, dir, "ca", ca)
	if err := os.WriteFile(config, fmt.Appendf(nil, `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/slapd.pid
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[3]s
database mdb
suffix "dc=dc1,dc=example"
directory %[1]s/db
maxsize 10485760
access to attrs=userPassword by * auth
access to * by * read
`, dir, certFile, keyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	fill := on.Command(ctx, add, "-f", config)
	fill.Stdin = strings.NewReader(people)
	process.Run(t, fill)
	s := &Slapd{Addr: FreePort(t, on), TLS: FreePort(t, on), Base: "dc=dc1,dc=example", CA: caFile}
	// -d keeps it in the foreground; "none" is what it must always say.
	s.Process = process.Start(t, "slapd", on.Command(ctx, program, "-d", "none", "-f", config, "-h", url("ldap", s.Addr)+" "+url("ldaps", s.TLS)))
	s.Accepts(t, on, s.Addr.String())
	return s
}
