package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew from the messages below")

// vector is one line of testdata/vectors.json: a frame's bytes in hex.
type vector struct {
	Name string `json:"name"`
	Hex  string `json:"hex"`
}

type namedMessage struct {
	name string
	m    Message
}

// golden are the messages behind the vectors, in the file's order.
func golden() []namedMessage {
	return []namedMessage{
		{"hello", &Hello{MinVersion: 1, MaxVersion: 1, Agent: "dc1-a", Epoch: 0x0102030405060708, Slot: 1,
			Software: "fairlead-agent/1.0.0", Tunnels: []TunnelName{"orders", "ledger"}, Tokens: []TunnelName{"ledger"}}},
		{"hello_minimal", &Hello{MinVersion: 1, MaxVersion: 1, Agent: "a"}},
		{"welcome", &Welcome{Version: 1, Relay: "relay-a", MaxStreams: 2000, Tunnels: []TunnelVerdict{
			{Name: "orders"}, {Name: "ledger", Code: TunnelNotOwned, Sentence: "this identity may not serve it"}},
			GrantKey: &GrantKey{Chain: [][]byte{{1, 2, 3}}, Key: []byte{4, 5}, Signature: []byte{6, 7, 8}}}},
		{"welcome_refused", &Welcome{Code: IdentityBanned, Sentence: "banned", RetryAfter: 30 * time.Second}},
		{"tunnel_status_up", &TunnelStatus{Name: "orders", Up: true}},
		{"tunnel_status_down", &TunnelStatus{Name: "orders", Sentence: "backend does not answer"}},
		{"drain", &Drain{Code: Draining, Sentence: "restart", Deadline: time.Minute, RetryAfter: 500 * time.Millisecond}},
		{"ping", &Ping{Token: 0xdeadbeef}},
		{"pong", &Pong{Token: 0xdeadbeef}},
		{"proof", &Proof{Chain: [][]byte{{1, 2, 3}, {4, 5}}, Signature: []byte{6, 7, 8}}},
		{"grant_key", &GrantKey{Chain: [][]byte{{1, 2, 3}, {4, 5}}, Key: []byte{6, 7}, Signature: []byte{8, 9}}},
		{"ask", &Ask{Number: 7, Request: []byte("{}")}},
		{"answer", &Answer{Number: 7, Answer: []byte("{}")}},
		{"answer_refused", &Answer{Number: 8, Code: IdentityUnavailable, Sentence: "no authority is configured here"}},
		{"open_http", &Open{Tunnel: "orders", Network: HTTP, CallID: "k3q7", Method: "GET", Path: "/v1/orders/7",
			Grant: []byte("e30.e30.AA"), Token: "e30.e30.BB", Source: "192.0.2.1:4711",
			Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Tracestate: "a=b", Timeout: 30 * time.Second}},
		{"open_tcp_with_grant", &Open{Tunnel: "ledger", Network: TCP, CallID: "k3q8", Grant: []byte{1, 2, 3}}},
		{"opened", &Opened{}},
		{"opened_refused", &Opened{Code: AgentDenied, Sentence: "the agent's rules do not allow this path"}},
		{"opened_failed_late", &Opened{Code: BackendTimeout, Sentence: "no answer in time", Sent: true}},
	}
}

func TestGoldenVectorsStayAsTheyAre(t *testing.T) {
	const file = "testdata/vectors.json"
	if *update {
		var vs []vector
		for _, g := range golden() {
			b, err := Append(nil, g.m)
			if err != nil {
				t.Fatal(err)
			}
			vs = append(vs, vector{g.name, hex.EncodeToString(b)})
		}
		b, _ := json.MarshalIndent(vs, "", "  ")
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	vs := readVectors(t)
	if len(vs) != len(golden()) {
		t.Fatalf("%d vectors for %d messages", len(vs), len(golden()))
	}
	for i, g := range golden() {
		want, err := hex.DecodeString(vs[i].Hex)
		if err != nil || vs[i].Name != g.name {
			t.Fatalf("vector %d: %q, %v; expected %q", i, vs[i].Name, err, g.name)
		}
		got, err := Append(nil, g.m)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: encoded %x, %v; expected %x", g.name, got, err, want)
		}
		m, err := readAny(want)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
		} else if diff := cmp.Diff(g.m, m); diff != "" {
			t.Errorf("%s: decoded differs (-want +got):\n%s", g.name, diff)
		}
	}
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

// readAny reads one frame of any type and insists that nothing is left behind it.
func readAny(b []byte) (Message, error) {
	r := bytes.NewReader(b)
	var m Message
	var err error
	switch {
	case len(b) > 0 && Type(b[0]) == TypeOpen:
		m, err = ReadOpen(r)
	case len(b) > 0 && Type(b[0]) == TypeOpened:
		m, err = ReadOpened(r)
	default:
		m, err = ReadControl(r)
	}
	if err == nil && r.Len() > 0 {
		return m, malformed("%d bytes behind the frame", r.Len())
	}
	return m, err
}
