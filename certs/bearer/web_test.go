package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

type web struct {
	idp    *certstest.Issuer
	hits   atomic.Int64
	answer atomic.Pointer[func(*http.Request) (int, []byte, error)]
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.hits.Add(1)
	status, body, err := http.StatusOK, w.idp.JWKS(), error(nil)
	if f := w.answer.Load(); f != nil {
		status, body, err = (*f)(r)
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (w *web) down() {
	f := func(*http.Request) (int, []byte, error) { return 0, nil, errors.New("connection refused") }
	w.answer.Store(&f)
}

func (w *web) up() { w.answer.Store(nil) }

type remote struct {
	*bearer.Verifier
	web *web
	log *logBuffer
}

func inBubble(t *testing.T, prepare func(*web), f func(t *testing.T, r *remote)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &web{idp: certstest.NewIssuer(t, idpURL)}
		if prepare != nil {
			prepare(w)
		}
		r := &remote{web: w, log: &logBuffer{}}
		var err error
		r.Verifier, err = bearer.New(bearer.Config{
			Issuers:    []bearer.Issuer{{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: idpURL + "/keys"}},
			HTTPClient: &http.Client{Transport: w},
			Log:        slog.New(slog.NewTextHandler(r.log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f(t, r)
		cancel()
		running.Wait()
	})
}

func (r *remote) verify(t *testing.T) error {
	t.Helper()
	_, err := r.Verify(t.Context(), r.web.idp.Mint(t, nil))
	return err
}

func sleep(d time.Duration) { time.Sleep(d); synctest.Wait() } // virtual time

func fetching(t *testing.T, url, jwks string) (*bearer.Verifier, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	v, err := bearer.New(bearer.Config{
		Issuers: []bearer.Issuer{{URL: url, Audiences: []string{"fairlead"}, JWKS: jwks}},
		Log:     slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // Run ends kept connections
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return v, log
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
