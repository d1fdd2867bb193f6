package gateway

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/policy"
	"github.com/fairlead/fairlead/relay/internal/tunnel"
)

// parties is how many are remembered: some 20 MiB.
const parties = 1 << 16

// limited asks whether the party that calls may call now. It blocks where the tunnel has a queue.
func (c *call) limited() error {
	d := c.decision
	t := d.Tunnel
	key, quota := c.party()
	if !quota.None() {
		v := c.gateway.calls.Take(key, quota, c.began)
		c.quota = &v
		if !v.OK {
			d.Rule, c.retry = policy.RuleLimits, v.Reset
			return protocol.Errorf(protocol.RateLimited, "too many calls of this %s", key.Kind)
		}
	}
	ctx := c.ctx
	retry, err := c.gateway.queues.Wait(ctx, string(t.Name), t.Spike)
	if errors.Is(err, limit.ErrSpike) {
		d.Rule, c.retry = policy.RuleLimits, retry
		return protocol.Errorf(protocol.RateLimited, "too many calls of this tunnel at once")
	}
	return err
}

// party is whose calls count together, and their quota.
func (c *call) party() (limit.Key, limit.Quota) {
	t, p := c.decision.Tunnel, c.decision.Principal
	if p.App != nil && p.App.Tier != "" {
		if quota, ok := c.gateway.cfg.Tier(p.App.Tier); ok {
			return limit.Key{Kind: string(tunnel.PerApp), Name: p.App.ID}, quota
		}
	}
	key := limit.Key{Tunnel: string(t.Name), Kind: string(t.Per)}
	switch t.Per {
	case tunnel.PerApp:
		key.Name = p.AppID()
	case tunnel.PerUser:
		key.Name = p.Issuer() + " " + p.User()
	case tunnel.PerSource:
		key.Name = limit.Source(c.source).String()
	case tunnel.PerCaller:
		if !p.Caller.IsZero() {
			key.Name = p.Caller.String()
		}
	}
	return key, t.Quota
}

// sayQuota tells the caller what is left of its quota.
func (c *call) sayQuota(h http.Header) {
	if c.quota == nil {
		return
	}
	left, policy := c.quota.Header()
	h["Ratelimit"], h["Ratelimit-Policy"] = []string{left}, []string{policy}
}

// sourceOf is where a call comes from: the connection's peer, or what the proxies say that stand in front of the relay and are
// believed. Each of them has appended the address that it was called from, so that only entries from the right count.
func sourceOf(peer netip.AddrPort, forwarded []string, proxies int) netip.Addr {
	source := peer.Addr().Unmap().WithZone("")
	if proxies == 0 || !source.IsValid() {
		return source
	}
	var entries []string
	for _, v := range forwarded {
		entries = append(entries, strings.Split(v, ",")...)
	}
	if len(entries) < proxies {
		return source // it has come around one of them
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(entries[len(entries)-proxies]))
	if err != nil {
		return source
	}
	return addr.Unmap().WithZone("")
}

// checkForm bounds the structure of a body where the tunnel asks for it. A body of another form than those that it bounds could
// be of any structure, and is refused, and so is one that is encoded.
func (c *call) checkForm(r *http.Request, body io.ReadCloser) (io.ReadCloser, error) {
	t := c.decision.Tunnel
	if t.JSON == nil && t.XML == nil {
		return body, nil
	}
	if e := r.Header["Content-Encoding"]; len(e) > 0 && !(len(e) == 1 && strings.EqualFold(e[0], "identity")) {
		return nil, protocol.Errorf(protocol.BadRequest, "a body without a content encoding is expected")
	}
	if r.ContentLength > 0 {
		body = &exact{body, r.ContentLength}
	}
	kind, params, err := mime.ParseMediaType(strings.Join(r.Header["Content-Type"], ","))
	charset := params["charset"]
	switch {
	case err != nil, charset != "" && !strings.EqualFold(charset, "utf-8"):
	case t.JSON != nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")):
		return t.JSON.Reader(body), nil
	case t.XML != nil && (kind == "application/xml" || kind == "text/xml" || strings.HasSuffix(kind, "+xml")):
		r := t.XML.Reader(body)
		c.form = r
		return r, nil
	}
	return nil, protocol.Errorf(protocol.BadRequest, "a body of JSON or XML in UTF-8 is expected, as this tunnel takes, and a content type that says so")
}

// exact says the end of a body of known length with its last byte: whoever has that many bytes reads no further, and would not
// hear what is wrong with the whole.
type exact struct {
	io.ReadCloser
	left int64
}

func (b *exact) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left <= 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// retryIn is Retry-After, in whole seconds.
func (c *call) retryIn() int64 {
	return max(retryAfter, int64((c.retry+time.Second-1)/time.Second))
}
