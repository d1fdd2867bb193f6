// Package protocol is what crosses the wire between an agent and a relay: the messages, their encoding, the versions,
// the size limits and the error codes. SPEC.md is the normative text; testdata/vectors.json holds the golden vectors.
//
// It does no I/O of its own beyond reading one frame from a reader, keeps no state, and knows nothing of transports,
// identities or policies.
package protocol

import (
	"errors"
	"fmt"
)

// ALPN protocol names (RFC 7301). Whatever else a client offers makes it a caller.
const (
	ALPN       = "fairlead/1"        // an agent's link: both sides show an SVID
	ALPNLane   = "fairlead-lane/1"   // one lane of an agent's: both sides show an SVID
	ALPNEnroll = "fairlead-enroll/1" // questions to the authority behind a relay: the relay alone shows one
)

// Version is a protocol version, negotiated in Hello and Welcome.
type Version uint16

// The versions this code speaks.
const (
	MinVersion Version = 1
	MaxVersion Version = 1
)

// Negotiate returns the highest version that both this code and a peer offering [lowest, highest] speak, or a
// VersionUnsupported error that names both ranges.
func Negotiate(lowest, highest Version) (Version, error) {
	v := min(highest, MaxVersion)
	if lowest > highest || v < MinVersion || v < lowest {
		return 0, Errorf(VersionUnsupported, "peer speaks protocol versions %d to %d, this side %d to %d",
			lowest, highest, MinVersion, MaxVersion)
	}
	return v, nil
}

// Size limits, in bytes unless said otherwise. A length is checked against them before anything is allocated for it.
const (
	MaxControlPayload = 16 << 10 // Hello, TunnelStatus, Drain
	MaxWelcomePayload = 40 << 10 // verdicts as of 16 KiB, and a grant key
	MaxPingPayload    = 64
	MaxProofPayload   = 20 << 10 // a chain of 16 KiB, and its signature
	MaxAskPayload     = 33 << 10 // MaxRequest and a header
	MaxRequest        = 32 << 10
	MaxAnswerPayload  = 257 << 10 // MaxAnswer, its pieces' headers and a sentence
	MaxAnswer         = 256 << 10
	MaxOpenPayload    = 40 << 10
	MaxOpenedPayload  = 1 << 10
	MaxSentence       = 512
	MaxAgentName      = 63
	MaxID             = 2048 // a SPIFFE ID (SPIFFE-ID §2.3)
	MaxPath           = 8 << 10
	MaxGrant          = 16 << 10
	MaxToken          = 8 << 10
)

// ErrMalformed is wrapped by every decoding error: the peer broke the protocol, so the stream (or, on the control
// stream, the link) ends.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// TunnelName names a tunnel on both sides: 1 to 63 of a-z, 0-9 and '-'. The zero value is no name; only
// ParseTunnelName makes valid ones.
type TunnelName string

// ParseTunnelName checks s against the grammar [a-z0-9-]{1,63}.
func ParseTunnelName(s string) (TunnelName, error) {
	if err := checkName(s); err != nil {
		return "", fmt.Errorf("tunnel name: %w", err)
	}
	return TunnelName(s), nil
}

// CheckAgentName checks an agent's name: 1 to 63 of a-z, 0-9, '-' and '.'.
func CheckAgentName(s string) error {
	if s == "" || len(s) > MaxAgentName {
		return fmt.Errorf("agent name: expected 1 to %d characters, got %d", MaxAgentName, len(s))
	}
	for i := range len(s) {
		if c := s[i]; c != '.' && !nameByte(c) {
			return fmt.Errorf("agent name: expected only a-z, 0-9, '-' and '.', got %q at %d", c, i)
		}
	}
	return nil
}

func checkName(s string) error {
	if s == "" || len(s) > 63 {
		return fmt.Errorf("expected 1 to 63 characters, got %d", len(s))
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return fmt.Errorf("expected only a-z, 0-9 and '-', got %q at %d", s[i], i)
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}

// Network says what a stream carries.
type Network uint8

// The networks.
const (
	HTTP Network = 1 // one HTTP/1.1 exchange
	TCP  Network = 2 // one TCP connection's bytes
	UDP  Network = 3 // one UDP flow, in capsules
)

func (n Network) String() string {
	switch n {
	case HTTP:
		return "http"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("network(%d)", uint8(n))
}

// ParseNetwork reads "http", "tcp" or "udp".
func ParseNetwork(s string) (Network, error) {
	for _, n := range []Network{HTTP, TCP, UDP} {
		if n.String() == s {
			return n, nil
		}
	}
	return 0, fmt.Errorf("expected http, tcp or udp, got %q", s)
}
