package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/fairlead/fairlead/protocol"
)

// secretOf is what an authenticator app reads of a URI.
func secretOf(t testing.TB, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" {
		t.Fatalf("%s, %v", uri, err)
	}
	return u.Query().Get("secret")
}

func codeAt(t testing.TB, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func newTOTP(t testing.TB, lines ...string) (*TOTP, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "totp")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := NewTOTP(file)
	if err != nil {
		t.Fatal(err)
	}
	return c, file
}

func TestACodeIsGoodOnceAndForItsMoment(t *testing.T) {
	line, uri, err := NewSecret("Fairlead", "ada")
	if err != nil {
		t.Fatal(err)
	}
	secret, now := secretOf(t, uri), time.Now()
	c, file := newTOTP(t, "# people", "", line, "grace JBSWY3DPEHPK3PXP")
	if err := c.Check(t.Context(), "ada", codeAt(t, secret, now), "", now); err != nil {
		t.Error(err)
	}
	if err := c.Check(t.Context(), "ada", codeAt(t, secret, now), "", now); !errors.Is(err, ErrUsed) {
		t.Errorf("again: %v", err)
	}
	if err := c.Check(t.Context(), "ada", codeAt(t, secret, now.Add(-30*time.Second)), "", now); !errors.Is(err, ErrUsed) {
		t.Errorf("the one before: %v", err)
	}
	now = now.Add(time.Hour)
	if err := c.Check(t.Context(), "ada", codeAt(t, secret, now.Add(30*time.Second)), "", now); err != nil {
		t.Errorf("of a clock that is ahead: %v", err)
	}
	now = now.Add(time.Hour)
	for name, code := range map[string]string{"old": codeAt(t, secret, now.Add(-time.Minute)), "of the future": codeAt(t, secret, now.Add(time.Minute)), "empty": "",
		"long": codeAt(t, secret, now) + "0", "another's": codeAt(t, "JBSWY3DPEHPK3PXP", now)} {
		if err := c.Check(t.Context(), "ada", code, "", now); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		now = now.Add(10 * time.Minute)
	}
	if err := c.Check(t.Context(), "bob", "123456", "", now); !errors.Is(err, ErrNoSecret) {
		t.Errorf("a user without a secret: %v", err)
	}
	if err := c.Check(t.Context(), "", "123456", "", now); !errors.Is(err, ErrNoSecret) {
		t.Errorf("nobody: %v", err)
	}
	if err := os.WriteFile(file, []byte("grace JBSWY3DPEHPK3PXP\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context(), "ada", codeAt(t, secret, now), "", now); !errors.Is(err, ErrNoSecret) {
		t.Errorf("one who was removed: %v", err)
	}
}

func TestCodesCannotBeGuessed(t *testing.T) {
	c, _ := newTOTP(t, "ada JBSWY3DPEHPK3PXP")
	now, refused := time.Now(), 0
	for i := range 1000 {
		if err := c.Check(t.Context(), "ada", fmt.Sprintf("%06d", i), "", now); errors.Is(err, ErrTooMany) {
			refused++
		}
	}
	if refused < 990 {
		t.Errorf("%d of 1000 attempts were refused", refused)
	}
}

func TestAFileOfSecretsMustBeOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "totp")
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{"three words": {"ada a b", 0o600}, "one word": {"ada", 0o600}, "readable by all": {"ada JBSWY3DPEHPK3PXP", 0o644}} {
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := NewTOTP(file); err == nil || strings.Contains(err.Error(), "JBSWY3DPEHPK3PXP") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NewSecret("Fairlead", "a b"); err == nil {
		t.Error("a name with a space")
	}
}

func TestWhatIsNoLoginNeverReachesTheDirectory(t *testing.T) {
	asked := 0
	d, err := NewDirectory(DirectoryConfig{Name: "corp", Tunnel: "ldap", ServerName: "a", Base: "b"}, func(context.Context, protocol.Network, protocol.TunnelName) (net.Conn, error) {
		asked++
		return nil, errors.New("no agent")
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]string{
		"no password": {"ada", ""}, "no name": {"", "x"}, "a long name": {strings.Repeat("a", 300), "x"}, "a long password": {"ada", strings.Repeat("a", 2000)},
		"a NUL": {"a\x00", "x"}, "no text": {"\xff", "x"},
	} {
		if _, err := d.Login(t.Context(), c[0], c[1]); !errors.Is(err, ErrRefused) || asked != 0 {
			t.Errorf("%s: %v, the directory was asked %d times", name, err, asked)
		}
	}
	for i := range 20 {
		_, err := d.Login(t.Context(), []string{"ada", "ADA"}[i%2], "guess")
		if many := errors.Is(err, ErrTooMany); many != (i >= 5) || !many && (err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no agent")) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
	if asked != 5 {
		t.Errorf("the directory was asked %d times", asked)
	}
	for name, cfg := range map[string]DirectoryConfig{"a bad filter": {Filter: "(uid={user}"}, "no CA": {CA: "/nowhere"}, "no secret": {PasswordFile: "/nowhere"}} {
		if _, err := NewDirectory(cfg, nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAGroupIsNamedByItsCommonName(t *testing.T) {
	for value, want := range map[string]string{"cn=clerks,ou=groups,dc=dc1,dc=example": "clerks", "CN=A\\, B,DC=x": "A, B", "clerks": "clerks", "ou=x,dc=y": "ou=x,dc=y", "": ""} {
		if got := commonName(value); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
}

func TestTheRememberedAreForgottenInTime(t *testing.T) {
	r, now := new(Remembered), time.Now()
	r.Keep("ada", now.Add(time.Minute))
	if !r.Has("ada", now) || r.Has("ada", now.Add(time.Minute)) || r.Has("bob", now) {
		t.Error("the wrong ones are remembered")
	}
	for i := range 2*maxUsers + 10 {
		r.Keep(fmt.Sprint(i), now)
	}
	if len(r.young) > maxUsers || len(r.old) > maxUsers {
		t.Errorf("%d and %d are remembered", len(r.young), len(r.old))
	}
}
