package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/protocol"
)

func TestAHelloFullOfForeignTunnelsIsAFewLinesOfLog(t *testing.T) { // R02
	r := newRig(t, nil)
	var names []protocol.TunnelName
	for i := range 3000 {
		names = append(names, protocol.TunnelName(fmt.Sprintf("t%d", i)))
	}
	l := r.add(offer(evil, "a", 1, 0, append(names, "orders")...))
	defer r.Remove(l)
	if n := strings.Count(r.log.String(), "\n"); n < 2 || n > 10 {
		t.Errorf("%d lines, expected a few", n)
	}
	if !strings.Contains(r.log.String(), `"tunnels":2993`) {
		t.Errorf("the log does not say how many: %s", r.log)
	}
}
