//go:build linux

package e2e

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

func TestMessagesArePublishedAndSubscribedTo(t *testing.T) {
	m := servers.StartMosquitto(t, new(servers.Loopback))
	s := startSite(t, options{}, tunnel{name: "mqtt", protocol: "tcp", backend: "tcp://" + m.Addr.String()})
	address := s.connect(t, nil, "mqtt")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := func(program string, more ...string) *exec.Cmd {
		args := append([]string{"-h", address.Addr().String(), "-p", strconv.Itoa(int(address.Port()))}, more...)
		return exec.CommandContext(ctx, process.Program(t, program, "mosquitto-clients"), args...)
	}
	subscriber := process.Start(t, "mosquitto_sub", client("mosquitto_sub", "-v", "-q", "1", "-t", "meters/#", "-C", "2", "-W", "50"))
	// The broker's word: the subscriber holds its own back until it ends.
	if _, err := m.Find(ctx, regexp.MustCompile("Sending SUBACK")); err != nil {
		t.Fatal(err)
	}
	process.Run(t, client("mosquitto_pub", "-q", "1", "-t", "meters/1", "-m", "230"))
	process.Run(t, client("mosquitto_pub", "-q", "2", "-t", "meters/2", "-m", "231"))
	if err := subscriber.Wait(); err != nil {
		t.Errorf("mosquitto_sub ended with %v", err)
	}
	if got := subscriber.Log().String(); got != "meters/1 230\nmeters/2 231\n" {
		t.Errorf("mosquitto_sub got %q", got)
	}
}
