// Package enroll carries requests to the authority behind the relay, and its answers back: from agents' links, and from
// whoever connects with protocol.ALPNEnroll. What a request may do it proves itself; here only its size and how many there
// are count.
//
// It reads neither requests nor answers.
package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/authority"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link/control"
)

const (
	// What strangers may ask of the authority, all of them together. Agents' links are not counted here.
	strangersPerSecond, strangersBurst = 50, 100
	// askTimeout bounds one request.
	askTimeout = 10 * time.Second
)

// Carrier carries requests. Its methods are safe for concurrent use.
type Carrier struct {
	ask       authority.Ask
	strangers *rate.Limiter
	log       *slog.Logger
}

// ErrNoAuthority is what ask returns where there is none.
var ErrNoAuthority = errors.New("this relay has no authority behind it")

// New makes a carrier.
func New(ask authority.Ask, log *slog.Logger) *Carrier {
	return &Carrier{ask: ask, strangers: rate.NewLimiter(strangersPerSecond, strangersBurst), log: log}
}

// Answer asks the authority for an agent whose link stands. It blocks until the authority has answered.
func (c *Carrier) Answer(ctx context.Context, m *protocol.Ask) *protocol.Answer {
	refuse := func(code protocol.Code, sentence string) *protocol.Answer {
		return &protocol.Answer{Number: m.Number, Code: code, Sentence: sentence}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := c.ask(ctx, m.Request)
	if errors.Is(err, ErrNoAuthority) {
		return refuse(protocol.IdentityUnavailable, err.Error())
	}
	if err == nil && len(answer) > protocol.MaxAnswer {
		err = fmt.Errorf("an answer of %d bytes", len(answer))
	}
	if err != nil {
		c.log.Error("the authority does not answer", "error", err)
		return refuse(protocol.IdentityUnavailable, "the authority behind this relay does not answer")
	}
	return &protocol.Answer{Number: m.Number, Answer: answer}
}

// Serve answers a stranger's requests, one after the other, until the connection ends; who owns it closes it.
func (c *Carrier) Serve(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	log := c.log.With("remote", conn.RemoteAddr().String())
	for {
		m, err := protocol.ReadAsk(conn)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), ctx.Err() != nil:
			return
		case errors.Is(err, protocol.ErrMalformed): // no byte of a body beyond the limit was read
			log.Warn("request refused", "security", true, "error", fmt.Sprintf("%.200s", err))
			_ = protocol.Write(conn, &protocol.Answer{Code: protocol.BodyTooLarge, Sentence: "an Ask within its limit is expected"})
			return
		case err != nil:
			log.Debug("connection ended", "error", err)
			return
		}
		answer := &protocol.Answer{Number: m.Number, Code: protocol.RateLimited, Sentence: "too many ask at once: try again in a moment"}
		if c.strangers.Allow() {
			answer = c.Answer(ctx, m)
		}
		if err := protocol.Write(conn, answer); err != nil {
			log.Debug("connection ended", "error", err)
			return
		}
	}
}

// Remote asks by another relay, for a relay that has no authority of its own. It keeps a connection while it can. It is
// safe for concurrent use.
type Remote struct {
	address string
	source  func() certs.Source

	mu   sync.Mutex // one request at a time; guards: conn
	conn *tls.Conn
}

// NewRemote dials nobody; source says which relays are believed: any whose SVID verifies, since answers are signed.
func NewRemote(address string, source func() certs.Source) *Remote {
	return &Remote{address: address, source: source}
}

// Ask is an authority.Ask.
func (r *Remote) Ask(ctx context.Context, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.conn != nil
	answer, err := r.ask(ctx, request)
	if _, refused := errors.AsType[*protocol.Error](err); err != nil && kept && !refused {
		answer, err = r.ask(ctx, request) // the relay had closed what was kept; asking twice does no harm
	}
	return answer, err
}

func (r *Remote) ask(ctx context.Context, request []byte) ([]byte, error) {
	if r.conn == nil {
		host, _, err := net.SplitHostPort(r.address)
		if err != nil {
			return nil, err
		}
		d := &tls.Dialer{Config: certs.ClientConfig(r.source(), host, []string{protocol.ALPNEnroll}, certs.AnyID)}
		conn, err := d.DialContext(ctx, "tcp", r.address)
		if err != nil {
			return nil, err
		}
		r.conn = conn.(*tls.Conn)
	}
	conn := r.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answer, err := control.AskOn(conn, request)
	if err != nil || !stop() {
		r.conn = nil
		return nil, errors.Join(err, context.Cause(ctx), conn.Close())
	}
	return answer, nil
}

// Close closes the connection that is kept.
func (r *Remote) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.Close() // nothing is under way
		r.conn = nil
	}
}
