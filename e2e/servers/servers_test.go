//go:build linux

package servers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
)

// call makes one HTTP request and returns the status and the body.
func call(t *testing.T, client *http.Client, method, url string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// client returns an HTTP client on the host that leaves no connection behind.
func client(t *testing.T, on Host) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: on.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestNginxServesRangesAndTakesUploads(t *testing.T) {
	here := new(Loopback)
	n := StartNginx(t, here)
	sum := n.WriteFile(t, "file", 1<<20)
	if again := n.WriteFile(t, "same", 1<<20); again != sum {
		t.Error("two files of one size differ")
	}
	c := client(t, here)
	status, whole := call(t, c, "GET", url("http", n.Addr)+"/file", nil)
	if status != 200 || len(whole) != 1<<20 {
		t.Fatalf("got %d and %d bytes", status, len(whole))
	}
	status, part := call(t, c, "GET", url("http", n.Addr)+"/file", nil, "Range", "bytes=1000-1999")
	if status != 206 || part != whole[1000:2000] {
		t.Errorf("the range: got %d and %d bytes", status, len(part))
	}
	if status, _ := call(t, c, "PUT", url("http", n.Addr)+"/upload/new", strings.NewReader(whole)); status != 201 {
		t.Errorf("the upload: got %d", status)
	}
	stored, err := os.ReadFile(filepath.Join(n.Root, "upload", "new"))
	if err != nil || !bytes.Equal(stored, []byte(whole)) {
		t.Errorf("stored %d bytes (%v)", len(stored), err)
	}
}

func TestPostgresAnswersQueries(t *testing.T) {
	p := StartPostgres(t, new(Loopback))
	psql := process.Program(t, "psql", "postgresql-client")
	out := process.Run(t, new(Loopback).Command(t.Context(), psql, "-X", "-A", "-t", p.Conn(p.Addr), "-c", "select 6*7"))
	if strings.TrimSpace(out) != "42" {
		t.Errorf("got %q", out)
	}
}

func TestMosquittoDeliversMessages(t *testing.T) {
	here := new(Loopback)
	m := StartMosquitto(t, here)
	host, port := m.Addr.Addr().String(), fmt.Sprint(m.Addr.Port())
	publish, subscribe := process.Program(t, "mosquitto_pub", "mosquitto-clients"), process.Program(t, "mosquitto_sub", "mosquitto-clients")
	// Retained, so that it does not matter who comes first.
	process.Run(t, here.Command(t.Context(), publish, "-h", host, "-p", port, "-t", "a/b", "-r", "-q", "1", "-m", "ahoy"))
	out := process.Run(t, here.Command(t.Context(), subscribe, "-h", host, "-p", port, "-t", "a/#", "-C", "1", "-W", "30"))
	if strings.TrimSpace(out) != "ahoy" {
		t.Errorf("got %q", out)
	}
}

func TestSlapdAnswersSearches(t *testing.T) {
	here := new(Loopback)
	s := StartSlapd(t, here)
	search := process.Program(t, "ldapsearch", "ldap-utils")
	out := process.Run(t, here.Command(t.Context(), search, "-x", "-LLL", "-H", url("ldap", s.Addr), "-b", s.Base, "(uid=ada)", "mail"))
	if !strings.Contains(out, "mail: ada@dc1.example") {
		t.Errorf("got %q", out)
	}
}

func TestSquidConnectsOnlyWhoKnowsThePasswordAndToOpenPorts(t *testing.T) {
	here := new(Loopback)
	open, shut := StartOrders(t, here), StartOrders(t, here)
	s := StartSquid(t, here, open.Addr.Port())
	for name, c := range map[string]struct {
		user, target string
		code         string
	}{
		"known":   {s.User + ":" + s.Password, open.Addr.String(), "200"},
		"unknown": {s.User + ":wrong", open.Addr.String(), "407"},
		"shut":    {s.User + ":" + s.Password, shut.Addr.String(), "403"},
	} {
		// curl, since Go's client sends nothing for loopback through a proxy.
		out, _ := here.Command(t.Context(), process.Program(t, "curl", "curl"), "-s", "-o", "/dev/null",
			"-w", "%{http_connect}", "--proxytunnel", "-x", url("http", s.Addr), "-U", c.user,
			url("http", open.Addr)+"/healthz", "--connect-to", "::"+c.target).Output() // the status says it all
		if string(out) != c.code {
			t.Errorf("%s: CONNECT was answered %s, want %s", name, out, c.code)
		}
	}
	if log := s.Access(t); !strings.Contains(log, "TCP_TUNNEL/200") || !strings.Contains(log, "TCP_DENIED/407") {
		t.Errorf("squid's access log:\n%s", log)
	}
}

func TestWebSocketEchoes(t *testing.T) {
	here := new(Loopback)
	w := StartWebSocket(t, here)
	conn, _, err := websocket.Dial(t.Context(), url("ws", w.Addr)+"/any", &websocket.DialOptions{HTTPClient: client(t, here)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("ahoy")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(t.Context()); err != nil || string(got) != "ahoy" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOrdersPrintsALineACall(t *testing.T) {
	here := new(Loopback)
	o := StartOrders(t, here)
	if status, body := call(t, client(t, here), "GET", url("http", o.Addr)+"/v1/orders", nil); status != 200 || !strings.Contains(body, "cleat") {
		t.Errorf("got %d %s", status, body)
	}
	// The line comes after the answer.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := o.Find(ctx, regexp.MustCompile(`GET "/v1/orders" 200`)); err != nil {
		t.Errorf("%v; it printed %q", err, o.Log())
	}
}

func TestServersRunOnTheLabsHosts(t *testing.T) {
	dc := lab.New(t, lab.Options{Path: lab.Fast}).Host("dc")
	o, p := StartOrders(t, dc), StartPostgres(t, dc)
	if status, _ := call(t, client(t, dc), "GET", url("http", o.Addr)+"/healthz", nil); status != 200 {
		t.Errorf("got %d", status)
	}
	if o.Addr.Addr() != dc.Addr() || p.Addr.Addr() != dc.Addr() {
		t.Errorf("the servers are at %s and %s, want them on %s", o.Addr, p.Addr, dc.Addr())
	}
}
