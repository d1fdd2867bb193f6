//go:build linux

package servers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/e2e/process"
)

// Mosquitto is an MQTT broker that asks nobody who they are.
type Mosquitto struct {
	*process.Process
	Addr netip.AddrPort
}

// StartMosquitto starts the broker on the host, on a free port. It keeps nothing on disk.
func StartMosquitto(t testing.TB, on Host) *Mosquitto {
	t.Helper()
	program := process.Program(t, "mosquitto", "mosquitto")
	m := &Mosquitto{Addr: FreePort(t, on)}
	config := fmt.Sprintf("listener %d %s\nallow_anonymous true\npersistence false\nlog_dest stderr\nlog_type all\n",
		m.Addr.Port(), m.Addr.Addr())
	if os.Geteuid() == 0 {
		config += "user root\n" // it reads this test's file
	}
	file := filepath.Join(process.Folder(t, "root"), "mosquitto.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	m.Process = process.Start(t, "mosquitto", on.Command(ctx, program, "-c", file))
	m.Accepts(t, on, m.Addr.String())
	return m
}
