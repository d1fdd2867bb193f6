package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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

const answered = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// answering reads the request whole, answers with text, and reports how the relay ended the stream.
func answering(text string, end bool, ended chan<- error) routetest.Handler {
	return readThen(func(s link.Stream) {
		if routetest.Accept(s) != nil {
			return
		}
		_, _ = io.WriteString(s, text)
		if end {
			_ = s.CloseWrite()
		}
		_, err := io.Copy(io.Discard, s)
		ended <- err
	})
}

// A stream that was reset costs its lane. The agent's end may come behind its answer.
func TestAWholeExchangeEndsItsStreamBothWays(t *testing.T) {
	for _, body := range []string{"", "small", strings.Repeat("x", smallBody+1)} {
		synctest.Test(t, func(t *testing.T) {
			r, ended := newRig(t), make(chan error, 1)
			r.start(routetest.Options{}, readThen(func(s link.Stream) {
				if routetest.Accept(s) != nil {
					return
				}
				_, _ = io.WriteString(s, answered)
				time.Sleep(endTimeout / 2)
				_ = s.CloseWrite()
				_, err := io.Copy(io.Discard, s)
				ended <- err
			}))
			if _, got, err := r.do("POST", body); err != nil || got != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
			if err := <-ended; err != nil {
				t.Errorf("with a body of %d bytes the agent's stream ended with %v, expected an end", len(body), err)
			}
		})
	}
}

func TestACallerThatGoesAwayDoesNotWaitForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, reset := newRig(t), make(chan error, 1)
		r.start(routetest.Options{}, readThen(func(s link.Stream) {
			_, err := io.Copy(io.Discard, s)
			reset <- err
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, _, err := r.send(ctx, "GET", nil)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("got %v after %v, expected the context's end", err, took)
		}
		if e, ok := errors.AsType[*link.ResetError](<-reset); !ok || e.Code != link.CodeCanceled {
			t.Error("the agent was not told by a reset")
		}
	})
}

func TestAnAgentThatDoesNotEndKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := newRig(t), make(chan error, 1)
		a := r.start(routetest.Options{}, readThen(func(s link.Stream) {
			if routetest.Accept(s) != nil {
				return
			}
			_, _ = io.WriteString(s, answered)
			_, _ = io.Copy(io.Discard, s)
			time.Sleep(endTimeout + time.Second)
			_, err := s.Write([]byte("x"))
			ended <- err
		}))
		began := time.Now()
		if _, got, err := r.do("GET", ""); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		if took := time.Since(began); took != 0 || a.Link.Calls() != 0 {
			t.Errorf("the caller waited %v, and %d calls run", took, a.Link.Calls())
		}
		if _, ok := errors.AsType[*link.ResetError](<-ended); !ok {
			t.Errorf("the stream was not reset after %v", endTimeout)
		}
	})
}

func TestBytesBehindTheResponseAreReset(t *testing.T) {
	r, ended := newRig(t), make(chan error, 1)
	r.start(routetest.Options{}, answering(answered+answered, false, ended))
	if _, got, err := r.do("GET", ""); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if e, ok := errors.AsType[*link.ResetError](<-ended); !ok || e.Code != link.CodeCanceled {
		t.Error("the stream was not reset")
	}
}

// sendSized sends a body of announced length.
func (r *rig) sendSized(body io.Reader, length int64, expect string) (int, string, error) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", "http://orders.example/", io.NopCloser(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.ContentLength = length
	if expect != "" {
		req.Header.Set("Expect", expect)
	}
	e := r.Exchange(openHTTP(), true)
	defer e.Close()
	res, err := e.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func TestASmallBodyLeavesWithItsHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := newRig(t), make(chan error, 1)
		var writes atomic.Int32
		wrap := func(s link.Session) link.Session { return &countedWrites{s, &writes} }
		r.start(routetest.Options{Wrap: wrap}, answering(answered, true, ended))
		if _, got, err := r.sendSized(strings.NewReader("body"), 4, ""); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		if n := writes.Load(); n != 1 {
			t.Errorf("%d writes, expected 1", n)
		}
	})
}

func TestAHeaderDoesNotWaitForABodyThatComesLate(t *testing.T) {
	r := newRig(t)
	header, rest := make(chan struct{}), make(chan error, 1)
	r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
		req, err := http.ReadRequest(bufio.NewReader(s))
		close(header)
		if err == nil {
			_, err = io.Copy(io.Discard, req.Body)
		}
		rest <- err
		if routetest.Accept(s) == nil {
			_, _ = io.WriteString(s, answered)
			_ = s.CloseWrite()
			_, _ = io.Copy(io.Discard, s)
		}
	})
	in, out := io.Pipe()
	go func() {
		<-header
		_, _ = io.WriteString(out, "body")
		_ = out.Close()
	}()
	if _, got, err := r.sendSized(in, 4, ""); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := <-rest; err != nil {
		t.Error(err)
	}
}

func TestABodyThatIsNotWantedIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := newRig(t), make(chan error, 1)
		r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
			br := bufio.NewReader(s)
			if _, err := http.ReadRequest(br); err != nil || routetest.Accept(s) != nil {
				return
			}
			_, _ = io.WriteString(s, answered[:len(answered)-1])
			time.Sleep(2 * continueTimeout) // silence would have it sent, an answer does not
			_, _ = io.WriteString(s, answered[len(answered)-1:])
			n, err := io.Copy(io.Discard, br)
			if n > 0 {
				err = fmt.Errorf("%d bytes of a body came", n)
			}
			ended <- err
		})
		read := false
		if _, got, err := r.sendSized(&noted{strings.NewReader("body"), &read}, 4, "100-continue"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		if _, ok := errors.AsType[*link.ResetError](<-ended); !ok || read {
			t.Errorf("the body was read: %v; or what is half a request was not reset", read)
		}
	})
}

type noted struct {
	io.Reader
	read *bool
}

func (n *noted) Read(p []byte) (int, error) {
	*n.read = true
	return n.Reader.Read(p)
}

func TestABackendThatSaysNothingToAnExpectationGetsTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := newRig(t), make(chan error, 1)
		r.start(routetest.Options{}, answering(answered, true, ended))
		began := time.Now()
		if _, got, err := r.sendSized(strings.NewReader("body"), 4, "100-continue"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
		if took := time.Since(began); took != continueTimeout {
			t.Errorf("took %v, expected %v", took, continueTimeout)
		}
	})
}

func TestAnAnswerMayEndBeforeTheRequest(t *testing.T) {
	r, ended := newRig(t), make(chan error, 1)
	r.start(routetest.Options{}, func(_ context.Context, _ *protocol.Open, s link.Stream) {
		if _, err := http.ReadRequest(bufio.NewReader(s)); err != nil || routetest.Accept(s) != nil {
			return
		}
		_, _ = io.WriteString(s, answered)
		_, err := io.Copy(io.Discard, s)
		ended <- err
	})
	in, out := io.Pipe()
	defer out.Close()
	if _, got, err := r.send(t.Context(), "POST", in); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if e, ok := errors.AsType[*link.ResetError](<-ended); !ok || e.Code != link.CodeCanceled {
		t.Error("half a request was not reset")
	}
}

func TestAResponseHeaderWithoutEndIsBackendProtocol(t *testing.T) { // W06
	r := newRig(t)
	r.start(routetest.Options{}, readThen(func(s link.Stream) {
		if routetest.Accept(s) != nil {
			return
		}
		_, err := io.WriteString(s, "HTTP/1.1 200 OK\r\n")
		for line := "X: " + strings.Repeat("x", 1000) + "\r\n"; err == nil; {
			_, err = io.WriteString(s, line)
		}
	}))
	_, _, err := r.do("GET", "")
	r.wantFault(err, protocol.BackendProtocol, true)
}

func TestWhatHTTPCannotCarryReachesNoAgent(t *testing.T) { // W01
	for name, change := range map[string]func(*http.Request){
		"header name":  func(r *http.Request) { r.Header["A\r\nB"] = []string{"x"} },
		"header value": func(r *http.Request) { r.Header["A"] = []string{"x\r\nB: y"} },
		"trailer name": func(r *http.Request) { r.Trailer = http.Header{"A: b\r\nC": nil} },
		"method":       func(r *http.Request) { r.Method = "GET /x HTTP/1.1\r\nA:" },
	} {
		r := newRig(t)
		var calls counted
		r.start(routetest.Options{}, calls.by(readThen(func(link.Stream) {})))
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://orders.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		e := r.Exchange(openHTTP(), true)
		_, err = e.RoundTrip(req)
		e.Close()
		if fault := protocol.AsError(err); err == nil || fault.Code != protocol.BadRequest || fault.Sent || calls.count() > 0 {
			t.Errorf("%s: %v, and %d calls; expected bad_request and none", name, err, calls.count())
		}
	}
}

func TestInformationalAnswersAreHeard(t *testing.T) {
	r, ended := newRig(t), make(chan error, 1)
	r.start(routetest.Options{}, answering("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+answered, true, ended))
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://orders.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	e := r.Exchange(openHTTP(), true)
	defer e.Close()
	e.Informed = func(status int, h http.Header) { heard = append(heard, fmt.Sprint(status, h.Get("Link"))) }
	res, err := e.RoundTrip(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v, %v", res, err)
	}
	res.Body.Close()
	if fmt.Sprint(heard) != "[103</a> 102]" {
		t.Errorf("heard %q", heard)
	}
}
