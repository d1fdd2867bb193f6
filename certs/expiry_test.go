package certs_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/certstest"
)

// expiring is a source with one thing that expires.
type expiring struct {
	certs.Source
	one certs.Expiry
}

func (e *expiring) Expiries() []certs.Expiry { return []certs.Expiry{e.one} }

// locked is a log that is read while it is written.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// take returns what was written since the last time.
func (l *locked) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}

func TestALifeThatIsNotRenewedIsWarnedOfThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf locked
		day := certs.Expiry{Kind: "svid", Name: "spiffe://td/a", From: time.Now(), Until: time.Now().Add(24 * time.Hour)}
		src := &expiring{one: day}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go certs.WatchExpiry(ctx, src, slog.New(slog.NewTextHandler(&buf, nil)))
		for _, step := range []struct {
			at   time.Duration
			said string // since the last step
		}{
			{12*time.Hour + time.Minute, ""}, // whoever renews at half life is not late yet
			{14 * time.Hour, "INFO"}, {17 * time.Hour, ""}, {19 * time.Hour, "WARN"}, {22 * time.Hour, "ERROR"}, {30 * time.Hour, ""},
		} {
			time.Sleep(time.Until(day.From.Add(step.at)))
			synctest.Wait()
			log := buf.take()
			if n := strings.Count(log, "not renewed in time"); n != min(len(step.said), 1) || !strings.Contains(log, step.said) {
				t.Errorf("at %v: %q, expected one %q", step.at, log, step.said)
			}
		}
		stop()
		synctest.Wait()
		src.one = certs.Expiry{Kind: "svid", Name: "spiffe://td/a", From: time.Now(), Until: time.Now().Add(24 * time.Hour)}
		again, end := context.WithCancel(t.Context())
		defer end()
		go certs.WatchExpiry(again, src, slog.New(slog.NewTextHandler(&buf, nil)))
		time.Sleep(11 * time.Hour)
		synctest.Wait()
		if log := buf.take(); log != "" {
			t.Errorf("after the renewal: %q", log)
		}
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		if n := strings.Count(buf.take(), "not renewed in time"); n != 3 {
			t.Errorf("the next life was warned of %d times", n)
		}
	})
}

func TestABundleExpiresWithTheLastOfItsRoots(t *testing.T) {
	now := time.Now()
	roots := []*x509.Certificate{{NotAfter: now}, {NotAfter: now.Add(time.Hour)}, {NotAfter: now.Add(-time.Hour)}}
	if got := certs.BundleExpiry(certstest.NewCA(t, "td").TrustDomain(), roots); got.Kind != "bundle" || got.Name != "td" || !got.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("got %+v", got)
	}
}
