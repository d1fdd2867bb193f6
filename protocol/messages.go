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
	TypeOpen         Type = 16
	TypeOpened       Type = 17
)

// Message is one of *Hello, *Welcome, *TunnelStatus, *Drain, *Ping, *Pong, *Open and *Opened.
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

// Open is the first frame of a data stream, from the relay. The call's own bytes may follow at once.
type Open struct {
	Tunnel  TunnelName
	Network Network
	CallID  string // of the relay's making, joins logs, audit and answers
	Method  string // HTTP only, as in the request that follows
	Path    string // HTTP only, the request's path without query
	Caller  string // SPIFFE ID, empty on a tunnel that admits callers without one
	User    string // the token's sub
	Issuer  string // the token's iss
	Scopes  []string
	// Traceparent and Tracestate are W3C Trace Context.
	Traceparent, Tracestate string
	Timeout                 time.Duration // what is left until the answer must have begun; zero: none; milliseconds on the wire
	Grant                   []byte        // reserved: the relay's signed grant
}

// Opened answers Open. After OK the stream carries the call; after any other code it ends.
type Opened struct {
	Code     Code
	Sentence string
	Sent     bool // the backend may have seen the call
}

const maxWord = 256 // methods, scopes, software and relay names, trace identifiers

func (*Hello) frameType() Type        { return TypeHello }
func (*Welcome) frameType() Type      { return TypeWelcome }
func (*TunnelStatus) frameType() Type { return TypeTunnelStatus }
func (*Drain) frameType() Type        { return TypeDrain }
func (*Ping) frameType() Type         { return TypePing }
func (*Pong) frameType() Type         { return TypePong }
func (*Open) frameType() Type         { return TypeOpen }
func (*Opened) frameType() Type       { return TypeOpened }

func (m *Hello) append(w *writer) {
	w.uint(critical|1, uint64(m.MinVersion), 2)
	w.uint(critical|2, uint64(m.MaxVersion), 2)
	w.string(critical|3, m.Agent, MaxAgentName)
	w.uint(critical|4, m.Epoch, 8)
	w.uint(5, uint64(m.Slot), 2)
	w.string(6, m.Software, maxWord)
	for _, t := range m.Tunnels {
		w.string(critical|7, string(t), 63)
	}
}

func (m *Hello) decode(payload []byte) error {
	err := eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.MinVersion, f, 2)
		case 2:
			return true, setUint(&m.MaxVersion, f, 2)
		case 3:
			return true, setString(&m.Agent, f, MaxAgentName)
		case 4:
			return true, setUint(&m.Epoch, f, 8)
		case 5:
			return true, setUint(&m.Slot, f, 2)
		case 6:
			return true, setString(&m.Software, f, maxWord)
		case 7:
			t, err := tunnelName(f)
			m.Tunnels = append(m.Tunnels, t)
			return true, err
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if err := CheckAgentName(m.Agent); err != nil {
		return malformed("%v", err)
	}
	return nil
}

func (m *Welcome) append(w *writer) {
	w.uint(critical|1, uint64(m.Version), 2)
	w.uint(critical|2, uint64(m.Code), 2)
	w.string(3, m.Sentence, MaxSentence)
	w.string(4, m.Relay, maxWord)
	w.uint(5, millis(m.RetryAfter), 4)
	w.uint(6, uint64(m.MaxStreams), 4)
	for _, t := range m.Tunnels {
		w.nested(critical|7, func(w *writer) {
			w.string(critical|1, string(t.Name), 63)
			w.uint(critical|2, uint64(t.Code), 2)
			w.string(3, t.Sentence, MaxSentence)
		})
	}
}

func (m *Welcome) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Version, f, 2)
		case 2:
			return true, setUint(&m.Code, f, 2)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 4:
			return true, setString(&m.Relay, f, maxWord)
		case 5:
			return true, setMillis(&m.RetryAfter, f)
		case 6:
			return true, setUint(&m.MaxStreams, f, 4)
		case 7:
			var v TunnelVerdict
			err := v.decode(f.value)
			m.Tunnels = append(m.Tunnels, v)
			return true, err
		}
		return false, nil
	})
}

func (m *TunnelVerdict) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Name, err = tunnelName(f)
			return true, err
		case 2:
			return true, setUint(&m.Code, f, 2)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		}
		return false, nil
	})
	if err == nil && m.Name == "" {
		return malformed("a verdict without its tunnel's name")
	}
	return err
}

func (m *TunnelStatus) append(w *writer) {
	w.string(critical|1, string(m.Name), 63)
	w.uint(critical|2, bit(m.Up), 1)
	w.string(3, m.Sentence, MaxSentence)
}

func (m *TunnelStatus) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Name, err = tunnelName(f)
			return true, err
		case 2:
			return true, setFlag(&m.Up, f)
		case 3:
			return true, setString(&m.Sentence, f, MaxSentence)
		}
		return false, nil
	})
	if err == nil && m.Name == "" {
		return malformed("a status without its tunnel's name")
	}
	return err
}

func (m *Drain) append(w *writer) {
	w.uint(critical|1, uint64(m.Code), 2)
	w.string(2, m.Sentence, MaxSentence)
	w.uint(3, millis(m.Deadline), 4)
	w.uint(4, millis(m.RetryAfter), 4)
}

func (m *Drain) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Code, f, 2)
		case 2:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 3:
			return true, setMillis(&m.Deadline, f)
		case 4:
			return true, setMillis(&m.RetryAfter, f)
		}
		return false, nil
	})
}

func (m *Ping) append(w *writer) { w.uint(critical|1, m.Token, 8) }
func (m *Pong) append(w *writer) { w.uint(critical|1, m.Token, 8) }

func (m *Ping) decode(payload []byte) error { return decodeToken(&m.Token, payload) }
func (m *Pong) decode(payload []byte) error { return decodeToken(&m.Token, payload) }

func decodeToken(token *uint64, payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		if f.num == 1 {
			return true, setUint(token, f, 8)
		}
		return false, nil
	})
}

func (m *Open) append(w *writer) {
	w.string(critical|1, string(m.Tunnel), 63)
	w.uint(critical|2, uint64(m.Network), 1)
	w.string(critical|3, m.CallID, maxWord)
	w.string(critical|4, m.Method, maxWord)
	w.string(critical|5, m.Path, MaxPath)
	w.string(critical|6, m.Caller, MaxID)
	w.string(critical|7, m.User, MaxID)
	w.string(critical|8, m.Issuer, MaxID)
	if len(m.Scopes) > MaxScopes && w.err == nil {
		w.err = malformed("field 9: expected at most %d scopes, got %d", MaxScopes, len(m.Scopes))
	}
	for _, s := range m.Scopes {
		w.string(critical|9, s, maxWord)
	}
	w.string(10, m.Traceparent, maxWord)
	w.string(11, m.Tracestate, maxWord*2)
	w.uint(12, millis(m.Timeout), 4)
	if len(m.Grant) > 0 {
		w.bytes(critical|13, m.Grant, MaxGrant)
	}
}

func (m *Open) decode(payload []byte) error {
	err := eachField(payload, func(f field) (known bool, err error) {
		switch f.num {
		case 1:
			m.Tunnel, err = tunnelName(f)
			return true, err
		case 2:
			return true, setUint(&m.Network, f, 1)
		case 3:
			return true, setString(&m.CallID, f, maxWord)
		case 4:
			return true, setString(&m.Method, f, maxWord)
		case 5:
			return true, setString(&m.Path, f, MaxPath)
		case 6:
			return true, setString(&m.Caller, f, MaxID)
		case 7:
			return true, setString(&m.User, f, MaxID)
		case 8:
			return true, setString(&m.Issuer, f, MaxID)
		case 9:
			if len(m.Scopes) == MaxScopes {
				return true, malformed("more than %d scopes", MaxScopes)
			}
			scope, err := f.string(maxWord)
			if err == nil && scope == "" {
				err = malformed("field 9: an empty scope")
			}
			m.Scopes = append(m.Scopes, scope)
			return true, err
		case 10:
			return true, setString(&m.Traceparent, f, maxWord)
		case 11:
			return true, setString(&m.Tracestate, f, maxWord*2)
		case 12:
			return true, setMillis(&m.Timeout, f)
		case 13:
			m.Grant, err = f.bytes(MaxGrant)
			return true, err
		}
		return false, nil
	})
	switch {
	case err != nil:
		return err
	case m.Tunnel == "":
		return malformed("an Open without a tunnel")
	case m.Network != HTTP && m.Network != TCP && m.Network != UDP:
		return malformed("an Open with %v", m.Network)
	}
	return nil
}

func (m *Opened) append(w *writer) {
	w.uint(critical|1, uint64(m.Code), 2)
	w.string(2, m.Sentence, MaxSentence)
	w.uint(3, bit(m.Sent), 1)
}

func (m *Opened) decode(payload []byte) error {
	return eachField(payload, func(f field) (bool, error) {
		switch f.num {
		case 1:
			return true, setUint(&m.Code, f, 2)
		case 2:
			return true, setString(&m.Sentence, f, MaxSentence)
		case 3:
			return true, setFlag(&m.Sent, f)
		}
		return false, nil
	})
}

func setUint[T ~uint8 | ~uint16 | ~uint32 | ~uint64](dst *T, f field, size int) error {
	v, err := f.uint(size)
	*dst = T(v)
	return err
}

func setString(dst *string, f field, limit int) (err error) {
	*dst, err = f.string(limit)
	return err
}

func setFlag(dst *bool, f field) error {
	v, err := f.uint(1)
	if err == nil && v > 1 {
		return malformed("field %d: expected 0 or 1, got %d", f.num, v)
	}
	*dst = v == 1
	return err
}

func setMillis(dst *time.Duration, f field) error {
	v, err := f.uint(4)
	*dst = time.Duration(v) * time.Millisecond
	return err
}

func tunnelName(f field) (TunnelName, error) {
	t, err := ParseTunnelName(string(f.value))
	if err != nil {
		return "", malformed("%v", err)
	}
	return t, nil
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// millis rounds up, so that a short time does not become none, and saturates at 49 days.
func millis(d time.Duration) uint64 {
	return uint64(min(max(0, (d+time.Millisecond-1)/time.Millisecond), 1<<32-1))
}
