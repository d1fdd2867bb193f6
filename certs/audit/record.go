package audit

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kinds of records.
const (
	KindBegin      = "begin"      // the first line of a file: the writer and what it continues
	KindDecision   = "decision"   // a call was let through or refused
	KindEnd        = "end"        // a call that was let through has ended
	KindAgent      = "agent"      // an agent was let in, refused or cut off
	KindConfig     = "config"     // the configuration in force is another one
	KindRecovered  = "recovered"  // what stood behind the last whole line was removed
	KindCheckpoint = "checkpoint" // everything before it, signed
)

// The words of Record.Decision.
const (
	Allow = "allow"
	Deny  = "deny"
)

// A Record is one line. Which fields are there depends on its kind; an empty one is left out. No field holds a credential
// or a part of a body: what goes in is named here and nothing else does.
type Record struct {
	Kind   string `json:"kind"`
	CallID string `json:"call_id,omitempty"` // the same in the relay's record and the agent's

	Tunnel  string `json:"tunnel,omitempty"`
	Network string `json:"network,omitempty"`
	Method  string `json:"method,omitempty"`
	Host    string `json:"host,omitempty"`
	Path    string `json:"path,omitempty"` // as it was sent, without the query
	Source  string `json:"source,omitempty"`

	Caller string         `json:"caller,omitempty"` // SPIFFE ID
	App    string         `json:"app,omitempty"`
	User   string         `json:"user,omitempty"`
	Issuer string         `json:"issuer,omitempty"`
	Scopes []string       `json:"scopes,omitempty"`
	Groups []string       `json:"groups,omitempty"`
	ACR    string         `json:"acr,omitempty"`
	AMR    []string       `json:"amr,omitempty"`
	Claims map[string]any `json:"claims,omitempty"` // those that the configuration names

	Decision string `json:"decision,omitempty"`
	Rule     string `json:"rule,omitempty"` // which one decided
	Code     string `json:"code,omitempty"`
	Reason   string `json:"reason,omitempty"` // what the caller was told
	Config   string `json:"config,omitempty"` // the configuration by which: the beginning of its SHA-256

	Peer     string `json:"peer,omitempty"` // SPIFFE ID of the agent, in the agent's records of the relay
	Status   int    `json:"status,omitempty"`
	Sent     bool   `json:"sent,omitempty"` // the backend may have seen the call
	Up       int64  `json:"bytes_up,omitempty"`
	Down     int64  `json:"bytes_down,omitempty"`
	Duration int64  `json:"duration_ms,omitempty"`

	Chain     [][]byte `json:"chain,omitempty"` // of a checkpoint's signer: DER, the leaf first
	Signature []byte   `json:"signature,omitempty"`
}

// A Line is a record as it stands in the file.
type Line struct {
	Seq  uint64    `json:"seq"`  // of the first line that was ever written 1, then one more each
	Time time.Time `json:"time"` // of the writer's clock
	Prev string    `json:"prev"` // base64url of the SHA-256 of the line before, without its end; "" of the first
	Record
}

// Bounds, in bytes: of a text that a stranger chose, and of a line.
const (
	maxText = 1 << 10
	maxLine = 64 << 10
)

// bounded cuts what a stranger may have made long, so that a line stays one.
func (r Record) bounded() Record {
	for _, s := range []*string{&r.CallID, &r.Tunnel, &r.Method, &r.Host, &r.Path, &r.Source, &r.User, &r.Issuer, &r.App, &r.ACR, &r.Reason} {
		if len(*s) > maxText {
			*s = (*s)[:maxText] + "…"
		}
	}
	for _, list := range []*[]string{&r.Scopes, &r.Groups, &r.AMR} {
		*list = (*list)[:min(len(*list), 64)]
	}
	return r
}

// appendLine appends a line with its end.
func appendLine(b []byte, seq uint64, at time.Time, prev string, r *Record) ([]byte, error) {
	body, err := json.Marshal(r.bounded())
	if err != nil {
		return b, err
	}
	start := len(b)
	b = fmt.Appendf(b, `{"seq":%d,"time":"%s","prev":"%s",`, seq, stamp(at), prev)
	b = append(append(b, body[1:]...), '\n')
	if len(b)-start > maxLine {
		return b[:start], fmt.Errorf("a record of at most %d bytes is expected, got %d", maxLine, len(b)-start)
	}
	return b, nil
}
