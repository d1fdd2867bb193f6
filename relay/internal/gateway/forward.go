package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/limit"
	"github.com/fairlead/fairlead/relay/internal/route"
)

// forward carries an HTTP call. It panics with http.ErrAbortHandler where the answer breaks off, so that the caller's
// server cuts the answer visibly.
func (c *call) forward(w http.ResponseWriter, r *http.Request) {
	t := c.decision.Tunnel
	if t.Body > 0 && r.ContentLength > t.Body {
		c.refuse(w, tooLarge(t.Body))
		return
	}
	control := http.NewResponseController(w)
	// HTTP/1.1 callers may send on while they receive; the other protocols always may.
	_ = control.EnableFullDuplex()
	ctx := c.watchStillness(r, control)
	defer c.still.end()
	exchange := c.gateway.cfg.Router.Exchange(c.open(), true)
	defer exchange.Close()
	defer c.brokenOff(exchange)
	exchange.Informed = func(status int, header http.Header) { inform(w, status, header) }
	out, err := c.outgoing(ctx, control)
	if err != nil {
		c.refuse(w, err)
		return
	}
	if c.form != nil {
		defer c.form.Close()
	}
	res, err := exchange.RoundTrip(out)
	switch {
	case err != nil:
		c.failed(ctx, w, err)
	case res.StatusCode == http.StatusSwitchingProtocols:
		err = c.switchProtocols(ctx, w, control, res)
	default:
		err = c.answer(w, control, res, exchange.Buffered())
	}
	if err != nil && !c.done {
		panic(http.ErrAbortHandler)
	}
	if c.code == protocol.OK {
		c.done = true
		c.log(slog.LevelDebug, "call carried")
	}
}

// brokenOff logs a call whose answer had begun and did not end.
func (c *call) brokenOff(exchange *route.Exchange) {
	if c.done {
		return
	}
	c.code = protocol.Canceled
	level := slog.LevelDebug
	err := exchange.Err()
	if c.still.ended() {
		err = errStill
	}
	if e := c.revoked.Load(); e != nil {
		err = e
	}
	if err != nil {
		c.code, level = protocol.AsError(err).Code, slog.LevelWarn
	}
	c.log(level, "call broke off", slog.Any("error", err))
}

// outgoing is the request for the agent. Nothing that the relay sets can be named in the caller's Connection.
func (c *call) outgoing(ctx context.Context, control *http.ResponseController) (*http.Request, error) {
	r := c.in
	out := r.WithContext(ctx)
	out.Header = c.header(r)
	if q := query(r.URL.RawQuery); q != r.URL.RawQuery {
		u := *r.URL
		u.RawQuery, out.URL = q, &u
	}
	out.Close, out.Trailer = false, nil
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		out.Body = nil
		return out, nil
	}
	body, err := c.checkForm(r, c.limitBody(control, r))
	if err != nil {
		return nil, err
	}
	out.Body = body
	if len(r.Trailer) > 0 {
		c.trailers(out)
	}
	return out, nil
}

// header is what the agent gets of the caller's, and what the relay says.
func (c *call) header(r *http.Request) http.Header {
	h := make(http.Header, len(r.Header)+8)
	forwardToken := c.decision.Tunnel.ForwardToken && c.decision.Token != "" // and no secret of an app
	passOn(h, r.Header, func(name string) bool { return kept(name, forwardToken) })
	if httpguts.HeaderValuesContainsToken(r.Header["Te"], "trailers") {
		h["Te"] = []string{"trailers"}
	}
	if to := upgrade(r.Header); to != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{to}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http would make one up
	}
	values := make([]string, 0, 8)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	setForwarded(set, c.source, r.Host, scheme(r))
	set("Fairlead-Call-Id", c.id)
	set("Fairlead-Tunnel", string(c.decision.Tunnel.Name))
	if caller := c.decision.Principal.Caller; !caller.IsZero() {
		set("Fairlead-Caller", caller.String())
	}
	return h
}

// scheme is how the caller has come.
func scheme(r *http.Request) string {
	if r.TLS == nil {
		return "http"
	}
	return "https"
}

// trailers passes the caller's trailers on: their names now, their values with the end of the body.
func (c *call) trailers(out *http.Request) {
	in, names := c.in, c.in.Trailer.Clone()
	strip(names, false)
	out.Trailer = names
	out.Body = &atEnd{ReadCloser: out.Body, end: func() {
		for name := range names {
			names[name] = in.Trailer[name]
		}
	}}
}

// inform passes an informational answer on.
func inform(w http.ResponseWriter, status int, header http.Header) {
	h := w.Header()
	final := maps.Clone(h)
	clear(h)
	passOn(h, header, keptAnswer)
	w.WriteHeader(status)
	clear(h) // net/http keeps it for the next answer
	maps.Copy(h, final)
}

// answerHeader makes the caller's answer of an agent's.
func (c *call) answerHeader(h http.Header, res *http.Response) {
	passOn(h, res.Header, keptAnswer)
	c.mark(h)
	c.sayQuota(h)
	h["Proxy-Status"] = append(h["Proxy-Status"], "fairlead; received-status="+strconv.Itoa(res.StatusCode)+`; call_id="`+c.id+`"`)
}

// answer passes the final answer on, of whose body buffered bytes are there. Whoever waits for a byte gets it; what is
// whole leaves in one piece. An error is that it broke off.
func (c *call) answer(w http.ResponseWriter, control *http.ResponseController, res *http.Response, buffered int) error {
	h := w.Header()
	c.answerHeader(h, res)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http would guess one
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		c.still.stop()
	}
	stripAnswer(res.Trailer)
	announced := len(res.Trailer)
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	c.status = res.StatusCode
	w.WriteHeader(res.StatusCode)
	if res.Body == http.NoBody {
		return nil
	}
	if buffered == 0 {
		if err := control.Flush(); err != nil {
			return err
		}
	}
	if err := c.copyBody(w, control, res); err != nil {
		return err
	}
	stripAnswer(res.Trailer)
	prefix := ""
	if len(res.Trailer) != announced { // some were not announced
		prefix = http.TrailerPrefix
	}
	if len(res.Trailer) > 0 {
		// Or net/http would give a short body a length, and then no trailers.
		if err := control.Flush(); err != nil {
			return err
		}
	}
	for name, vv := range res.Trailer {
		h[prefix+name] = vv
	}
	return nil
}

// copyBody passes the body on, each piece as it comes; the last one leaves with the answer's end.
func (c *call) copyBody(w io.Writer, control *http.ResponseController, res *http.Response) error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := res.Body.Read(buf[:])
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			c.down.Add(int64(n))
			c.still.touch()
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
	}
}

// buffers are for bodies on their way to callers.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// switchProtocols carries the bytes behind a 101 both ways. One that was not asked for is no answer. An error is that
// the call broke off.
func (c *call) switchProtocols(ctx context.Context, w http.ResponseWriter, control *http.ResponseController, res *http.Response) error {
	stream, ok := res.Body.(link.Duplex)
	to := upgrade(res.Header)
	if !ok || to == "" || !strings.EqualFold(to, upgrade(c.in.Header)) {
		c.failed(ctx, w, errUnasked)
		return errUnasked
	}
	c.still.stop()
	h := w.Header()
	c.answerHeader(h, res)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{to}
	conn, buffered, err := control.Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	caller, err := newH1Caller(conn, buffered.Reader)
	if err != nil {
		return err
	}
	res.Header, res.Body = h, nil
	if err := errors.Join(res.Write(buffered), buffered.Flush()); err != nil {
		return err
	}
	c.status = res.StatusCode
	up, down, err := link.Splice(ctx, caller, stream)
	c.up.Add(up)
	c.down.Add(down)
	return err
}

var errUnasked = errors.New("expected no switch of protocols, or the one that was asked for")

// failed answers a call that got no response.
func (c *call) failed(ctx context.Context, w http.ResponseWriter, err error) {
	e := c.fault(ctx, err)
	if e == nil {
		panic(http.ErrAbortHandler)
	}
	c.refuse(w, e)
}

// fault says why there is no response; nil where nobody is left to hear it.
func (c *call) fault(ctx context.Context, err error) *protocol.Error {
	if e := c.revoked.Load(); e != nil {
		return e
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		e := tooLarge(large.Limit)
		e.Sent = true // a part of it was on its way
		return e
	}
	if form, ok := errors.AsType[*limit.FormError](err); ok {
		return &protocol.Error{Code: protocol.BadRequest, Sentence: form.What, Sent: true, Cause: err} // a part of it was on its way
	}
	if c.late.Load() {
		return &protocol.Error{Code: protocol.RequestTimeout, Sentence: "the body came too slowly", Sent: true, Cause: err}
	}
	if c.still.ended() {
		return errStill
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	if _, ok := errors.AsType[*route.BodyError](err); ok {
		return &protocol.Error{Code: protocol.BadRequest, Sentence: "the body ended before its end", Sent: true, Cause: err}
	}
	// An answer that switches protocols unasked.
	return &protocol.Error{Code: protocol.BackendProtocol, Sentence: "the backend broke the protocol", Sent: true, Cause: err}
}

func tooLarge(limit int64) *protocol.Error {
	return protocol.Errorf(protocol.BodyTooLarge, "a body of at most %d bytes is expected", limit)
}

// atEnd calls end once, before it passes io.EOF on.
type atEnd struct {
	io.ReadCloser
	end  func()
	done bool
}

func (r *atEnd) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF && !r.done {
		r.done = true
		r.end()
	}
	return n, err
}
