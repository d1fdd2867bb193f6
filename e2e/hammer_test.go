//go:build linux

package e2e

import (
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestReloadsUnderCallsLoseNone reloads both halves as fast as they can while calls run: unchanged files, by signal and
// by command at once. Run with -race it looks for races in them too.
func TestReloadsUnderCallsLoseNone(t *testing.T) {
	s, _ := startOrders(t, options{})
	var running sync.WaitGroup
	var stop atomic.Bool
	var calls atomic.Int64
	for _, v := range []version{h1, h2, h3} {
		c := s.caller(t, nil, billingID, v)
		running.Go(func() {
			for !stop.Load() {
				a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders/1"})
				if err != nil || a.StatusCode != http.StatusOK {
					t.Errorf("%v: %v, %v", v, a.Response, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	end := time.Now().Add(3 * time.Second)
	for _, p := range []*program{s.relay, s.agent} {
		binary := p.binary(t)
		for range 2 {
			running.Go(func() {
				for time.Now().Before(end) {
					if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
						t.Error(err)
						return
					}
					if out, err := p.on.Command(t.Context(), binary, "reload", "-c", p.config, "--control", s.file(p.name+".sock")).CombinedOutput(); err != nil {
						t.Errorf("%s: %v\n%s", p.name, err, out)
						return
					}
				}
				stop.Store(true)
			})
		}
	}
	running.Wait()
	if calls.Load() == 0 {
		t.Error("no call ran: this test sees nothing")
	}
	t.Logf("%d calls", calls.Load())
	s.agent.stop(t)
	s.relay.stop(t)
}
