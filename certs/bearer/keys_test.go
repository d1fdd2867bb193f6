package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
)

// web is an HTTP server without sockets, for bubbles of synctest: it answers with the issuer's keys, or as it is told.
// remote is a verifier that has its keys from a web, running.
// inBubble runs f with a running verifier in a bubble, where hours pass at once.
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
		if err := r.verify(t); err != nil || r.Status()[0].Stale || !r.Status()[0].Until.After(time.Now().Add(time.Hour)) {
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
		sleep(time.Minute)
		before = r.web.hits.Load()
		for _, kid := range []string{"a\x00b", strings.Repeat("k", 4096)} { // J06: no name that an issuer would give
			raw, err := r.web.idp.Sign(map[string]any{"kid": kid}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Verify(t.Context(), raw)
			refused(t, err, bearer.ReasonUnknownKey)
		}
		if n := r.web.hits.Load() - before; n != 0 {
			t.Errorf("%d fetches for kids that cannot be", n)
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
// J04, J18
// A logBuffer is a log that is read while it is written.
