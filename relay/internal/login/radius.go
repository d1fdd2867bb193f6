package login

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // it is what RADIUS has (RFC 3579); TLS, or the data centre's own network, protects it
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/relay/internal/limit"
)

// RADIUSConfig is one entry of `radius`.
type RADIUSConfig struct {
	// Name is how tunnels name it. Key `name`, required.
	Name string
	// Tunnel leads to it, and its callers admit the relay's own SPIFFE ID. A tcp tunnel is spoken to over TLS (RadSec, RFC 6614), a udp
	// one in plain RADIUS (RFC 2865), which is for a network that is trusted: the one between the agent and the server. Key
	// `tunnel`, required.
	Tunnel  protocol.TunnelName
	Network protocol.Network
	// SecretFile is the shared secret. Key `secret_file`, required for plain RADIUS, default "radsec" over TLS, as RFC 6614 has it.
	SecretFile string
	// ServerName is what the server's certificate must name. Key `server_name`, required over TLS.
	ServerName string
	// CA is a PEM file of the roots that it must chain to, and Cert and Key the relay's own certificate there. Keys `ca`, default: the
	// system's, `cert` and `key`, default: none is shown.
	CA, Cert, Key string
}

// Bounds of an exchange.
const (
	radiusTries   = 3
	radiusAttempt = 2 * time.Second // for an answer over UDP, before it is asked again
	maxRADIUS     = 4096            // bytes of a packet (RFC 2865 §3)
	maxCode       = 128             // bytes of User-Password
	maxChallenges = 4096
	challengeLife = 2 * time.Minute
)

// messageAuthenticator is an attribute's type (RFC 3579 §3.2).
const messageAuthenticator radius.Type = 80

// A Challenge is that the server wants to know more before it says yes or no.
type Challenge struct {
	State   string // names it, when the answer comes
	Message string // for the user
}

func (c *Challenge) Error() string { return "the server wants another answer" }

// A RADIUS checks codes by a RADIUS server. It is safe for concurrent use.
type RADIUS struct {
	cfg   RADIUSConfig
	tls   *tls.Config
	dial  Dial
	tries *limit.Calls

	// mu guards: the challenges that wait for their answers.
	mu    sync.Mutex
	asked map[string]challenged
}

type challenged struct {
	user  string
	state []byte
	until time.Time
}

// NewRADIUS reads the files that the configuration names, and asks nobody yet.
func NewRADIUS(cfg RADIUSConfig, dial Dial) (*RADIUS, error) {
	r := &RADIUS{cfg: cfg, dial: dial, tries: limit.NewCalls(maxKnown), asked: make(map[string]challenged)}
	if _, err := r.secret(); err != nil {
		return nil, fmt.Errorf("radius %s: secret_file: %w", cfg.Name, err)
	}
	if cfg.Network != protocol.TCP {
		return r, nil
	}
	r.tls = &tls.Config{ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		b, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("radius %s: ca: %w", cfg.Name, err)
		}
		r.tls.RootCAs = x509.NewCertPool()
		if !r.tls.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("radius %s: ca: %s: expected certificates in PEM", cfg.Name, cfg.CA)
		}
	}
	if cfg.Cert != "" {
		chain, err := os.ReadFile(cfg.Cert)
		if err != nil {
			return nil, fmt.Errorf("radius %s: cert: %w", cfg.Name, err)
		}
		key, err := secretfile.Read(cfg.Key, 64<<10)
		if err != nil {
			return nil, fmt.Errorf("radius %s: key: %w", cfg.Name, err)
		}
		pair, err := tls.X509KeyPair(chain, key)
		if err != nil {
			return nil, fmt.Errorf("radius %s: cert and key: %w", cfg.Name, err)
		}
		r.tls.Certificates = []tls.Certificate{pair}
	}
	return r, nil
}

func (r *RADIUS) secret() ([]byte, error) {
	if r.cfg.SecretFile == "" {
		return []byte("radsec"), nil
	}
	b, err := secretfile.Read(r.cfg.SecretFile, 4<<10)
	return []byte(strings.TrimRight(string(b), "\r\n")), err
}

// Check asks the server about a user's code; state names the challenge that it answers, "" for none. The error is ErrRefused,
// ErrTooMany or a *Challenge, or says that the server could not be asked. It blocks while the server is asked, for 6 s at most, or
// until ctx ends.
func (r *RADIUS) Check(ctx context.Context, user, code, state string, now time.Time) error {
	if user == "" || code == "" || len(user) > maxName || len(code) > maxCode {
		return ErrRefused
	}
	var answered []byte
	if state != "" {
		var ok bool
		if answered, ok = r.take(state, user, now); !ok {
			return ErrRefused
		}
	}
	if !r.tries.Take(limit.Key{Name: user}, attempts, now).OK {
		return ErrTooMany
	}
	ctx, cancel := context.WithTimeout(ctx, radiusTries*radiusAttempt)
	defer cancel()
	response, err := r.exchange(ctx, user, code, answered)
	if err != nil {
		return fmt.Errorf("radius %s: %w", r.cfg.Name, err)
	}
	switch response.Code {
	case radius.CodeAccessAccept:
		return nil
	case radius.CodeAccessReject:
		return ErrRefused
	case radius.CodeAccessChallenge:
		return r.challenge(user, response, now)
	}
	return fmt.Errorf("radius %s: expected Access-Accept, -Reject or -Challenge, got %s", r.cfg.Name, response.Code)
}

// challenge remembers what the server wants its answer to be about.
func (r *RADIUS) challenge(user string, response *radius.Packet, now time.Time) error {
	c := &Challenge{State: rand.Text(), Message: cmp.Or(rfc2865.ReplyMessage_GetString(response), "another code is wanted")}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, old := range r.asked {
		if now.After(old.until) {
			delete(r.asked, id)
		}
	}
	if len(r.asked) >= maxChallenges {
		return fmt.Errorf("radius %s: more challenges wait for answers than can be remembered", r.cfg.Name)
	}
	r.asked[c.State] = challenged{user, rfc2865.State_Get(response), now.Add(challengeLife)}
	return c
}

// take uses a challenge up.
func (r *RADIUS) take(id, user string, now time.Time) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.asked[id]
	delete(r.asked, id)
	return c.state, ok && c.user == user && now.Before(c.until)
}

// exchange sends a request, and returns the answer that proves the secret.
func (r *RADIUS) exchange(ctx context.Context, user, code string, state []byte) (*radius.Packet, error) {
	secret, err := r.secret()
	if err != nil {
		return nil, err
	}
	request, err := newRequest(secret, user, code, state)
	if err != nil {
		return nil, err
	}
	conn, err := r.dial(ctx, r.cfg.Network, r.cfg.Tunnel)
	if err != nil {
		return nil, fmt.Errorf("reaching it through tunnel %s: %w", r.cfg.Tunnel, err)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if r.tls == nil {
		return overUDP(ctx, conn, request, secret)
	}
	secured := tls.Client(conn, r.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return overTLS(secured, request, secret)
}

// newRequest is an Access-Request with its Message-Authenticator in front, as RFC 3579 and the answer to CVE-2024-3596 have it.
func newRequest(secret []byte, user, code string, state []byte) ([]byte, error) {
	p := radius.New(radius.CodeAccessRequest, secret)
	p.Add(messageAuthenticator, make([]byte, md5.Size))
	err := errors.Join(rfc2865.UserName_SetString(p, user), rfc2865.UserPassword_SetString(p, code), rfc2865.NASIdentifier_SetString(p, "fairlead-relay"))
	if state != nil {
		err = errors.Join(err, rfc2865.State_Set(p, state))
	}
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	b, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	copy(b[22:22+md5.Size], authenticator(b, secret)) // behind the header's 20 bytes, type and length
	return b, nil
}

// authenticator is the HMAC of a packet whose Message-Authenticator is zero.
func authenticator(packet, secret []byte) []byte {
	mac := hmac.New(md5.New, secret)
	mac.Write(packet)
	return mac.Sum(nil)
}

// overUDP asks until an answer comes that holds. What does not is somebody else's, and is passed over.
func overUDP(ctx context.Context, conn net.Conn, request, secret []byte) (*radius.Packet, error) {
	buf := make([]byte, maxRADIUS)
	var last error
	for range radiusTries {
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		again := time.Now().Add(radiusAttempt)
		for ctx.Err() == nil {
			if err := conn.SetReadDeadline(again); err != nil {
				return nil, err
			}
			n, err := conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			response, err := verified(buf[:n], request, secret, true)
			if err == nil {
				return response, nil
			}
			last = err
		}
	}
	return nil, errors.Join(errors.New("no answer that holds"), last)
}

// overTLS asks once: nothing is lost there, and TLS proves the server.
func overTLS(conn net.Conn, request, secret []byte) (*radius.Packet, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	header := make([]byte, 4)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, fmt.Errorf("waiting for an answer: %w", err)
	}
	length := int(header[2])<<8 | int(header[3])
	if length < 20 || length > maxRADIUS {
		return nil, fmt.Errorf("an answer of %d bytes, 20 to %d are expected", length, maxRADIUS)
	}
	b := append(header, make([]byte, length-len(header))...)
	if _, err := io.ReadFull(conn, b[4:]); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	return verified(b, request, secret, false)
}

// verified is the answer where it is one to the request and proves the secret; strict wants its Message-Authenticator, without which
// plain RADIUS proves nothing (CVE-2024-3596).
func verified(b, request, secret []byte, strict bool) (*radius.Packet, error) {
	response, err := radius.Parse(b, secret)
	if err != nil {
		return nil, errors.New("an answer that does not parse")
	}
	if response.Identifier != request[1] || !radius.IsAuthenticResponse(b, request, secret) {
		return nil, errors.New("an answer that is not by the shared secret")
	}
	at := -1
	for i := 20; i+2 <= len(b) && b[i+1] >= 2; i += int(b[i+1]) {
		if radius.Type(b[i]) == messageAuthenticator && b[i+1] == 2+md5.Size && i+2+md5.Size <= len(b) {
			at = i + 2
		}
	}
	switch {
	case at < 0 && strict:
		return nil, errors.New("an answer without a Message-Authenticator")
	case at < 0:
		return response, nil
	}
	zeroed := append([]byte(nil), b...)
	copy(zeroed[4:20], request[4:20]) // RFC 3579 §3.2: by the request's authenticator
	clear(zeroed[at : at+md5.Size])
	if subtle.ConstantTimeCompare(authenticator(zeroed, secret), b[at:at+md5.Size]) != 1 {
		return nil, errors.New("an answer whose Message-Authenticator does not hold")
	}
	return response, nil
}
