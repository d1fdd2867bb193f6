// Package routetest is a small agent for tests of the relay's side: it speaks the contract of a data stream over a link
// in memory, and carries to a real backend. It checks no rules; package dispatch is the real one.
package routetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/protocol/link/memlink"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// Handler serves one data stream, whose Open was read, to its end.
type Handler func(ctx context.Context, o *protocol.Open, s link.Stream)

// Agent is one link of an agent.
type Agent struct {
	Link    *registry.Link
	Session *memlink.Session // the agent's end
}

// Options say how an agent shows itself; zero values are good ones.
type Options struct {
	ID      certs.ID
	Name    string
	Epoch   uint64
	Slot    uint16
	Config  link.Config // of the agent's end: what it admits
	Suspect func() bool
	Tokens  []protocol.TunnelName // at which it wants the caller's own token
	// Wrap changes the relay's end of the session.
	Wrap func(link.Session) link.Session
}

// Start connects an agent that serves tunnels with h, until the test ends.
func Start(t testing.TB, r *registry.Registry, o Options, h Handler, tunnels ...protocol.TunnelName) *Agent {
	t.Helper()
	agent, relay := memlink.Pair(o.Config, link.Config{})
	var session link.Session = relay
	if o.Wrap != nil {
		session = o.Wrap(relay)
	}
	if o.Name == "" {
		o.Name = "a"
	}
	l, _, err := r.Add(registry.Offer{
		Session: session, Agent: o.ID, Name: o.Name, Epoch: o.Epoch, Slot: o.Slot, Tunnels: tunnels, Suspect: o.Suspect, Tokens: o.Tokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			s, err := agent.Accept(ctx)
			if err != nil {
				return
			}
			running.Go(func() { serve(ctx, s, h) })
		}
	})
	t.Cleanup(func() {
		cancel()
		agent.Close(nil)
		relay.Close(nil)
		running.Wait()
		r.Remove(l)
	})
	return &Agent{Link: l, Session: agent}
}

func serve(ctx context.Context, s link.Stream, h Handler) {
	defer s.Close()
	o, err := protocol.ReadOpen(s)
	if err != nil {
		s.Reset(uint16(protocol.Internal))
		return
	}
	h(ctx, o, s)
}

// Accept says that the backend was reached.
func Accept(s link.Stream) error { return protocol.Write(s, &protocol.Opened{}) }

// Refuse answers with a coded refusal, and waits for the relay to have read it.
func Refuse(s link.Stream, code protocol.Code, sent bool) {
	if protocol.Write(s, &protocol.Opened{Code: code, Sentence: "refused by the test", Sent: sent}) == nil && s.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, s) // until the relay lets go
	}
}

// Refuser refuses every call.
func Refuser(code protocol.Code, sent bool) Handler {
	return func(_ context.Context, _ *protocol.Open, s link.Stream) { Refuse(s, code, sent) }
}

// TCP carries to a backend's address.
func TCP(address string) Handler {
	return func(ctx context.Context, _ *protocol.Open, s link.Stream) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			Refuse(s, protocol.BackendUnreachable, false)
			return
		}
		defer conn.Close()
		if Accept(s) == nil {
			_, _, _ = link.Splice(ctx, conn.(*net.TCPConn), s)
		}
	}
}

// HTTP carries each exchange to a backend's host:port.
func HTTP(address string) Handler {
	return func(ctx context.Context, _ *protocol.Open, s link.Stream) {
		if err := exchange(ctx, address, s); err != nil {
			s.Reset(uint16(protocol.BackendProtocol))
		}
	}
}

func exchange(ctx context.Context, address string, s link.Stream) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := bufio.NewReader(s)
	req, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		Refuse(s, protocol.BackendUnreachable, false)
		return nil
	}
	defer conn.Close()
	opened := sync.OnceValue(func() error { return Accept(s) })
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true, DisableCompression: true, ExpectContinueTimeout: 1 << 40,
	}
	watch := &watched{ReadCloser: req.Body, in: in, gone: cancel}
	if req.Header.Get("Upgrade") == "" {
		req.Body = watch
		if req.ContentLength == 0 {
			watch.ended()
		}
		defer func() {
			if err != nil {
				s.Reset(uint16(protocol.BackendProtocol))
			}
			watch.watching.Wait()
		}()
	}
	req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", address
	res, err := transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if err := opened(); err != nil {
				return err
			}
			_, err := fmt.Fprintf(s, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
			if err == nil {
				err = http.Header(h).Write(s)
			}
			if err == nil {
				_, err = io.WriteString(s, "\r\n")
			}
			return err
		},
	})))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := opened(); err != nil {
		return err
	}
	if res.StatusCode == http.StatusSwitchingProtocols && req.Body == watch { // unasked
		res.Body = http.NoBody
		return res.Write(s)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return switchProtocols(ctx, s, in, res)
	}
	if err := res.Write(s); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	watch.drain()
	return nil
}

func switchProtocols(ctx context.Context, s link.Stream, in *bufio.Reader, res *http.Response) error {
	backend := res.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	res.Body = http.NoBody
	if err := res.Write(s); err != nil {
		return err
	}
	_, _, err := link.Splice(ctx, backend, &early{s, in})
	return err
}

// early reads what the reader of the request has read too much.
type early struct {
	link.Stream
	in *bufio.Reader
}

func (e *early) Read(p []byte) (int, error) { return e.in.Read(p) }

// watched notices that the relay has let go of a call: at once while the body is read, and behind its end.
type watched struct {
	io.ReadCloser
	in       *bufio.Reader
	gone     func()
	reading  sync.Mutex
	once     sync.Once
	watching sync.WaitGroup
}

func (w *watched) Read(p []byte) (int, error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	n, err := w.ReadCloser.Read(p)
	if err == io.EOF {
		w.ended()
	}
	return n, err
}

func (w *watched) ended() {
	w.once.Do(func() {
		w.watching.Go(func() {
			if _, err := w.in.Peek(1); err != io.EOF {
				w.gone()
			}
		})
	})
}

// drain waits for the relay to end its direction: before that, closing the stream would be a reset, which may overtake
// the answer.
func (w *watched) drain() {
	_, _ = io.Copy(io.Discard, w)
}
