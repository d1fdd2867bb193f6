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

// squidUser is the account that Debian's package uses; squid refuses to run as root.
const squidUser = "proxy"

// Squid is a company's proxy: CONNECT to some ports only, for those who know the password (Basic).
type Squid struct {
	*process.Process
	Addr           netip.AddrPort
	User, Password string
	access         string // its access log
}

// StartSquid starts squid on the host, on a free port. It lets through CONNECT to the given ports, and nothing else.
func StartSquid(t testing.TB, on Host, ports ...uint16) *Squid {
	t.Helper()
	program, htpasswd := process.Program(t, "squid", "squid"), process.Program(t, "htpasswd", "apache2-utils")
	dir := process.Folder(t, squidUser)
	s := &Squid{
		Addr: FreePort(t, on), User: "agent", Password: "squid-canary-4711",
		access: filepath.Join(dir, "access.log"),
	}
	ctx := context.WithoutCancel(t.Context())
	passwords := filepath.Join(dir, "passwords")
	process.Run(t, on.Command(ctx, htpasswd, "-cbB", passwords, s.User, s.Password))
	config := filepath.Join(dir, "squid.conf")
	if err := os.WriteFile(config, []byte(s.config(dir, passwords, ports)), 0o600); err != nil {
		t.Fatal(err)
	}
	process.Give(t, passwords, squidUser)
	process.Give(t, config, squidUser)
	s.Process = process.Start(t, "squid", command(ctx, on,
		append(process.Unprivileged(squidUser), program, "-N", "-d", "1", "-f", config)...))
	s.Accepts(t, on, s.Addr.String())
	return s
}

// Access returns what squid has written about the calls it was asked for; a call is there once it has ended.
func (s *Squid) Access(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.access)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *Squid) config(dir, passwords string, ports []uint16) string {
	var text strings.Builder
	fmt.Fprintf(&text, `
http_port %[1]s
visible_hostname proxy.corp
pid_filename none
cache_log stdio:/dev/stderr
access_log stdio:%[2]s
buffered_logs off
cache deny all
pinger_enable off
coredump_dir %[3]s
shutdown_lifetime 1 second
auth_param basic program /usr/lib/squid/basic_ncsa_auth %[4]s
auth_param basic children 2 startup=1 idle=1
auth_param basic realm corp
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
http_access deny !CONNECT
http_access deny !known
`, s.Addr, s.access, dir, passwords)
	for _, port := range ports {
		fmt.Fprintf(&text, "acl open_ports port %d\n", port)
	}
	return text.String() + "http_access deny !open_ports\nhttp_access allow known\nhttp_access deny all\n"
}
