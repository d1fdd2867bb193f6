package dispatch

import (
	"net/http"
	"strings"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// watchIdle ends an exchange in which not a byte moved for the tunnel's idle time-out, and returns what stops the
// watch. gRPC is left alone from the start; WebSocket and server-sent events are once their response shows them.
func (x *exchange) watchIdle(r *http.Request) (stop func()) {
	limit := x.tunnel.cfg.Timeouts.Idle
	if limit <= 0 || strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return func() {}
	}
	x.touch()
	var check func()
	x.mu.Lock()
	defer x.mu.Unlock()
	check = func() {
		left := limit - (time.Since(x.started) - time.Duration(x.progress.Load()))
		if left <= 0 {
			x.interrupt(&protocol.Error{Code: protocol.BackendTimeout, Sentence: "the exchange stood still for too long", Sent: true})
			return
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.idle != nil {
			x.idle.Reset(left)
		}
	}
	x.idle = time.AfterFunc(limit, check)
	return x.stopIdle
}

func (x *exchange) stopIdle() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.idle != nil {
		x.idle.Stop()
		x.idle = nil
	}
}
