//go:build linux

package servers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
)

// FreeRADIUS is a server with two users, in plain RADIUS and over TLS.
type FreeRADIUS struct {
	*process.Process
	UDP, TLS  netip.AddrPort
	CA        string // PEM, of both sides' certificates
	Cert, Key string // PEM: what whoever speaks TLS to it must show
}

// What the server knows: ada's code is good at once; of grace it wants another one behind her first.
const (
	RADIUSServerName = "radius.dc1.example"
	RADIUSSecret     = "the shared secret of the lab"
	RADIUSAdaCode    = "ada's code 123456"
	RADIUSGraceFirst = "grace's first 654321"
	RADIUSGraceNext  = "grace's next 111111"
)

// StartFreeRADIUS starts the server on the host, on free ports.
func StartFreeRADIUS(t testing.TB, on Host) *FreeRADIUS {
	t.Helper()
	program := process.Program(t, "freeradius", "freeradius")
	dir := process.Folder(t, "root")
	ca := certstest.NewCA(t, "radius.example")
	s := &FreeRADIUS{UDP: FreePort(t, on), TLS: FreePort(t, on), CA: certstest.WriteBundle(t, dir, "ca", ca)}
	certFile, keyFile := certstest.WriteCertificate(t, dir, "server", ca.Issue(t, "spiffe://radius.example/server", certstest.DNS(RADIUSServerName)))
	s.Cert, s.Key = certstest.WriteCertificate(t, dir, "client", ca.Issue(t, "spiffe://radius.example/client"))
	for name, text := range map[string]string{
		"users": fmt.Sprintf("ada Cleartext-Password := %q\n\ngrace Cleartext-Password := %q\n", RADIUSAdaCode, RADIUSGraceNext),
		"radiusd.conf": fmt.Sprintf(`prefix = /usr
name = freeradius
raddbdir = %[1]s
logdir = %[1]s
run_dir = %[1]s
db_dir = %[1]s
libdir = /usr/lib/freeradius
pidfile = %[1]s/pid
correct_escapes = true
max_request_time = 30
cleanup_delay = 0
max_requests = 1024
hostname_lookups = no
log {
	destination = stdout
	auth = no
}
security {
	max_attributes = 200
	reject_delay = 0
	status_server = no
	allow_vulnerable_openssl = yes
}
proxy_requests = no
thread pool {
	start_servers = 2
	max_servers = 4
	min_spare_servers = 1
	max_spare_servers = 2
	max_requests_per_server = 0
}
modules {
	always handled {
		rcode = handled
	}
	always reject {
		rcode = reject
	}
	pap {
	}
	files {
		filename = %[1]s/users
	}
}
client lab {
	ipaddr = %[2]s
	proto = udp
	secret = %[3]q
	require_message_authenticator = yes
}
clients radsec {
	client lab-tls {
		ipaddr = %[2]s
		proto = tls
		secret = radsec
	}
}
server default {
	listen {
		type = auth
		ipaddr = %[2]s
		port = %[4]d
		proto = udp
	}
	listen {
		type = auth
		ipaddr = %[2]s
		port = %[5]d
		proto = tcp
		clients = radsec
		tls {
			private_key_file = %[6]s
			certificate_file = %[7]s
			ca_file = %[8]s
			require_client_cert = yes
			tls_min_version = "1.2"
			tls_max_version = "1.2"
			ecdh_curve = "prime256v1"
			cache {
				enable = no
			}
		}
	}
	authorize {
		update reply {
			&Message-Authenticator := 0x00
		}
		if (&User-Name == "grace" && !&State) {
			if (&User-Password == %[9]q) {
				update reply {
					&Reply-Message := "Wait for the next code, then enter it"
					&State := 0x6772616365
				}
				update control {
					&Response-Packet-Type := Access-Challenge
				}
				handled
			}
			reject
		}
		if (&User-Name == "grace" && &State != 0x6772616365) {
			reject
		}
		files
		pap
	}
	authenticate {
		Auth-Type PAP {
			pap
		}
	}
	post-auth {
		Post-Auth-Type REJECT {
			update reply {
				&Message-Authenticator := 0x00
			}
		}
	}
}
`, dir, on.Addr(), RADIUSSecret, s.UDP.Port(), s.TLS.Port(), keyFile, certFile, s.CA, RADIUSGraceFirst),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// -f keeps it in the foreground.
	s.Process = process.Start(t, "freeradius", on.Command(context.WithoutCancel(t.Context()), program, "-f", "-l", "stdout", "-d", dir))
	s.Accepts(t, on, s.TLS.String())
	return s
}
