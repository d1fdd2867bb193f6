//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// bodyGiB is how large a body the memory test sends; E2E_BODY_GIB=10 makes it the full promise.
func bodyGiB(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("E2E_BODY_GIB")
	if text == "" {
		return 2
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		t.Fatalf("E2E_BODY_GIB: expected a whole number of GiB, got %q", text)
	}
	return n
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMiB is the most memory that the program has had resident.
func (p *program) peakMiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	found := peak.FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Both directions at once: the windows of a stream may grow to 16 MiB each, and nothing else may grow with the body.
func TestBodiesFarLargerThanMemoryDoNotGrowIt(t *testing.T) {
	size := bodyGiB(t) << 30
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.Copy(io.Discard, r.Body)
		if err != nil || got != size {
			t.Errorf("the backend got %d of %d bytes: %v", got, size, err)
		}
		if _, err := io.CopyN(w, zeros{}, size); err != nil {
			t.Errorf("the backend could not answer: %v", err)
		}
	}))
	defer backend.Close()
	s := startSite(t, options{fast: true}, tunnel{name: "bulk", backend: backend.URL, relay: "limits: {timeout: 10m}",
		agent: "timeouts: {header: 10m}"})
	c := s.caller(t, nil, billingID, h1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began := time.Now()
	response, err := c.Do(c.request(ctx, t, call{method: http.MethodPost, tunnel: "bulk", path: "/", length: size, body: io.LimitReader(zeros{}, size)}))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got, err := io.Copy(io.Discard, response.Body)
	if err != nil || got != size {
		t.Fatalf("the caller got %d of %d bytes: %v", got, size, err)
	}
	for _, p := range []*program{s.relay, s.agent} {
		mib := p.peakMiB(t)
		t.Logf("%s: %d MiB at its peak, %d GiB up and down in %s", p.name, mib, size>>30, time.Since(began).Round(time.Second))
		if mib > 192 {
			t.Errorf("%s: %d MiB resident at its peak", p.name, mib)
		}
	}
}
