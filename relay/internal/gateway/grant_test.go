package gateway

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/grant"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

func TestACallBringsTheGrantOfItsPrincipal(t *testing.T) {
	r := newRig(t, nil)
	got := make(chan *protocol.Open, 1)
	r.serve(func(_ context.Context, o *protocol.Open, s link.Stream) {
		got <- o
		routetest.Refuse(s, protocol.AgentDenied, false)
	})
	req := r.request("GET", "secured", "/", nil)
	req.Header.Set("Authorization", "Bearer "+goodToken)
	r.do(req)
	if o := <-got; string(o.Grant) != "secured "+caller+" alice" || o.Token != "" {
		t.Errorf("grant %q, token %q", o.Grant, o.Token)
	}
}

// counting counts what is signed.
type counting struct{ n atomic.Int64 }

func (c *counting) Sign(g *grant.Grant, now time.Time) ([]byte, error) {
	c.n.Add(1)
	return words{}.Sign(g, now)
}

func TestAGrantIsSignedOncePerPrincipalAndHalfMinute(t *testing.T) {
	signer := new(counting)
	g, now, token := newGrants(signer), time.Now(), &bearer.Token{Subject: "alice"}
	of := func(tunnel protocol.TunnelName, p authn.Principal, after time.Duration) {
		t.Helper()
		if _, err := g.of(tunnel, p, now.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	of("orders", authn.Principal{Token: token}, 0)
	of("orders", authn.Principal{Token: token}, grantFor-time.Second)
	if n := signer.n.Load(); n != 1 {
		t.Errorf("%d were signed, expected 1", n)
	}
	of("orders", authn.Principal{Token: token}, grantFor)
	of("ledger", authn.Principal{Token: token}, grantFor)
	of("orders", authn.Principal{Token: &bearer.Token{Subject: "alice"}}, grantFor)
	of("orders", authn.Principal{}, grantFor)
	if n := signer.n.Load(); n != 5 {
		t.Errorf("%d were signed, expected 5", n)
	}
	for range 2*grantsKept + 10 {
		of("orders", authn.Principal{Token: new(bearer.Token)}, 0)
	}
	if len(g.young) > grantsKept || len(g.old) > grantsKept {
		t.Errorf("%d and %d grants are kept, at most %d of each are expected", len(g.young), len(g.old), grantsKept)
	}
}
