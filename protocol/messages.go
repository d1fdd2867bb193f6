package protocol

import "time"

// Type is the first byte of a frame.
type Type uint8

// The frame types. 1 to 15 travel on the control stream, 16 and 17 open a data stream.
const (
	TypeHello        Type = 1
	TypeWelcome      Type = 2
	TypeTunnelStatus Type = 3
	TypeDrain        Type = 4
	TypePing         Type = 5
	TypePong         Type = 6
	TypeProof        Type = 7
	TypeAsk          Type = 8
	TypeAnswer       Type = 9
	TypeGrantKey     Type = 10
	TypeOpen         Type = 16
	TypeOpened       Type = 17
)

// Message is one of *Hello, *Welcome, *TunnelStatus, *Drain, *Ping, *Pong, *Proof, *Ask, *Answer, *GrantKey, *Open and *Opened.
type Message interface {
	frameType() Type
	append(*writer)
	decode(payload []byte) error
}

// Hello is the first frame of a link's control stream, from the dialling side.
type Hello struct {
	MinVersion, MaxVersion Version
	Agent                  string // the agent's name, CheckAgentName
	Epoch                  uint64 // random, one for the life of the agent's process
	Slot                   uint16 // number of this link among the agent's links to this relay address by this transport
	Software               string // name and version, for people
	Tunnels                []TunnelName
	Tokens                 []TunnelName // at which calls must bring their caller's own token
}

// Welcome answers Hello.
type Welcome struct {
	Version    Version
	Code       Code // other than OK: the link is refused, and ends
	Sentence   string
	Relay      string        // the relay's name, for people
	RetryAfter time.Duration // with a refusal: when to come back; milliseconds on the wire
	MaxStreams uint32        // streams the relay will keep open at once on this link
	Tunnels    []TunnelVerdict
	GrantKey   *GrantKey // the relay's; nil with a refusal
}

// GrantKey says by which key the relay signs grants. In Welcome, and, where an SVID was renewed, at any time after it.
// Package certs/grant makes and checks it.
type GrantKey struct {
	Chain     [][]byte // DER, the leaf first
	Key       []byte
	Signature []byte
}

// TunnelVerdict says whether the agent may serve one tunnel it offered.
type TunnelVerdict struct {
	Name     TunnelName
	Code     Code // OK: accepted
	Sentence string
}

// TunnelStatus tells the relay, at any time after Welcome, whether a tunnel's backend answers.
type TunnelStatus struct {
	Name     TunnelName
	Up       bool
	Sentence string
}

// Drain says that the sender will end this link: no new streams; running ones end within Deadline.
type Drain struct {
	Code       Code
	Sentence   string
	Deadline   time.Duration // milliseconds on the wire
	RetryAfter time.Duration // when to dial this address again; milliseconds on the wire
}

// Ping asks for a Pong with the same token.
type Ping struct{ Token uint64 }

// Pong answers Ping.
type Pong struct{ Token uint64 }

// Proof shows, at any time after Welcome, that the sender holds the key of a newer SVID of the same identity. Package
// certs makes and checks it.
type Proof struct {
	Chain     [][]byte // DER, the leaf first
	Signature []byte
}

// Ask is a request to the authority behind the relay, which carries it unread. On the control stream it may be sent at any
// time after Welcome.
type Ask struct {
	Number  uint32 // of the sender's, for the answer
	Request []byte // at most MaxRequest bytes
}

// Answer answers an Ask.
type Answer struct {
	Number   uint32
	Code     Code // other than OK: the authority was not asked, or has not answered
	Sentence string
	Answer   []byte // at most MaxAnswer bytes
}

// Open is the first frame of a data stream, from the relay. The call's own bytes may follow at once.
type Open struct {
	Tunnel  TunnelName
	Network Network
	CallID  string // of the relay's making, joins logs, audit and answers
	Method  string // HTTP only, as in the request that follows
	Path    string // HTTP only, the request's path without query
	Source  string // where the caller is, ip:port; "" where that is not known
	// Traceparent and Tracestate are W3C Trace Context.
	Traceparent, Tracestate string
	Timeout                 time.Duration // what is left until the answer must have begun; zero: none; milliseconds on the wire
	Grant                   []byte        // who calls: the relay's signed grant, which package certs/grant makes and checks
	Token                   string        // the caller's own token, at tunnels for which Hello asks for it; a secret
}

// Opened answers Open. After OK the stream carries the call; after any other code it ends.
type Opened struct {
	Code     Code
	Sentence string
	Sent     bool // the backend may have seen the call
}

const (
	maxWord      = 256  // methods, software and relay names, trace identifiers
	maxSignature = 1024 // an RSA key's of 8,192 bits
)

func (*Hello) frameType() Type        { return TypeHello }
func (*Welcome) frameType() Type      { return TypeWelcome }
func (*TunnelStatus) frameType() Type { return TypeTunnelStatus }
func (*Drain) frameType() Type        { return TypeDrain }
func (*Ping) frameType() Type         { return TypePing }
func (*Pong) frameType() Type         { return TypePong }
func (*Proof) frameType() Type        { return TypeProof }
func (*Ask) frameType() Type          { return TypeAsk }
func (*Answer) frameType() Type       { return TypeAnswer }
func (*GrantKey) frameType() Type     { return TypeGrantKey }
func (*Open) frameType() Type         { return TypeOpen }
func (*Opened) frameType() Type       { return TypeOpened }
