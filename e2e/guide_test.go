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
