//go:build linux

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/servers"
)

// gigabyte is 1 GiB.
const gigabyte = 1 << 30

// startFiles starts a site in front of nginx.
func startFiles(t *testing.T, o options) (*site, *servers.Nginx) {
	t.Helper()
	n := servers.StartNginx(t, new(servers.Loopback))
	return startSite(t, o, tunnel{name: "files", backend: "http://" + n.Addr.String()}), n
}

func TestGigabyteComesDownWhole(t *testing.T) {
	s, n := startFiles(t, options{fast: true})
	// The client of h2 is under the race detector itself: a quarter tells as much in its case.
	for v, size := range map[version]int64{h1: gigabyte, h2: gigabyte / 4} {
		t.Run(v.String(), func(t *testing.T) {
			want := n.WriteFile(t, "big", size)
			c := s.caller(t, nil, billingID, v)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			began := time.Now()
			response, err := c.Do(c.request(ctx, t, call{tunnel: "files", path: "/big"}))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK || response.ContentLength != size {
				t.Fatalf("got %s and a length of %d", response.Status, response.ContentLength)
			}
			sum := sha256.New()
			got, err := io.Copy(sum, response.Body)
			if err != nil || got != size {
				t.Fatalf("got %d of %d bytes: %v", got, size, err)
			}
			if hex.EncodeToString(sum.Sum(nil)) != want {
				t.Error("what came is not what nginx sent")
			}
			t.Logf("%d MiB in %s", size>>20, time.Since(began).Round(time.Millisecond))
		})
	}
}

func TestGigabyteGoesUpWhole(t *testing.T) {
	s, n := startFiles(t, options{fast: true})
	const size = gigabyte
	c := s.caller(t, nil, billingID, h1)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	sent := sha256.New()
	began := time.Now()
	response, err := c.Do(c.request(ctx, t, call{
		method: http.MethodPut, tunnel: "files", path: "/upload/big", length: size,
		body: io.TeeReader(io.LimitReader(servers.Noise(1), size), sent),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("got %s, want 201", response.Status)
	}
	t.Logf("%d MiB in %s", size>>20, time.Since(began).Round(time.Millisecond))
	stored, err := os.Open(filepath.Join(n.Root, "upload", "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	sum := sha256.New()
	if got, err := io.Copy(sum, stored); err != nil || got != size {
		t.Fatalf("nginx stored %d of %d bytes (%v)", got, size, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != hex.EncodeToString(sent.Sum(nil)) {
		t.Error("what nginx stored is not what was sent")
	}
}

// TestSlowUploadIsNotALateAnswer: the tunnel's timeout is for the backend to begin its answer, not for the caller to
// finish its question.
func TestSlowUploadIsNotALateAnswer(t *testing.T) {
	n := servers.StartNginx(t, new(servers.Loopback))
	s := startSite(t, options{}, tunnel{
		name: "files", backend: "http://" + n.Addr.String(), relay: "limits: {timeout: 1s}",
	})
	body, drip := io.Pipe()
	var dripping sync.WaitGroup
	defer dripping.Wait()
	defer body.Close()
	dripping.Go(func() {
		for range 12 {
			if _, err := drip.Write(make([]byte, 1000)); err != nil {
				return // the call is over, and says why
			}
			time.Sleep(250 * time.Millisecond) // slowness is the subject of this test
		}
		drip.Close()
	})
	s.caller(t, nil, billingID, h1).must(t, http.StatusCreated, call{
		method: http.MethodPut, tunnel: "files", path: "/upload/slow", length: 12_000, body: body,
	})
}

func TestRangesComeAsAskedFor(t *testing.T) {
	s, n := startFiles(t, options{})
	n.WriteFile(t, "file", 10<<20)
	whole, err := os.ReadFile(filepath.Join(n.Root, "file"))
	if err != nil {
		t.Fatal(err)
	}
	c := s.caller(t, nil, billingID, h2)
	for _, r := range []struct {
		ask      string
		from, to int
	}{
		{"bytes=0-0", 0, 1},
		{"bytes=65535-131072", 65535, 131073},
		{"bytes=10485000-", 10485000, 10 << 20},
		{"bytes=-17", 10<<20 - 17, 10 << 20},
	} {
		a := c.must(t, http.StatusPartialContent, call{
			tunnel: "files", path: "/file", header: http.Header{"Range": {r.ask}},
		})
		if want := fmt.Sprintf("bytes %d-%d/%d", r.from, r.to-1, 10<<20); a.Header.Get("Content-Range") != want {
			t.Errorf("%s: the content range is %q, want %q", r.ask, a.Header.Get("Content-Range"), want)
		}
		if a.body != string(whole[r.from:r.to]) {
			t.Errorf("%s: got other bytes (%d of them)", r.ask, len(a.body))
		}
	}
	c.must(t, http.StatusRequestedRangeNotSatisfiable, call{
		tunnel: "files", path: "/file", header: http.Header{"Range": {"bytes=99999999-"}},
	})
}

func TestConnectionsAreKeptOnBothSides(t *testing.T) {
	s, n := startFiles(t, options{})
	n.WriteFile(t, "file", 1000)
	c := s.caller(t, nil, billingID, h1)
	backends := map[string]bool{}
	for i := range 20 {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if got.Reused != (i > 0) {
				t.Errorf("call %d: reused the caller's connection: %v", i, got.Reused)
			}
		}})
		response, err := c.Do(c.request(ctx, t, call{tunnel: "files", path: "/file"}))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, response.Body); err != nil || n != 1000 {
			t.Errorf("call %d: got %d bytes (%v)", i, n, err)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		number := response.Header.Get("Connection-Number")
		if number == "" {
			t.Fatal("nginx did not say which connection it was")
		}
		backends[number] = true
	}
	if len(backends) != 1 {
		t.Errorf("20 calls in a row took %d connections to nginx, want 1", len(backends))
	}
}
