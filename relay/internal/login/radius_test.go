package login

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"github.com/fairlead/fairlead/protocol"
)

var lab = []byte("secret")

// answerTo is a server's answer to a request, with its Message-Authenticator or without.
func answerTo(t testing.TB, request, secret []byte, code radius.Code, authenticated bool) []byte {
	t.Helper()
	p, err := radius.Parse(request, secret)
	if err != nil {
		t.Fatal(err)
	}
	r := p.Response(code)
	if authenticated {
		r.Add(messageAuthenticator, make([]byte, md5.Size))
	}
	if err := rfc2865.ReplyMessage_SetString(r, "hello"); err != nil {
		t.Fatal(err)
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !authenticated {
		return b
	}
	zeroed := bytes.Clone(b)
	copy(zeroed[4:20], request[4:20])
	r.Set(messageAuthenticator, authenticator(zeroed, secret))
	if b, err = r.Encode(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnAnswerMustProveTheSecret(t *testing.T) { // CVE-2024-3596
	request, err := newRequest(lab, "ada", "123456", []byte("state"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := radius.Parse(request, lab); err != nil || rfc2865.UserName_GetString(p) != "ada" || rfc2865.UserPassword_GetString(p) != "123456" || p.Attributes[0].Type != messageAuthenticator {
		t.Errorf("the request reads as %+v, %v", p, err)
	}
	other, err := newRequest(lab, "ada", "123456", nil)
	if err != nil {
		t.Fatal(err)
	}
	good := answerTo(t, request, lab, radius.CodeAccessAccept, true)
	if r, err := verified(good, request, lab, true); err != nil || r.Code != radius.CodeAccessAccept {
		t.Errorf("the good one: %v", err)
	}
	plain := answerTo(t, request, lab, radius.CodeAccessAccept, false)
	if _, err := verified(plain, request, lab, false); err != nil {
		t.Errorf("over TLS: %v", err)
	}
	// A response authenticator that holds, over a Message-Authenticator that does not.
	forged, err := radius.Parse(request, lab)
	if err != nil {
		t.Fatal(err)
	}
	r := forged.Response(radius.CodeAccessAccept)
	r.Add(messageAuthenticator, make([]byte, md5.Size))
	lying, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"without a Message-Authenticator": plain, "with a wrong one": lying, "by another secret": answerTo(t, request, []byte("other"), radius.CodeAccessAccept, true),
		"to another request": answerTo(t, other, lab, radius.CodeAccessAccept, true), "a rejection made good": append([]byte{byte(radius.CodeAccessAccept)}, answerTo(t, request, lab, radius.CodeAccessReject, true)[1:]...),
		"cut": good[:len(good)-1], "empty": nil, "garbage": bytes.Repeat([]byte{0xff}, 100),
	} {
		if _, err := verified(b, request, lab, true); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzVerified(f *testing.F) {
	request, err := newRequest(lab, "ada", "123456", nil)
	if err != nil {
		f.Fatal(err)
	}
	good := answerTo(f, request, lab, radius.CodeAccessAccept, true)
	f.Add(good)
	f.Add(answerTo(f, request, lab, radius.CodeAccessReject, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := verified(b, request, lab, true); err == nil && !bytes.Equal(b, good) {
			t.Errorf("%x is taken", b)
		}
	})
}

func TestAServerThatDoesNotAnswerIsAskedAgainAndThenGivenUp(t *testing.T) {
	for name, answers := range map[string]int{"the second time": 2, "never": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, near := net.Pipe()
			var serving sync.WaitGroup
			asked := 0
			serving.Go(func() {
				buf := make([]byte, maxRADIUS)
				for {
					n, err := far.Read(buf)
					if err != nil {
						return
					}
					if asked++; asked == answers {
						_, _ = far.Write([]byte("noise")) // from somebody else
						_, _ = far.Write(answerTo(t, buf[:n], []byte("radsec"), radius.CodeAccessAccept, true))
					}
				}
			})
			r, err := NewRADIUS(RADIUSConfig{Name: "rsa", Network: protocol.UDP}, func(context.Context, protocol.Network, protocol.TunnelName) (net.Conn, error) { return near, nil })
			if err != nil {
				t.Fatal(err)
			}
			err = r.Check(t.Context(), "ada", "1", "", time.Now())
			if (err == nil) != (answers > 0) || errors.Is(err, ErrRefused) {
				t.Errorf("got %v", err)
			}
			_ = far.Close()
			serving.Wait()
			if want := max(answers, radiusTries*(1-min(answers, 1))); asked != want {
				t.Errorf("asked %d times, expected %d", asked, want)
			}
		})
	}
}

func TestWhatIsNoCodeNeverReachesTheServer(t *testing.T) {
	r, err := NewRADIUS(RADIUSConfig{Name: "rsa", Network: protocol.UDP}, func(context.Context, protocol.Network, protocol.TunnelName) (net.Conn, error) {
		t.Error("it was asked")
		return nil, errors.New("no")
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][3]string{"no user": {"", "1", ""}, "no code": {"ada", "", ""}, "a long code": {"ada", strings.Repeat("1", 200), ""}, "an unknown challenge": {"ada", "1", "x"}} {
		if err := r.Check(t.Context(), c[0], c[1], c[2], time.Now()); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
