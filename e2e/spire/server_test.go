//go:build linux && spire

package spire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// svidLife is that of every X.509-SVID and JWT-SVID here. SPIRE's agent renews at half of it.
const svidLife = 40 * time.Second

// A domain is a trust domain: a SPIRE server with its agent, which serves the Workload API to everybody on this host that
// has an entry.
type domain struct {
	name          string
	dir           string
	port, bundles netip.AddrPort // the server's, and its bundle endpoint's
	server, agent *process.Process
	parent        string // the agent's SPIFFE ID
}

func binary(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(os.Getenv("SPIRE_BIN"), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("expected SPIRE's binaries in SPIRE_BIN, as `make test-spire` says: %v", err)
	}
	return path
}

func newDomain(t *testing.T, name string) *domain {
	t.Helper()
	host := new(servers.Loopback)
	return &domain{name: name, dir: process.Folder(t, "root"), port: servers.FreePort(t, host), bundles: servers.FreePort(t, host)}
}

func (d *domain) file(name string) string { return filepath.Join(d.dir, name) }

// api is the address of the Workload API.
func (d *domain) api() string { return "unix://" + d.file("agent.sock") }

// id makes a SPIFFE ID of the domain.
func (d *domain) id(path string) string { return "spiffe://" + d.name + path }

// startServer starts the SPIRE server, federated with other, whose bundle it gets from other's endpoint.
func (d *domain) startServer(t *testing.T, other *domain) {
	t.Helper()
	config := fmt.Sprintf(`server {
  bind_address = "127.0.0.1"
  bind_port = %d
  socket_path = %q
  trust_domain = %q
  data_dir = %q
  ca_ttl = "168h"
  agent_ttl = "24h"
  default_x509_svid_ttl = %q
  default_jwt_svid_ttl = %q
  federation {
    bundle_endpoint {
      address = "127.0.0.1"
      port = %d
      refresh_hint = "1m"
      profile "https_spiffe" {}
    }
    federates_with %q {
      bundle_endpoint_url = "https://%s"
      bundle_endpoint_profile "https_spiffe" {
        endpoint_spiffe_id = %q
      }
    }
  }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = %q } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { keys_path = %q } }
}
`, d.port.Port(), d.file("server.sock"), d.name, d.dir, svidLife, svidLife, d.bundles.Port(), other.name, other.bundles,
		other.id("/spire/server"), d.file("data.sqlite3"), d.file("keys.json"))
	d.write(t, "server.conf", config)
	d.server = process.Start(t, "spire-server of "+d.name,
		exec.CommandContext(context.WithoutCancel(t.Context()), binary(t, "spire-server"), "run", "-config", d.file("server.conf")))
	d.server.Ready(t, "be healthy", func(ctx context.Context) error {
		return exec.CommandContext(ctx, binary(t, "spire-server"), "healthcheck", "-socketPath", d.file("server.sock")).Run()
	})
}

// startAgent joins a SPIRE agent to the server by a token.
func (d *domain) startAgent(t *testing.T) {
	t.Helper()
	d.write(t, "bundle.pem", d.command(t, "bundle", "show"))
	var token struct{ Value string }
	d.commandJSON(t, &token, "token", "generate", "-spiffeID", d.id("/host"))
	d.parent = d.id("/spire/agent/join_token/" + token.Value)
	d.write(t, "agent.conf", fmt.Sprintf(`agent {
  data_dir = %q
  server_address = "127.0.0.1"
  server_port = %d
  socket_path = %q
  trust_domain = %q
  trust_bundle_path = %q
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = %q } }
  WorkloadAttestor "unix" { plugin_data { discover_workload_path = true } }
}
`, d.file("agent-data"), d.port.Port(), d.file("agent.sock"), d.name, d.file("bundle.pem"), d.dir))
	if err := os.Mkdir(d.file("agent-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.agent = process.Start(t, "spire-agent of "+d.name, exec.CommandContext(context.WithoutCancel(t.Context()), binary(t, "spire-agent"), "run",
		"-config", d.file("agent.conf"), "-joinToken", token.Value))
	d.agent.Ready(t, "be healthy", func(ctx context.Context) error {
		return exec.CommandContext(ctx, binary(t, "spire-agent"), "healthcheck", "-socketPath", d.file("agent.sock")).Run()
	})
}

func (d *domain) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(d.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command runs one of spire-server's commands.
func (d *domain) command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary(t, "spire-server"), append(args, "-socketPath", d.file("server.sock"))...).Output()
	if err != nil {
		t.Fatalf("spire-server %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr(err))
	}
	return string(out)
}

func stderr(err error) []byte {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.Stderr
	}
	return nil
}

func (d *domain) commandJSON(t *testing.T, dst any, args ...string) {
	t.Helper()
	out := d.command(t, append(args, "-output", "json")...)
	if err := json.Unmarshal([]byte(out), dst); err != nil {
		t.Fatalf("spire-server %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// know makes other's bundle known to d, which then keeps it fresh by other's endpoint.
func (d *domain) know(t *testing.T, other *domain) {
	t.Helper()
	other.write(t, "bundle.json", other.command(t, "bundle", "show", "-format", "spiffe"))
	d.command(t, "bundle", "set", "-id", other.id(""), "-format", "spiffe", "-path", other.file("bundle.json"))
}

// entry gives whoever runs the program an identity.
func (d *domain) entry(t *testing.T, path, program string, more ...string) {
	t.Helper()
	d.command(t, append([]string{"entry", "create", "-parentID", d.parent, "-spiffeID", d.id(path), "-selector", "unix:path:" + program}, more...)...)
}
