//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

func TestThreeFaultsAreThreeMessagesWithLines(t *testing.T) {
	dir := t.TempDir()
	for name, files := range map[string]struct{ folder, text string }{
		"relay": {"relay/cmd/fairlead-relay", "listen: nowhere\nidentity: {svid: {cert: a.crt, key: a.key}}\n" +
			"trust: {cloud.example: {bundle: a.pem}}\nspeling: 1\ntunnels:\n  - {name: UPPER, protocol: http}\n"},
		"agent": {"agent/cmd/fairlead-agent", "relays: [nowhere]\nrelay_id: [spiffe://cloud.example/relay/*]\n" +
			"trust: {cloud.example: {bundle: a.pem}}\nspeling: 1\ntunnels:\n  - {name: UPPER, backend: tcp://127.0.0.1:1}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := dir + "/" + name + ".yaml"
			if err := os.WriteFile(file, []byte(files.text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), process.Build(t, files.folder), "check", "-c", file).CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
				t.Errorf("check ended with %v, want status 2", err)
			}
			for _, line := range []string{":1:", ":4:", ":6:"} {
				if !strings.Contains(string(out), line) {
					t.Errorf("no fault with %q in\n%s", line, out)
				}
			}
		})
	}
}

func TestStatusSaysTheSameToPeopleAndPrograms(t *testing.T) {
	s, _ := startOrders(t, options{})
	for _, p := range []*program{s.relay, s.agent} {
		t.Run(p.name, func(t *testing.T) {
			if text := p.command(t, "status", "-c", p.config); !strings.Contains(text, "orders") || !strings.Contains(text, "dc1-a") {
				t.Errorf("status says\n%s", text)
			}
			var v any
			if text := p.command(t, "status", "-c", p.config, "--json"); json.Unmarshal([]byte(text), &v) != nil || !strings.Contains(text, `"orders"`) {
				t.Errorf("status --json says\n%s", text)
			}
		})
	}
}

func TestBothHalvesEndWellOnSIGTERM(t *testing.T) {
	s, _ := startOrders(t, options{})
	s.agent.stop(t)
	s.relay.stop(t)
}

func TestGoodFilesAreFoundGood(t *testing.T) {
	s := newSite(t, options{}, tunnel{name: "orders", backend: "http://127.0.0.1:1"})
	for _, p := range []*program{s.relay, s.agent} {
		p.command(t, "check", "-c", p.config)
	}
}
