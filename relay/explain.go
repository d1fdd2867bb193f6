package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/audit"
	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/authn"
	"github.com/fairlead/fairlead/relay/internal/login"
	"github.com/fairlead/fairlead/relay/internal/policy"
)

// A Question is a call that explain judges. Who calls is taken for proved; the token is verified as ever.
type Question struct {
	Tunnel string            `json:"tunnel,omitempty"` // by its name, or
	Host   string            `json:"host,omitempty"`   // as a caller would find it
	Method string            `json:"method"`
	Path   string            `json:"path"` // with a query, or without
	Caller string            `json:"caller,omitempty"`
	App    string            `json:"app,omitempty"`
	User   string            `json:"user,omitempty"`
	Groups []string          `json:"groups,omitempty"`
	Token  string            `json:"token,omitempty"` // a secret
	Source string            `json:"source,omitempty"`
	Header map[string]string `json:"header,omitempty"`
}

// An Explanation is what was asked, one after the other, until one decided.
type Explanation struct {
	Steps   []policy.Step `json:"steps"`
	Allowed bool          `json:"allowed"`
	Code    string        `json:"code"`
	Answer  string        `json:"answer,omitempty"` // what the caller is told
	Config  string        `json:"config"`
}

// Explain judges a call by the configuration in force. It counts towards no limit, and is not recorded.
func (r *Relay) Explain(ctx context.Context, q *Question) (*Explanation, error) {
	return r.current.Load().explain(ctx, q)
}

// ExplainOffline judges a call by a configuration file, as if a relay had just read it. It fetches the issuers' keys.
func ExplainOffline(ctx context.Context, file string, q *Question) (*Explanation, error) {
	x, err := load(ctx, file, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if err := x.tokens.Refresh(ctx); err != nil {
		return nil, err
	}
	return x.explain(ctx, q)
}

// RequestExplanation asks the relay that answers on the control socket, or that of the configuration file where socket is empty.
func RequestExplanation(ctx context.Context, file, socket string, q *Question) (*Explanation, error) {
	c, err := client(file, socket)
	if err != nil {
		return nil, err
	}
	e := new(Explanation)
	return e, c.Explain(ctx, q, e)
}

// answerExplain is what the control socket answers.
func (r *Relay) answerExplain(ctx context.Context, body []byte) (any, error) {
	q := new(Question)
	if err := json.Unmarshal(body, q); err != nil {
		return nil, errors.New("expected a question in JSON")
	}
	return r.Explain(ctx, q)
}

func (x *rules) explain(ctx context.Context, q *Question) (*Explanation, error) {
	request, err := x.request(q)
	if err != nil {
		return nil, err
	}
	steps, d, err := x.gate.Explain(ctx, request)
	e := &Explanation{Steps: steps, Allowed: err == nil, Code: protocol.OK.String(), Config: d.Version}
	if err != nil {
		refusal := protocol.AsError(err)
		e.Code, e.Answer = refusal.Code.String(), refusal.Sentence
	}
	return e, nil
}

// request is the question in the gate's words.
func (x *rules) request(q *Question) (*policy.Request, error) {
	path, query, _ := strings.Cut(q.Path, "?")
	r := &policy.Request{Network: protocol.HTTP, Host: q.Host, Method: q.Method, Path: path, RawQuery: query, Scheme: "https", Header: http.Header{}, Assumed: new(policy.Assumed)}
	r.Assumed.App, r.Assumed.User, r.Assumed.Groups = q.App, q.User, q.Groups
	var err error
	if q.Caller != "" {
		if r.Assumed.Caller, err = certs.ParseID(q.Caller); err != nil {
			return nil, err
		}
	}
	if q.Source != "" {
		if r.Source, err = netip.ParseAddr(q.Source); err != nil {
			return nil, fmt.Errorf("source: expected an IP address, got %q", q.Source)
		}
	}
	for name, value := range q.Header {
		r.Header.Set(name, value)
	}
	if q.Token != "" {
		r.Header.Set("Authorization", "Bearer "+q.Token)
	}
	if q.Tunnel != "" {
		name, err := protocol.ParseTunnelName(q.Tunnel)
		if err != nil {
			return nil, err
		}
		if t, ok := x.table.Named(name); ok {
			r.Network, r.Host = t.Network, string(t.Hosts[0])
		}
		r.Tunnel = name
	}
	if q.Method == http.MethodConnect || r.Network == protocol.TCP {
		r.Network, r.Method, r.Path, r.Proxy = protocol.TCP, http.MethodConnect, "", true
		return r, nil
	}
	if _, err := url.ParseRequestURI(q.Path); err != nil {
		return nil, fmt.Errorf("path: expected one such as /v1/orders/7, got %q", q.Path)
	}
	return r, nil
}

// A Change is a call of the past that another configuration decides otherwise.
type Change struct {
	Line    *audit.Line
	Allowed bool   // now
	Code    string // now
	Rule    string
	Unsure  string // why it may be wrong; "" where it is right
}

// A Replay is what another configuration makes of recorded calls.
type Replay struct {
	Calls   int
	Unsure  int // of them, those of which the audit keeps too little
	Changes []Change
}

// ReplayAudit judges the calls of a relay's audit by a configuration file. What was proved counts as proved, and limits are not
// counted.
func ReplayAudit(ctx context.Context, file string, audits []string) (*Replay, error) {
	x, err := load(ctx, file, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	replay := new(Replay)
	for l, err := range audit.Lines(audits) {
		if err != nil {
			return nil, err
		}
		if l.Kind != audit.KindDecision || l.Rule == policy.RuleRequest || l.Rule == policy.RuleLimits {
			continue
		}
		replay.Calls++
		c, err := x.replay(l)
		if err != nil {
			return nil, err
		}
		if c.Unsure != "" {
			replay.Unsure++
		}
		if c.Allowed != (l.Decision == audit.Allow) {
			replay.Changes = append(replay.Changes, *c)
		}
	}
	return replay, nil
}

func (x *rules) replay(l *audit.Line) (*Change, error) {
	network, err := protocol.ParseNetwork(l.Network)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", l.Seq, err)
	}
	r := &policy.Request{Network: network, Host: l.Host, Method: l.Method, Path: l.Path, Scheme: "https", Header: http.Header{}}
	r.Source, _ = netip.ParseAddr(l.Source) // none at a local door
	if network == protocol.TCP {
		r.Path = ""
	}
	if l.Host == "" { // a local door
		r.Tunnel = protocol.TunnelName(l.Tunnel)
	}
	p, err := principalOf(l)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", l.Seq, err)
	}
	d, err := x.gate.Again(p, r, l.Time)
	c := &Change{Line: l, Allowed: err == nil, Code: protocol.OK.String(), Rule: d.Rule}
	if err != nil {
		c.Code = protocol.AsError(err).Code.String()
	}
	if d.Tunnel != nil {
		c.Unsure = x.gate.Unsure(d.Tunnel, l.Claims)
	}
	return c, nil
}

// principalOf is who called, as far as it was recorded.
func principalOf(l *audit.Line) (p authn.Principal, err error) {
	if l.Caller != "" {
		if p.Caller, err = certs.ParseID(l.Caller); err != nil {
			return p, err
		}
	}
	if l.App != "" {
		p.App = &authn.App{ID: l.App}
	}
	p.Second = slices.Contains(l.AMR, "otp")
	if directory, ok := strings.CutPrefix(l.Issuer, authn.DirectoryPrefix); ok {
		p.Login = &login.User{Directory: directory, Name: l.User, Groups: l.Groups}
		return p, nil
	}
	if l.Issuer != "" {
		claims := map[string]any{}
		maps.Copy(claims, l.Claims)
		if l.ACR != "" {
			claims["acr"] = l.ACR
		}
		amr := make([]any, len(l.AMR))
		for i, method := range l.AMR {
			amr[i] = method
		}
		claims["amr"] = amr
		p.Token = &bearer.Token{Issuer: l.Issuer, Subject: l.User, Scopes: l.Scopes, Claims: claims}
	}
	return p, nil
}

// PastSteps are the steps that a recorded decision has come through, as far as a record can say: those that asked before the rule
// that decided have passed.
func PastSteps(l *audit.Line) []policy.Step {
	var steps []policy.Step
	for _, rule := range policy.Order {
		if rule == l.Rule {
			break
		}
		steps = append(steps, policy.Step{Rule: rule, Passed: true})
	}
	return append(steps, policy.Step{Rule: l.Rule, Passed: l.Decision == audit.Allow, Detail: strings.TrimSpace(l.Code + " " + l.Reason)})
}
