package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// net/http's Transport hands each request to a goroutine that writes and another one that reads: half of what a small
// call costs the agent. Where a backend speaks plain HTTP/1.1 the call's own goroutine does both, in net/http's codecs.

var errHeaderTooLarge = fmt.Errorf("expected a response header of at most %d bytes", maxResponseHeader)

// direct sends one request over a connection of the pool, or a new one.
func (b *Backend) direct(req *http.Request, informed func(status int, header http.Header)) (*http.Response, error) {
	ctx := req.Context()
	for tries := 0; ; tries++ {
		c := b.pool.take()
		if c == nil {
			var err error
			if c, err = b.connect(ctx); err != nil {
				return nil, classify(ctx, err, false)
			}
		}
		e := &directExchange{b: b, conn: c, ctx: ctx, before: c.written.Load()}
		resp, err := e.roundTrip(req, informed)
		if err == nil {
			return resp, nil
		}
		e.end(false)
		sent := e.begun()
		if c.reused && !sent && !e.body.touched() && tries < maxStale && ctx.Err() == nil {
			continue
		}
		if e.body.failed() != nil && ctx.Err() == nil {
			return nil, bodyError(e.body.failed(), sent)
		}
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return nil, classify(ctx, err, sent)
	}
}

// directExchange is one request and its response.
type directExchange struct {
	b       *Backend
	conn    *pooledConn
	ctx     context.Context
	before  int64 // bytes that were written on the connection before
	body    requestBody
	unwatch func() bool
	sent    atomic.Bool // the request is written to its end

	// mu guards:
	mu       sync.Mutex
	answered bool // the response's header has come: its clock is not started any more
}

// writers are for headers, and bodies that are small.
var writers = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}

func (e *directExchange) roundTrip(req *http.Request, informed func(status int, header http.Header)) (*http.Response, error) {
	c := e.conn
	c.room = maxResponseHeader
	e.unwatch = context.AfterFunc(e.ctx, c.abort) // which wakes whoever reads or writes
	out := new(http.Request)
	*out = *req
	out.Close = false
	var wanted chan struct{}
	if req.Body == nil || req.Body == http.NoBody {
		out.Body = nil
		if err := e.send(out); err != nil {
			return nil, err
		}
	} else {
		e.body.src = req.Body
		out.Body = &e.body
		if httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue") {
			wanted = make(chan struct{})
			out.Body = &heldBody{&e.body, wanted}
		}
		go e.sendBody(out)
	}
	for {
		resp, err := http.ReadResponse(c.br, req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 {
			return e.take(resp, wanted), nil
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			return nil, errUnasked
		}
		if resp.StatusCode == http.StatusContinue && wanted != nil {
			close(wanted)
			wanted = nil
		}
		if informed != nil {
			informed(resp.StatusCode, resp.Header)
			c.room = maxResponseHeader // whoever hears of each one bounds them
		}
	}
}

var errUnasked = errors.New("101 Switching Protocols without an Upgrade in the request")

// send writes the request, and starts the clock of its response.
func (e *directExchange) send(req *http.Request) error {
	bw := writers.Get().(*bufio.Writer)
	bw.Reset(e.conn.countedConn)
	err := req.Write(bw)
	if err == nil {
		err = bw.Flush()
	}
	bw.Reset(nil)
	writers.Put(bw)
	e.sent.Store(err == nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.b.header > 0 && !e.answered {
		_ = e.conn.SetReadDeadline(time.Now().Add(e.b.header)) // fails only where the read fails too
	}
	return err
}

// sendBody sends a request with a body. A connection that takes no more may have given an answer, which the reader
// finds; one that took nothing has none, and half a request that is the caller's fault gets none.
func (e *directExchange) sendBody(req *http.Request) {
	if err := e.send(req); err != nil && (e.body.failed() != nil || !e.begun()) {
		_ = e.conn.Close()
	}
}

// begun reports whether the backend may have seen the request.
func (e *directExchange) begun() bool { return e.conn.written.Load() != e.before }

// take gives the final response the body that ends the exchange with it.
func (e *directExchange) take(resp *http.Response, wanted chan struct{}) *http.Response {
	e.mu.Lock()
	e.answered = true
	e.mu.Unlock()
	_ = e.conn.SetReadDeadline(time.Time{}) // fails only where the next read fails too
	e.conn.room = math.MaxInt64
	if wanted != nil { // it is not wanted
		_ = e.body.Close()
		close(wanted)
	}
	if resp.Body == http.NoBody {
		e.end(!resp.Close)
		return resp
	}
	resp.Body = &directBody{src: resp.Body, e: e, keep: !resp.Close}
	return resp
}

// end ends the exchange: it keeps the connection where the exchange was whole and the backend keeps it too.
func (e *directExchange) end(keep bool) {
	_ = e.body.Close() // a writer that comes late takes nothing from the next try
	if stopped := e.unwatch(); keep && stopped && e.sent.Load() && e.conn.br.Buffered() == 0 {
		e.b.pool.put(e.conn)
		return
	}
	_ = e.conn.Close()
}

// directBody is a response's body.
type directBody struct {
	src  io.Reader
	e    *directExchange
	keep bool
	err  error // what it ended with
}

func (b *directBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if err != nil {
		b.err = err
		b.e.end(b.keep && err == io.EOF)
	}
	return n, err
}

// Close gives up what was not read.
func (b *directBody) Close() error {
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
		b.e.end(false)
	}
	return nil
}

// heldBody waits until the backend wants it, or has said nothing for a time.
type heldBody struct {
	*requestBody
	wanted <-chan struct{} // nil once it was waited for
}

func (h *heldBody) Read(p []byte) (int, error) {
	if h.wanted != nil {
		clock := time.NewTimer(continueTimeout)
		defer clock.Stop()
		select {
		case <-h.wanted:
		case <-clock.C:
		}
		h.wanted = nil
	}
	return h.requestBody.Read(p)
}
