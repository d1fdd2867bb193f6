package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/fairlead/fairlead/protocol"
)

// says is how a code is said over HTTP: its status, and its error type of RFC 9209 §2.3.
type says struct {
	status int
	proxy  string
}

// table is the one of design §5.
var table = map[protocol.Code]says{
	protocol.BadRequest:          {400, "http_request_error"},
	protocol.MethodNotAllowed:    {405, "http_request_error"},
	protocol.HeadersTooLarge:     {431, "http_request_error"},
	protocol.UpgradeRefused:      {501, "http_upgrade_failed"},
	protocol.TokenMissing:        {401, "http_request_denied"},
	protocol.TokenInvalid:        {401, "http_request_denied"},
	protocol.MFARequired:         {401, "http_request_denied"},
	protocol.CredentialsMissing:  {401, "http_request_denied"},
	protocol.CredentialsInvalid:  {401, "http_request_denied"},
	protocol.CallerUnknown:       {403, "http_request_denied"},
	protocol.CallerDenied:        {403, "http_request_denied"},
	protocol.ScopeMissing:        {403, "http_request_denied"},
	protocol.Denied:              {403, "http_request_denied"},
	protocol.SourceDenied:        {403, "http_request_denied"},
	protocol.AgentDenied:         {403, "http_request_denied"},
	protocol.UnknownTunnel:       {404, "destination_not_found"},
	protocol.RequestTimeout:      {408, "http_request_error"},
	protocol.BodyTooLarge:        {413, "http_request_error"},
	protocol.RateLimited:         {429, "connection_limit_reached"},
	protocol.Overloaded:          {503, "connection_limit_reached"},
	protocol.StreamLimit:         {503, "connection_limit_reached"},
	protocol.NoAgent:             {503, "destination_unavailable"},
	protocol.Draining:            {503, "destination_unavailable"},
	protocol.IdentityUnavailable: {503, "proxy_internal_error"},
	protocol.PolicyUnavailable:   {503, "proxy_internal_error"},
	protocol.AuditUnavailable:    {503, "proxy_internal_error"},
	protocol.PresenceUnavailable: {503, "proxy_internal_error"},
	protocol.BackendRefused:      {502, "destination_ip_prohibited"},
	protocol.BackendUnreachable:  {502, "connection_refused"},
	protocol.BackendTLS:          {502, "tls_protocol_error"},
	protocol.BackendProtocol:     {502, "http_protocol_error"},
	protocol.BackendTimeout:      {504, "http_response_timeout"},
	protocol.LinkLost:            {502, "connection_terminated"},
	protocol.Internal:            {500, "proxy_internal_error"},
}

// retryAfter is in seconds: long enough to keep a herd off, short enough for an agent's redial, which takes a second.
const retryAfter = 1

// problem is the problem document (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	CallID string `json:"call_id"`
	Sent   string `json:"sent"` // no: the backend has not seen the call; maybe: it may have
}

// refuse ends the call with an error, and logs it once. Nothing has been written to w.
func (c *call) refuse(w http.ResponseWriter, err error) {
	end := c.ended(err)
	e, said := end.err, end.says
	h := w.Header()
	c.mark(h)
	h.Set("Proxy-Status", fmt.Sprintf(`fairlead; error=%s; details=%q; call_id=%q`, said.proxy, e.Code, c.id))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	c.challenge(h, &said)
	c.sayQuota(h)
	switch {
	case said.status == http.StatusServiceUnavailable || said.status == http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.FormatInt(c.retryIn(), 10))
	case e.Code == protocol.MethodNotAllowed && c.network == protocol.TCP:
		h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	case e.Code == protocol.MethodNotAllowed:
		h.Set("Allow", "CONNECT")
	}
	doc, err := json.Marshal(problem{
		Type: "urn:fairlead:error:" + e.Code.String(), Title: http.StatusText(said.status), Status: said.status,
		Code: e.Code.String(), Detail: e.Sentence, CallID: c.id, Sent: sent(e),
	})
	if err != nil { // strings and a number: it cannot be
		panic(err)
	}
	h.Set("Content-Length", strconv.Itoa(len(doc)))
	w.WriteHeader(said.status)
	_, _ = w.Write(doc) // where it fails the caller is gone
}

// ending is how a call ended: the coded error, and what that says to the caller.
type ending struct {
	err  *protocol.Error
	says says
}

// ended notes how the call ended and logs it. A code that is not for callers becomes internal.
func (c *call) ended(err error) ending {
	e := protocol.AsError(err)
	said, ok := table[e.Code]
	if !ok {
		e = &protocol.Error{Code: protocol.Internal, Sentence: "internal error", Sent: e.Sent, Cause: err}
		said = table[protocol.Internal]
	}
	c.code, c.done = e.Code, true
	level := slog.LevelInfo
	switch {
	case e.Code == protocol.Internal:
		level = slog.LevelError
	case said.status >= 500 && e.Code != protocol.UpgradeRefused:
		level = slog.LevelWarn
	}
	c.log(level, "call refused", slog.Int("status", said.status), slog.String("sent", sent(e)), slog.Any("error", e))
	return ending{e, said}
}

// log writes the call's one line.
func (c *call) log(level slog.Level, message string, attrs ...slog.Attr) {
	if !c.gateway.log.Enabled(context.Background(), level) {
		return
	}
	all := []slog.Attr{
		slog.String("call_id", c.id), slog.String("code", c.code.String()), slog.String("tunnel", string(c.tunnelName())),
		slog.String("network", c.network.String()), slog.String("rule", c.decision.Rule),
	}
	if p := c.decision.Principal; !p.Caller.IsZero() {
		all = append(all, slog.String("caller", p.Caller.String()))
	}
	if c.proof.Source.IsValid() {
		all = append(all, slog.String("source", c.proof.Source.String()))
	}
	if c.in != nil { // a method and a host are the caller's words: cut, so that a line stays a line
		all = append(all, slog.String("method", cut(c.in.Method)), slog.String("host", cut(c.in.Host)))
	}
	//nolint:sloglint // one place for all of a call's lines; each caller passes a constant
	c.gateway.log.LogAttrs(context.Background(), level, message, append(all, attrs...)...)
}

func cut(s string) string { return s[:min(len(s), 256)] }

// mark puts the call's id on an answer.
func (c *call) mark(h http.Header) { h["Fairlead-Call-Id"] = []string{c.id} }

// challenge says which credentials are wanted, in the words of the decision; a proxy says it in its own.
func (c *call) challenge(h http.Header, said *says) {
	challenges := c.decision.Challenges
	if len(challenges) == 0 {
		return
	}
	name := "WWW-Authenticate"
	if c.network == protocol.TCP {
		name = "Proxy-Authenticate"
		if said.status == http.StatusUnauthorized {
			said.status = http.StatusProxyAuthRequired
		}
	}
	h[name] = challenges
}

func sent(e *protocol.Error) string {
	if e.Sent {
		return "maybe"
	}
	return "no"
}
