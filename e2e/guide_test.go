//go:build linux

package e2e

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/certstest"
	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestTheGuideWithoutSPIRE runs the commands of certs/GUIDE.md as they stand there, but for the ports.
func TestTheGuideWithoutSPIRE(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../certs/GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	part, _, found := strings.Cut(string(guide), "## With SPIRE")
	if !found {
		t.Fatal("the guide has no part with SPIRE")
	}
	script := "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n"
	for _, block := range shellBlock.FindAllStringSubmatch(part, -1) {
		script += block[1]
	}
	host := new(servers.Loopback)
	port := func(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
	orders := servers.StartOrders(t, host)
	script = strings.NewReplacer("8443", port(servers.FreePort(t, host)), "9090", port(servers.FreeLoopbackPort(t, host)),
		"8080", port(orders.Addr)).Replace(script)
	bin := t.TempDir()
	for _, half := range []string{"relay", "agent"} {
		if err := os.Symlink(process.Build(t, half+"/cmd/fairlead-"+half), filepath.Join(bin, "fairlead-"+half)); err != nil {
			t.Fatal(err)
		}
	}
	process.Program(t, "curl", "curl")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = process.Folder(t, "root"), append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "laptop stolen") || !strings.Contains(string(said), "shackle") {
		t.Errorf("the guide ended with %v:\n%s", err, said)
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n# (relay|agent)\\.yaml\n(.*?)```")

// TestTheExamplesOfTheGuidesAreGood has `check` read every example of relay/GUIDE.md, and the README's two files, with what any
// file needs in front.
func TestTheExamplesOfTheGuidesAreGood(t *testing.T) {
	ids := newIdentities(t)
	for _, name := range []string{"introspection.secret", "searcher.secret", "radius.secret", "totp.secrets"} {
		ids.secretFile(t, name, "ada JBSWY3DPEHPK3PXP")
	}
	if err := os.Rename(ids.file("cloud.pem"), ids.file("ldap-ca.pem")); err != nil {
		t.Fatal(err)
	}
	certstest.WriteBundle(t, ids.dir, "cloud", ids.cloud)
	needed := map[string]string{
		"relay": "listen: 127.0.0.1:8443\nidentity: {svid: {cert: relay.crt, key: relay.key}}\ntrust: {cloud.example: {bundle: cloud.pem}, dc1.example: {bundle: dc1.pem}}\n",
		"agent": "relays: [relay.cloud.example:8443]\nrelay_id: [spiffe://cloud.example/relay/*]\nidentity: {svid: {cert: agent.crt, key: agent.key}}\ntrust: {cloud.example: {bundle: cloud.pem}}\n",
	}
	count := 0
	for _, guide := range []string{"../relay/GUIDE.md", "../README.md"} {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			half, yaml := block[1], block[2]
			if !strings.Contains(yaml, "identity:") {
				yaml = needed[half] + yaml
			}
			if half == "relay" && strings.Contains(yaml, "issuer: https://idp.example") && !strings.Contains(yaml, "\ntokens:") {
				yaml += "tokens: [{issuer: https://idp.example, audiences: [fairlead]}]\n"
			}
			file := ids.file("example.yaml")
			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), process.Build(t, half+"/cmd/fairlead-"+half), "check", "-c", file)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s, example %d: %v: %s\n%s", guide, i+1, err, out, yaml)
			}
			count++
		}
	}
	if count < 10 {
		t.Errorf("%d examples were found", count)
	}
}
