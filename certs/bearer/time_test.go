package bearer_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/certs/bearer"
	"github.com/fairlead/fairlead/certs/certstest"
)

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
