package backend

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol"
)

// tlsServer starts an HTTPS server and writes its certificate, as CA, and a client certificate to files.
func tlsServer(t *testing.T, h2 bool) (url string, files TLSFiles) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { w.Header().Set("X-Proto", req.Proto) }))
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	s.StartTLS()
	t.Cleanup(s.Close)
	dir := t.TempDir()
	files = TLSFiles{CA: filepath.Join(dir, "ca.pem"), ServerName: "example.com"}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(files.CA, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return s.URL, files
}

func TestHTTPSBackendsAreVerified(t *testing.T) { // S09
	url, files := tlsServer(t, true)
	resp, err := to(t, Config{TLS: files}, url).RoundTrip(request(t, "GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("X-Proto") != "HTTP/2.0" {
		t.Errorf("got %s, want HTTP/2 by ALPN", resp.Header.Get("X-Proto"))
	}
	noCA, otherName := files, files
	noCA.CA, otherName.ServerName = "", "other.example"
	for name, files := range map[string]TLSFiles{"unknown CA": noCA, "another name": otherName} {
		t.Run(name, func(t *testing.T) {
			b := to(t, Config{TLS: files}, url)
			failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
			_, err := to(t, Config{TLS: files}, strings.Replace(url, "https", "tls", 1)).Dial(t.Context(), nil)
			failed(t, err, protocol.BackendTLS, false)
		})
	}
	t.Run("expired", func(t *testing.T) {
		b := to(t, Config{TLS: files}, url)
		late := func() time.Time { return time.Now().AddDate(100, 0, 0) }
		b.tls.Time = late
		b.main, b.upgrade = b.transports(time.Second)
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
	})
	t.Run("plain text", func(t *testing.T) {
		plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked in plain text") }))
		t.Cleanup(plain.Close)
		b := to(t, Config{TLS: files}, strings.Replace(plain.URL, "http", "https", 1))
		failed(t, roundTrip(t, b, request(t, "GET", nil)), protocol.BackendTLS, false)
	})
}

func TestTLSFilesAreReadWhenTheBackendIsMade(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := ParseAddress("tls://a:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range []TLSFiles{{CA: empty}, {CA: dir + "/none"}, {Cert: empty}, {Cert: empty, Key: empty}} {
		if _, err := New(Config{Address: a, TLS: files}); err == nil {
			t.Errorf("%+v: got no error", files)
		}
	}
}
