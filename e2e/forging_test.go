//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// only are the headers that the backend believes, with what is the relay's word for these calls.
var only = map[string]string{
	"Fairlead-Caller": billingID, "Fairlead-Tunnel": "go", "X-Forwarded-Host": "go.dc1.example", "X-Forwarded-For": "127.0.0.1",
	"X-Forwarded-Proto": "https",
}

// wantOnlyTheRelaysWord checks a request that reached the backend.
func wantOnlyTheRelaysWord(t *testing.T, s *seen) {
	t.Helper()
	for _, r := range s.take() {
		for name, want := range only {
			if got := r.Header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s: %s is %q, want %q alone", r.RequestURI, name, got, want)
			}
		}
		for name, values := range r.Header {
			if strings.Contains(fmt.Sprint(name, values), "forged") {
				t.Errorf("%s: the backend got %s: %q", r.RequestURI, name, values)
			}
		}
		for name, values := range r.Trailer {
			if strings.Contains(fmt.Sprint(name, values), "forged") {
				t.Errorf("%s: the backend got the trailer %s: %q", r.RequestURI, name, values)
			}
		}
	}
}

// forged are headers that would speak as the relay.
var forged = []string{
	"Fairlead-Caller", "fairlead_caller", "FAIRLEAD-CALLER", "Fairlead_Tunnel", "Fairlead-Call-Id", "X-Forwarded-For", "X_Forwarded_For",
	"X-Forwarded-Client-Cert", "X-Real-IP", "X_Real_IP", "Forwarded", "Txn-Token", "Txn_Token", "Proxy-Authorization", "Http2-Settings",
}

func TestOnlyTheRelaysWordReachesARealBackend(t *testing.T) { // W02, W03, W04
	backend := startSeen(t)
	s := startSite(t, options{}, tunnel{name: "go", backend: backend.URL})
	head := "Host: go.dc1.example\r\nAuthorization: Bearer " + s.token(t, "go.use") + "\r\n"
	var lines, trailers strings.Builder
	for _, name := range forged {
		fmt.Fprintf(&lines, "%s: forged\r\n%s: forged\r\n", name, name)
		fmt.Fprintf(&trailers, "%s: forged\r\n", name)
	}
	for what, request := range map[string]string{
		"headers":            "GET /headers HTTP/1.1\r\n" + head + lines.String() + "\r\n",
		"connection":         "GET /connection HTTP/1.1\r\n" + head + "Connection: close, Fairlead-Caller, Fairlead-Tunnel, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded, Host\r\n\r\n",
		"announced trailers": "POST /announced HTTP/1.1\r\n" + head + "Trailer: " + strings.Join(append(forged, "Authorization"), ", ") + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + trailers.String() + "Authorization: forged\r\n\r\n",
		"other trailers":     "POST /other HTTP/1.1\r\n" + head + "Trailer: X-Good\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Good: 1\r\n" + trailers.String() + "Authorization: forged\r\n\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			if status := s.raw(t, request); status != 200 {
				t.Errorf("answered %d", status)
			}
			wantOnlyTheRelaysWord(t, backend)
		})
	}
}

// field is one of an HTTP/2 header, as it is to be on the wire.
type field struct{ name, value string }

const canaryLines = "x\r\nFairlead-Caller: forged\r\n\r\nGET /canary HTTP/1.1\r\nHost: go.dc1.example\r\n\r\n"

func TestHTTP2CarriesNothingThatHTTP1WouldReadOtherwise(t *testing.T) { // W01, W03
	backend := startSeen(t)
	s := startSite(t, options{}, tunnel{name: "go", backend: backend.URL})
	token := s.token(t, "go.use")
	usual := func(path string) []field {
		return []field{{":method", "POST"}, {":scheme", "https"}, {":authority", "go.dc1.example"}, {":path", path}, {"authorization", "Bearer " + token}}
	}
	with := func(more ...field) []field { return append(usual("/"), more...) }
	set := func(name, value string) []field {
		all := usual("/")
		for i := range all {
			if all[i].name == name {
				all[i].value = value
			}
		}
		return all
	}
	cases := map[string][]field{
		"line break in a value":      with(field{"x", canaryLines}),
		"bare LF in a value":         with(field{"x", "a\nFairlead-Caller: forged"}),
		"bare CR in a value":         with(field{"x", "a\rb"}),
		"NUL in a value":             with(field{"x", "a\x00b"}),
		"line break in a name":       with(field{"x: y\r\nfairlead-caller", "forged"}),
		"colon in a name":            with(field{"fairlead-caller: forged", "x"}),
		"space in a name":            with(field{"content-length ", "100"}),
		"capitals":                   with(field{"Fairlead-Caller", "forged"}),
		"line break in the path":     set(":path", "/ HTTP/1.1\r\nX: "+canaryLines),
		"space in the path":          set(":path", "/ HTTP/1.1"),
		"another form of path":       set(":path", "https://elsewhere/canary"),
		"no path":                    set(":path", ""),
		"asterisk":                   set(":path", "*"),
		"line break in the method":   set(":method", "GET /canary HTTP/1.1\r\nX:"),
		"space in the method":        set(":method", "GET /canary"),
		"line break in authority":    set(":authority", "go.dc1.example\r\nX: y"),
		"user in authority":          set(":authority", "x@go.dc1.example"),
		"transfer-encoding":          with(field{"transfer-encoding", "chunked"}),
		"connection":                 with(field{"connection", "fairlead-caller"}),
		"keep-alive":                 with(field{"keep-alive", "1"}),
		"upgrade":                    with(field{"upgrade", "h2c"}),
		"te":                         with(field{"te", "gzip"}),
		"two lengths":                with(field{"content-length", "0"}, field{"content-length", "5"}),
		"length without a body":      with(field{"content-length", "100"}),
		"host of another":            with(field{"host", "elsewhere"}),
		"pseudo-header twice":        append([]field{{":path", "/canary"}}, usual("/")...),
		"pseudo-header late":         with(field{":path", "/canary"}),
		"pseudo-header of an answer": append([]field{{":status", "200"}}, usual("/")...),
		"extended CONNECT":           append([]field{{":protocol", "websocket"}}, set(":method", "CONNECT")...),
		"forged":                     with(field{"fairlead-caller", "forged"}, field{"fairlead_caller", "forged"}, field{"x-forwarded-for", "forged"}, field{"x_real_ip", "forged"}),
		"te trailers":                with(field{"te", "trailers"}, field{"trailer", "fairlead-caller"}),
	}
	// What passes has been made harmless: the space escaped, the length the body's own.
	passes := map[string]bool{"forged": true, "te trailers": true, "space in the path": true, "two lengths": true, "length without a body": true}
	for what, fields := range cases {
		t.Run(what, func(t *testing.T) {
			status := s.rawH2(t, fields)
			if got := status == "200"; got != passes[what] {
				t.Errorf("answered %q", status)
			}
			for _, r := range backend.requestsNow() {
				if !passes[what] {
					t.Errorf("the backend got %s %s with %q", r.Method, r.RequestURI, r.Header)
				}
			}
			wantOnlyTheRelaysWord(t, backend)
		})
	}
}

// rawH2 sends one request without a body as a good caller, and returns the status of the answer, or nothing.
func (s *site) rawH2(t *testing.T, fields []field) (status string) {
	t.Helper()
	config := s.tlsConfig(t, billingID)
	config.ServerName, config.NextProtos = "go.dc1.example", []string{"h2"}
	dialer := &tls.Dialer{NetDialer: &net.Dialer{}, Config: config}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", s.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}
