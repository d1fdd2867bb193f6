package route

import (
	"context"
	"net/http"
	"testing"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

func TestTheCallersTokenGoesToAgentsAloneThatAskForIt(t *testing.T) {
	for name, wants := range map[string][]protocol.TunnelName{"nowhere": nil, "elsewhere": {"ledger"}, "here": {"orders"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got := make(chan string, 2)
			r.start(routetest.Options{Tokens: wants}, func(_ context.Context, o *protocol.Open, s link.Stream) {
				got <- o.Token
				routetest.Refuse(s, protocol.AgentDenied, false)
			})
			open := openTCP()
			open.Token = "secret"
			_, _, err := r.Open(t.Context(), open, nil)
			r.wantFault(err, protocol.AgentDenied, false)
			open = openHTTP()
			open.Token = "secret"
			x := r.Exchange(open, true)
			defer x.Close()
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://orders.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = x.RoundTrip(req)
			r.wantFault(err, protocol.AgentDenied, false)
			for range 2 {
				if token := <-got; (token == "secret") != (name == "here") || token != "" && name != "here" {
					t.Errorf("the agent got %q", token)
				}
			}
			if open.Token != "secret" {
				t.Error("the call has lost its token")
			}
		})
	}
}
