package bearer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

// web is an HTTP server without sockets, for bubbles of synctest: it answers with the issuer's keys, or as it is told.
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

// remote is a verifier that has its keys from a web, running.
type remote struct {
	*bearer.Verifier
	web *web
	log *logBuffer
}

// inBubble runs f with a running verifier in a bubble, where hours pass at once.
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

// J11
func TestWithoutKeysEverythingIsUnavailable(t *testing.T) {
	inBubble(t, (*web).down, func(t *testing.T, r *remote) {
		if err := r.verify(t); !errors.Is(err, bearer.ErrUnavailable) {
			t.Errorf("verify: %v", err)
		}
		if err := r.Ready(); !errors.Is(err, bearer.ErrUnavailable) {
			t.Errorf("ready: %v", err)
		}
		r.web.up()
		sleep(2 * time.Minute)
		if err := errors.Join(r.verify(t), r.Ready()); err != nil {
			t.Errorf("after the issuer came up: %v", err)
		}
	})
}

// J10
func TestStaleKeysServeForTheGraceAndNoLonger(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		r.web.down()
		sleep(4 * time.Minute)
		if err := r.verify(t); err != nil || r.Status()[0].Stale {
			t.Errorf("in TTL: %v, %+v", err, r.Status())
		}
		sleep(58 * time.Minute)
		if err := r.verify(t); err != nil || !r.Status()[0].Stale || !r.Status()[0].Usable || r.Status()[0].Fault == "" {
			t.Errorf("in grace: %v, %+v", err, r.Status())
		}
		warm := r.web.idp.Mint(t, nil)
		if _, err := r.Verify(t.Context(), warm); err != nil {
			t.Error(err)
		}
		sleep(59 * time.Second)
		if _, err := r.Verify(t.Context(), warm); err != nil {
			t.Errorf("warm, in grace: %v", err)
		}
		sleep(2 * time.Second)
		if _, err := r.Verify(t.Context(), warm); err != nil {
			t.Errorf("cold, in grace: %v", err)
		}
		sleep(2 * time.Minute) // 65:01 after the last good fetch
		if _, err := r.Verify(t.Context(), warm); !errors.Is(err, bearer.ErrUnavailable) {
			t.Errorf("after grace: %v", err)
		}
		if err := r.Ready(); !errors.Is(err, bearer.ErrUnavailable) {
			t.Errorf("ready after grace: %v", err)
		}
		if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
			t.Errorf("one fault was said %d times:\n%s", n, r.log)
		}
		if strings.Contains(r.log.String(), warm) {
			t.Error("the token is in the log")
		}
	})
}

// J09
func TestStormOfUnknownKidsFetchesOncePer10Seconds(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		sleep(time.Minute)
		before := r.web.hits.Load()
		for second := range 30 {
			for n := range 20 {
				raw, err := r.web.idp.Sign(map[string]any{"kid": fmt.Sprintf("k%d-%d", second, n)}, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = r.Verify(t.Context(), raw)
				refused(t, err, bearer.ReasonUnknownKey)
			}
			sleep(time.Second)
		}
		if n := r.web.hits.Load() - before; n != 3 {
			t.Errorf("%d fetches in 30 s", n)
		}
	})
}

// A caller that hangs up must not take the fetch from the others, nor must a slow issuer hold more than a few.
func TestFetchForAnUnknownKidOutlivesItsCaller(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		sleep(time.Minute)
		r.web.idp.Rotate(t, true)
		slow := func(req *http.Request) (int, []byte, error) {
			select {
			case <-time.After(2 * time.Second):
				return http.StatusOK, r.web.idp.JWKS(), nil
			case <-req.Context().Done():
				return 0, nil, req.Context().Err()
			}
		}
		r.web.answer.Store(&slow)
		raw := r.web.idp.Mint(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Verify(ctx, raw); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller that hung up: %v", err)
		}
		if _, err := r.Verify(t.Context(), raw); err != nil {
			t.Errorf("the next one: %v", err)
		}

		sleep(20 * time.Second)
		var unknown sync.WaitGroup
		started := time.Now()
		var atOnce atomic.Int64
		for n := range 200 {
			raw, err := r.web.idp.Sign(map[string]any{"kid": fmt.Sprint(n)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			unknown.Go(func() {
				_, err := r.Verify(t.Context(), raw)
				if time.Since(started) == 0 {
					atOnce.Add(1)
				}
				if err == nil {
					t.Error("an unknown kid was taken")
				}
			})
		}
		unknown.Wait()
		if n := atOnce.Load(); n != 200-65 { // one fetches, 64 wait for it
			t.Errorf("%d were told at once", n)
		}
	})
}

// J13
func TestRotationOverlapsAndRemovedKeyIsRefused(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		mint := func() string { return r.web.idp.Mint(t, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}) }
		verify := func(raw string) error { _, err := r.Verify(t.Context(), raw); return err }
		sleep(time.Minute)
		old := mint()
		if err := verify(old); err != nil {
			t.Fatal(err)
		}
		r.web.idp.Rotate(t, true)
		if err := verify(mint()); err != nil { // the unknown kid fetches
			t.Errorf("new key: %v", err)
		}
		sleep(5 * time.Minute)
		if err := verify(old); err != nil {
			t.Errorf("old key in the overlap: %v", err)
		}
		r.web.idp.Rotate(t, false)
		if err := verify(old); err != nil { // warm, and not known to be gone
			t.Fatal(err)
		}
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused(t, verify(old), bearer.ReasonUnknownKey) // at once: not remembered
		if err := verify(mint()); err != nil {
			t.Error(err)
		}
		last := mint()
		r.web.idp.Rotate(t, false)
		sleep(5*time.Minute + time.Minute)
		refused(t, verify(last), bearer.ReasonUnknownKey) // without Refresh
	})
}

func TestKeysAreFetchedAgainByTTLWithJitter(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		sleep(10 * time.Hour)
		if n := r.web.hits.Load(); n < 109 || n > 135 {
			t.Errorf("%d fetches in 10 h, some 120 were expected", n)
		}
		if err := r.verify(t); err != nil {
			t.Error(err)
		}
	})
}

func TestReloadKeepsKeysOfUnchangedIssuers(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *remote) {
		fresh := func(jwks string) *bearer.Verifier {
			v := newVerifier(t, bearer.Issuer{URL: idpURL, Audiences: []string{"new"}, JWKS: jwks})
			v.Adopt(r.Verifier)
			return v
		}
		raw := r.web.idp.Mint(t, map[string]any{"aud": "new"})
		if _, err := fresh(idpURL+"/keys").Verify(t.Context(), raw); err != nil {
			t.Error(err)
		}
		if _, err := fresh(idpURL+"/other").Verify(t.Context(), raw); !errors.Is(err, bearer.ErrUnavailable) {
			t.Errorf("keys of another source were taken: %v", err)
		}
	})
}

// J12
func TestBadKeySetsKeepTheOldKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	idp := certstest.NewIdP(t)
	v, log := fetching(t, idp.URL, idp.JWKSURL())
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := idp.Mint(t, nil)
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	goodKey := rsaJWK("good", &private.PublicKey)
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":           say("<html>sorry</html>"),
		"empty":          say(""),
		"empty object":   say("{}"),
		"empty set":      say(`{"keys":[]}`),
		"null":           say("null"),
		"private key":    say(`{"keys":[` + strings.TrimSuffix(goodKey, "}") + `,"d":"AQAB"}]}`),
		"HMAC key":       say(`{"keys":[` + goodKey + `,{"kty":"oct","k":"c2VjcmV0"}]}`),
		"RSA of 512":     say(`{"keys":[` + goodKey + "," + weakRSA(512) + `]}`),
		"RSA of 2,040":   say(`{"keys":[` + goodKey + "," + weakRSA(2040) + `]}`),
		"off the curve":  say(`{"keys":[{"kty":"EC","crv":"P-256","kid":"x","x":"AQ","y":"AQ"}]}`),
		"unusable only":  say(`{"keys":[{"kty":"EC","crv":"secp256k1","kid":"x","x":"AQ","y":"AQ"}]}`),
		"101 keys":       say(`{"keys":[` + strings.Repeat(goodKey+",", 100) + goodKey + `]}`),
		"more than 1MiB": say(`{"keys":[` + goodKey + `]}` + strings.Repeat(" ", 1<<20)),
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for range 100 << 4 { // 100 MiB at most
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"500":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write(idp.JWKS()) },
		"redirect":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://169.254.169.254/keys", 302) },
		"redirect home": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks.json?again", 307) },
	} {
		t.Run(name, func(t *testing.T) {
			idp.Answer(answer)
			before := idp.Hits()
			if err := v.Refresh(t.Context()); err == nil {
				t.Error("no error")
			}
			if n := idp.Hits() - before; n != 1 {
				t.Errorf("%d requests", n)
			}
			if _, err := v.Verify(t.Context(), good); err != nil {
				t.Errorf("the old keys are gone: %v", err)
			}
			if _, err := v.Verify(t.Context(), idp.Mint(t, nil)); err != nil {
				t.Errorf("the old keys are gone: %v", err)
			}
		})
	}
	if strings.Contains(log.String(), "c2VjcmV0") || strings.Count(log.String(), "level=WARN") == 0 {
		t.Errorf("log:\n%s", log)
	}
	idp.Answer(nil)
	if err := v.Refresh(t.Context()); err != nil || !strings.Contains(log.String(), "load again") {
		t.Errorf("the end of the fault: %v\n%s", err, log)
	}
}

func TestDiscoveryWantsTheIssuersExactName(t *testing.T) {
	idp := certstest.NewIdP(t)
	v, _ := fetching(t, idp.URL, "")
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), idp.Mint(t, nil)); err != nil {
		t.Error(err)
	}
	slash, _ := fetching(t, idp.URL+"/", "")
	if err := slash.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "expected") {
		t.Errorf("a slash more: %v", err)
	}
	if err := slash.Ready(); !errors.Is(err, bearer.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
}

func TestKeyFileIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := certstest.NewIssuer(t, idpURL)
		dir := t.TempDir()
		path := idp.WriteJWKS(t, dir)
		v := newVerifier(t, bearer.Issuer{URL: idpURL, Audiences: []string{"fairlead"}, JWKS: path})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := v.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		mint := func() string { return idp.Mint(t, map[string]any{"exp": time.Now().AddDate(1, 0, 0).Unix()}) }
		old := mint()
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		sleep(24 * time.Hour) // a file does not grow stale
		if _, err := v.Verify(t.Context(), old); err != nil || v.Ready() != nil || v.Status()[0].Fault == "" {
			t.Errorf("broken file: %v, %v, %+v", err, v.Ready(), v.Status())
		}
		idp.Rotate(t, false)
		idp.WriteJWKS(t, dir)
		sleep(6 * time.Second)
		if _, err := v.Verify(t.Context(), mint()); err != nil {
			t.Errorf("new key: %v", err)
		}
		_, err := v.Verify(t.Context(), old)
		refused(t, err, bearer.ReasonUnknownKey)
		cancel()
		running.Wait()
	})
}

// J04, J18
func TestLeewayIs30SecondsAtEachEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, v := fromFile(t)
		mint := func(name string, d time.Duration) error {
			_, err := v.Verify(t.Context(), idp.Mint(t, map[string]any{name: time.Now().Add(d).Unix()}))
			return err
		}
		for name, d := range map[string]time.Duration{"exp": -29 * time.Second, "nbf": 29 * time.Second, "iat": 29 * time.Second} {
			if err := mint(name, d); err != nil {
				t.Errorf("%s %s: %v", name, d, err)
			}
		}
		refused(t, mint("exp", -31*time.Second), bearer.ReasonExpired)
		refused(t, mint("nbf", 31*time.Second), bearer.ReasonNotYetValid)
		refused(t, mint("iat", 31*time.Second), bearer.ReasonNotYetValid)
		refused(t, mint("iat", 10*time.Minute), bearer.ReasonNotYetValid)
	})
}

func TestRememberedTokenStillExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, v := fromFile(t)
		raw := idp.Mint(t, map[string]any{"exp": time.Now().Add(20 * time.Second).Unix()})
		first, err := v.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		sleep(10 * time.Second)
		if again, err := v.Verify(t.Context(), raw); err != nil || again != first {
			t.Errorf("not remembered: %v", err)
		}
		sleep(30 * time.Second)
		if again, err := v.Verify(t.Context(), raw); err != nil || again == first {
			t.Errorf("within the leeway it is judged anew: %v", err)
		}
		sleep(11 * time.Second)
		_, err = v.Verify(t.Context(), raw)
		refused(t, err, bearer.ReasonExpired)
	})
}

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

func weakRSA(bits int) string {
	n := bytes.Repeat([]byte{0xff}, bits/8)
	return fmt.Sprintf(`{"kty":"RSA","kid":"weak","n":%q,"e":"AQAB"}`, b64(n))
}

// A logBuffer is a log that is read while it is written.
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
