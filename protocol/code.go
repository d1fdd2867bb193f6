package protocol

import (
	"errors"
	"fmt"
)

// Code says why a call or a registration was refused or ended. Its name is the same word on the wire's logs, metrics
// and answers; its number crosses the wire. Numbers and names are promises: they are added, never reused.
type Code uint16

// The codes. Zero is success and never an error.
const (
	OK Code = 0

	// Said to callers.
	BadRequest          Code = 1
	MethodNotAllowed    Code = 2
	HeadersTooLarge     Code = 3
	UpgradeRefused      Code = 4
	TokenMissing        Code = 5
	TokenInvalid        Code = 6
	MFARequired         Code = 7
	CallerUnknown       Code = 8
	CallerDenied        Code = 9
	ScopeMissing        Code = 10
	Denied              Code = 11
	SourceDenied        Code = 12
	AgentDenied         Code = 13
	UnknownTunnel       Code = 14
	RequestTimeout      Code = 15
	BodyTooLarge        Code = 16
	RateLimited         Code = 17
	Overloaded          Code = 18
	StreamLimit         Code = 19
	NoAgent             Code = 20
	Draining            Code = 21
	IdentityUnavailable Code = 22
	PolicyUnavailable   Code = 23
	AuditUnavailable    Code = 24
	PresenceUnavailable Code = 25
	BackendRefused      Code = 26
	BackendUnreachable  Code = 27
	BackendTLS          Code = 28
	BackendProtocol     Code = 29
	BackendTimeout      Code = 30
	LinkLost            Code = 31
	Internal            Code = 32
	CredentialsMissing  Code = 33
	CredentialsInvalid  Code = 34

	// Said to agents.
	TunnelNotOwned      Code = 64
	VersionUnsupported  Code = 65
	IdentityBanned      Code = 66
	IdentityExpired     Code = 67
	DuplicateAgent      Code = 68
	RegistrationTimeout Code = 69
	SessionLimit        Code = 70
	IdentityRevoked     Code = 71

	// Said when a stream is reset without a fault.
	Canceled Code = 96 // the other side went away, or needs no more of it
)

var codeNames = map[Code]string{
	OK: "ok", BadRequest: "bad_request", MethodNotAllowed: "method_not_allowed", HeadersTooLarge: "headers_too_large",
	UpgradeRefused: "upgrade_refused", TokenMissing: "token_missing", TokenInvalid: "token_invalid",
	MFARequired: "mfa_required", CallerUnknown: "caller_unknown", CallerDenied: "caller_denied",
	ScopeMissing: "scope_missing", Denied: "denied", SourceDenied: "source_denied", AgentDenied: "agent_denied",
	UnknownTunnel: "unknown_tunnel", RequestTimeout: "request_timeout", BodyTooLarge: "body_too_large",
	RateLimited: "rate_limited", Overloaded: "overloaded", StreamLimit: "stream_limit", NoAgent: "no_agent",
	Draining: "draining", IdentityUnavailable: "identity_unavailable", PolicyUnavailable: "policy_unavailable",
	AuditUnavailable: "audit_unavailable", PresenceUnavailable: "presence_unavailable",
	BackendRefused: "backend_refused", BackendUnreachable: "backend_unreachable", BackendTLS: "backend_tls",
	BackendProtocol: "backend_protocol", BackendTimeout: "backend_timeout", LinkLost: "link_lost",
	Internal: "internal", CredentialsMissing: "credentials_missing", CredentialsInvalid: "credentials_invalid", TunnelNotOwned: "tunnel_not_owned", VersionUnsupported: "version_unsupported",
	IdentityBanned: "identity_banned", IdentityExpired: "identity_expired", DuplicateAgent: "duplicate_agent",
	RegistrationTimeout: "registration_timeout", SessionLimit: "session_limit",
	IdentityRevoked: "identity_revoked", Canceled: "canceled",
}

// String returns the code's name; a number that this version does not know prints as "code_N".
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("code_%d", uint16(c))
}

// Error is a coded refusal. Sentence is safe to show to whoever receives the code; the detail of the inside belongs
// in Cause, which is logged and never crosses the wire.
type Error struct {
	Code     Code
	Sentence string
	// Sent says whether the backend may have seen the call. False is a promise that it did not, so that the call
	// may be tried elsewhere; it is the zero value because most refusals come from before.
	Sent  bool
	Cause error
}

// Errorf makes a refusal from before the backend was touched.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// WithCause returns a copy of e that carries what is logged but never sent.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

func (e *Error) Error() string {
	s := e.Code.String()
	if e.Sentence != "" {
		s += ": " + e.Sentence
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, &Error{Code: c}) match by code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Sentence == "" && t.Cause == nil
}

// AsError returns err as a coded refusal; what carries no code becomes Internal, with err as its cause and Sent set,
// since nothing is known of how far it came.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: Internal, Sentence: "internal error", Sent: true, Cause: err}
}
