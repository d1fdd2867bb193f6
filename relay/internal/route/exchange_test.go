package route

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/route/routetest"
)

func TestAnHTTPCallIsOneExchangeOnItsOwnStream(t *testing.T) {
	r := newRig(t)
	a := r.start(routetest.Options{}, routetest.HTTP(echo(t, "backend")))
	for _, body := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
		status, got, err := r.do("POST", body)
		if err != nil || status != 200 || got != "backend POST "+body {
			t.Fatalf("status %d, %d bytes, %v; expected the body of %d back", status, len(got), err, len(body))
		}
	}
	if a.Link.Calls() != 0 {
		t.Fatalf("%d calls run after their end, expected 0", a.Link.Calls())
	}
}

func TestOpenAndRequestLeaveInOneWrite(t *testing.T) {
	r := newRig(t)
	var writes atomic.Int32
	r.start(routetest.Options{Wrap: func(s link.Session) link.Session { return &countedWrites{s, &writes} }}, routetest.HTTP(echo(t, "backend")))
	if _, _, err := r.do("GET", ""); err != nil {
		t.Fatal(err)
	}
	if n := writes.Load(); n != 1 {
		t.Fatalf("%d writes, expected 1", n)
	}
}

type countedWrites struct {
	link.Session
	n *atomic.Int32
}

func (s *countedWrites) Open(ctx context.Context) (link.Stream, error) {
	st, err := s.Session.Open(ctx)
	return &countedStream{st, s.n}, err
}

type countedStream struct {
	link.Stream
	n *atomic.Int32
}

func (s *countedStream) Write(p []byte) (int, error) {
	s.n.Add(1)
	return s.Stream.Write(p)
}

// readThen reads the whole request and then does what a link can suffer.
func readThen(what func(s link.Stream)) routetest.Handler {
	return func(_ context.Context, _ *protocol.Open, s link.Stream) {
		req, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		what(s)
	}
}

func TestACodedRefusalIsTriedElsewhereWithTheBodyAgain(t *testing.T) {
	for _, method := range []string{"GET", "POST", "PUT"} {
		r := newRig(t)
		var refusals counted
		r.start(routetest.Options{Name: "bad"}, refusals.by(readThen(func(s link.Stream) { routetest.Refuse(s, protocol.AgentDenied, false) })))
		r.start(routetest.Options{Name: "good"}, routetest.HTTP(echo(t, "good")))
		body := strings.Repeat("b", keep)
		for range 20 {
			if _, got, err := r.do(method, body); err != nil || got != "good "+method+" "+body {
				t.Fatalf("%s: %d bytes, %v", method, len(got), err)
			}
		}
		if refusals.count() == 0 {
			t.Fatal("the bad agent was never asked: the test shows nothing")
		}
	}
}

func TestALongBodyIsNotSentTwice(t *testing.T) {
	r := newRig(t)
	var calls counted
	for _, name := range []string{"a", "b"} {
		r.start(routetest.Options{Name: name}, calls.by(readThen(func(s link.Stream) { routetest.Refuse(s, protocol.AgentDenied, false) })))
	}
	_, _, err := r.do("POST", strings.Repeat("b", keep+1))
	r.wantFault(err, protocol.AgentDenied, false)
	if calls.count() != 1 {
		t.Fatalf("%d agents were asked, expected 1", calls.count())
	}
}

// lose starts agents that read each call whole, and then lose their link.
func lose(r *rig, calls *counted, names ...string) {
	for _, name := range names {
		var a *routetest.Agent
		started := make(chan struct{})
		a = r.start(routetest.Options{Name: name}, calls.by(readThen(func(link.Stream) {
			<-started
			go a.Session.Close(nil) // Close waits for nobody here, but a handler must not hold its own session
		})))
		close(started)
	}
}

func TestOnlySafeCallsAreRepeatedAfterTheLinkWasLost(t *testing.T) {
	for _, c := range []struct {
		method, body string
		tries        int
	}{
		{"GET", "", 2}, {"HEAD", "", 2}, {"OPTIONS", "", 2}, {"POST", "", 1}, {"PATCH", "x", 1}, {"POST", "x", 1},
		{"PUT", "short", 2}, {"DELETE", "", 2}, {"PUT", strings.Repeat("x", keep+1), 1},
	} {
		r := newRig(t)
		var calls counted
		lose(r, &calls, "a", "b")
		_, _, err := r.do(c.method, c.body)
		r.wantFault(err, protocol.LinkLost, true)
		if calls.count() != c.tries {
			t.Errorf("%s with %d bytes was tried %d times, expected %d", c.method, len(c.body), calls.count(), c.tries)
		}
	}
}

func TestAPutWhoseBodyIsNotAllKeptIsNotRepeated(t *testing.T) {
	r := newRig(t)
	var calls counted
	in, out := io.Pipe()
	for _, name := range []string{"a", "b"} {
		var a *routetest.Agent
		started := make(chan struct{})
		a = r.start(routetest.Options{Name: name}, calls.by(func(_ context.Context, _ *protocol.Open, s link.Stream) {
			<-started
			if req, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
				_, _ = io.ReadFull(req.Body, make([]byte, 5))
			}
			go a.Session.Close(nil)
		}))
		close(started)
	}
	go func() { _, _ = io.WriteString(out, "first") }() // and what follows may be long
	_, _, err := r.send(t.Context(), "PUT", in)
	_ = out.Close()
	r.wantFault(err, protocol.LinkLost, true)
	if calls.count() != 1 {
		t.Fatalf("the call was tried %d times, expected once", calls.count())
	}
}

func TestARefusalDoesNotWaitForACallerWhoIsSilent(t *testing.T) {
	for _, sent := range []int{0, 10, keep + 10} {
		r := newRig(t)
		r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
			if req, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
				_, _ = io.ReadFull(req.Body, make([]byte, sent))
			}
			routetest.Refuse(s, protocol.AgentDenied, false)
		})
		in, out := io.Pipe()
		go func() { _, _ = out.Write(make([]byte, sent)) }() // and nothing more
		_, _, err := r.send(t.Context(), "POST", in)
		r.wantFault(err, protocol.AgentDenied, false)
		_ = out.Close()
	}
}

func TestARefusalFromBehindTheBackendIsFinal(t *testing.T) {
	r := newRig(t)
	var calls counted
	for _, name := range []string{"a", "b"} {
		r.start(routetest.Options{Name: name}, calls.by(routetest.Refuser(protocol.BackendTLS, true)))
	}
	_, _, err := r.do("GET", "")
	r.wantFault(err, protocol.BackendTLS, true)
	if calls.count() != 1 {
		t.Fatalf("%d agents were asked, expected 1", calls.count())
	}
}

func TestAnAnswerThatIsNoHTTPIsBackendProtocol(t *testing.T) { // W06
	for name, answer := range map[string]string{
		"garbage": "hello\r\n\r\n", "nothing": "", "half a header": "HTTP/1.1 200 OK\r\nA: b", "no colon": "HTTP/1.1 200 OK\r\nA\r\n\r\n",
		"two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
	} {
		r := newRig(t)
		r.start(routetest.Options{}, readThen(func(s link.Stream) {
			if routetest.Accept(s) == nil {
				_, _ = io.WriteString(s, answer)
				_ = s.CloseWrite()
				_, _ = io.Copy(io.Discard, s)
			}
		}))
		_, _, err := r.do("GET", "")
		if e := protocol.AsError(err); e.Code != protocol.BackendProtocol || !e.Sent {
			t.Errorf("%s: %v, expected backend_protocol", name, err)
		}
	}
}

func TestABackendThatNeverAnswersIsBackendTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(routetest.Options{}, func(ctx context.Context, _ *protocol.Open, s link.Stream) { <-ctx.Done() })
		began := time.Now()
		_, _, err := r.do("GET", "")
		r.wantFault(err, protocol.BackendTimeout, true)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v, expected 5 s", took)
		}
	})
}

func TestACutAnswerIsNeverTakenForItsEnd(t *testing.T) {
	for name, header := range map[string]string{
		"length": "Content-Length: 20\r\n", "chunked": "Transfer-Encoding: chunked\r\n", "until the end": "",
	} {
		r := newRig(t)
		r.start(routetest.Options{}, readThen(func(s link.Stream) {
			if routetest.Accept(s) == nil {
				_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n"+header+"\r\n5\r\nhello\r\n")
				s.Reset(uint16(protocol.BackendProtocol))
			}
		}))
		if _, got, err := r.do("GET", ""); err == nil {
			t.Errorf("%s: an answer of %q that was cut came out whole", name, got)
		}
	}
}

func TestTheCallersBodyFaultIsTheCallers(t *testing.T) {
	r := newRig(t)
	var calls counted
	for _, name := range []string{"a", "b"} {
		r.start(routetest.Options{Name: name}, calls.by(readThen(func(link.Stream) {})))
	}
	cause := errors.New("the caller is bad")
	_, _, err := r.send(t.Context(), "PUT", io.MultiReader(strings.NewReader("good so far"), &broken{cause}))
	if e, ok := errors.AsType[*BodyError](err); !ok || e.Err != cause {
		t.Fatalf("error %v, expected the body's", err)
	}
	if calls.count() > 1 {
		t.Fatalf("%d agents were asked, expected one at most", calls.count())
	}
}

type broken struct{ err error }

func (b *broken) Read([]byte) (int, error) { return 0, b.err }

func TestACallerThatGoesAwayResetsTheStream(t *testing.T) {
	r := newRig(t)
	reset, arrived := make(chan error, 1), make(chan struct{})
	a := r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
		buf := make([]byte, 1)
		if _, err := s.Read(buf); err != nil {
			reset <- err
			return
		}
		close(arrived)
		for {
			if _, err := s.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				reset <- err
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, _, err := r.send(ctx, "GET", nil); !errors.Is(err, context.Canceled) && protocol.AsError(err).Code != protocol.Internal {
		t.Fatalf("error %v, expected the context's end", err)
	}
	if e, ok := errors.AsType[*link.ResetError](<-reset); !ok || e.Code != link.CodeCanceled {
		t.Fatal("the agent was not told by a reset")
	}
	if a.Link.Calls() != 0 {
		t.Fatalf("%d calls run, expected 0", a.Link.Calls())
	}
}

func TestConcurrentCallsNeverMix(t *testing.T) {
	r := newRig(t)
	r.start(routetest.Options{}, routetest.HTTP(echo(t, "backend")))
	done := make(chan error)
	for i := range 50 {
		go func() {
			body := strings.Repeat(string(rune('a'+i%26)), 1000+i)
			_, got, err := r.do(http.MethodPost, body)
			if err == nil && got != "backend POST "+body {
				err = errors.New("somebody else's answer")
			}
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
