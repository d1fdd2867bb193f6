package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// connect carries a CONNECT: the bytes of one TCP connection; or the capsules of one UDP flow.
func (c *call) connect(w http.ResponseWriter, r *http.Request) {
	stream, _, err := c.gateway.cfg.Router.Open(c.ctx, c.open(), nil)
	switch {
	case c.revoked.Load() != nil:
		if err == nil {
			stream.Reset(link.CodeCanceled)
		}
		c.refuse(w, c.revoked.Load())
		return
	case c.ctx.Err() != nil:
		if err == nil {
			stream.Reset(link.CodeCanceled)
		}
		panic(http.ErrAbortHandler) // nobody is left to answer
	case err != nil:
		c.refuse(w, err)
		return
	}
	defer stream.Close()
	caller, err := c.accept(w, r)
	if err != nil {
		stream.Reset(link.CodeCanceled)
		c.carried(0, 0, err)
		panic(http.ErrAbortHandler)
	}
	defer caller.Close()
	up, down, err := link.Splice(c.ctx, caller, stream)
	c.carried(up, down, err)
}

// carried logs how a TCP call ended.
func (c *call) carried(up, down int64, err error) {
	c.done = true
	c.up.Store(up)
	c.down.Store(down)
	level := slog.LevelDebug
	switch e := c.revoked.Load(); {
	case e != nil:
		c.code = e.Code
	case err == nil:
	case errors.Is(err, link.ErrLost):
		c.code, level = protocol.LinkLost, slog.LevelWarn
	default:
		c.code = protocol.Canceled
	}
	c.log(level, "call ended", slog.Int64("bytes_up", up), slog.Int64("bytes_down", down), slog.Any("error", err))
}

// streamTaker is what the writer of an HTTP/3 answer offers: the bare stream, once the header has been sent.
type streamTaker interface {
	TakeStream() (link.Duplex, error)
}

// accept says 200 to a CONNECT, or 101, and returns the caller's end of the bytes.
func (c *call) accept(w http.ResponseWriter, r *http.Request) (link.Duplex, error) {
	if r.ProtoMajor == 1 {
		return c.acceptHTTP1(w)
	}
	c.mark(w.Header())
	w.Header().Set("Proxy-Status", c.connected())
	w.WriteHeader(http.StatusOK)
	if t, ok := w.(streamTaker); ok {
		return t.TakeStream()
	}
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return nil, fmt.Errorf("answering CONNECT: %w", err)
	}
	return &h2Caller{body: r.Body, w: w, control: control}, nil
}

func (c *call) connected() string { return fmt.Sprintf(`fairlead; call_id=%q`, c.id) }

func (c *call) acceptHTTP1(w http.ResponseWriter) (link.Duplex, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("taking the connection over: %w", err)
	}
	caller, err := newH1Caller(conn, buffered.Reader)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	status := "200 Connection established"
	if c.network == protocol.UDP {
		status = "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + connectUDP + "\r\nCapsule-Protocol: ?1"
	}
	// net/http writes no body length to a CONNECT it does not know the end of; by hand there is none.
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nFairlead-Call-Id: %s\r\nProxy-Status: %s\r\n\r\n", status, c.id, c.connected())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("answering CONNECT: %w", err), conn.Close())
	}
	return caller, nil
}

// carry is connect for the raw bytes of a local door: there is no answer, and a refusal is the end.
func (c *call) carry(caller link.Duplex) {
	ctx := c.ctx
	// No first bytes cross with the Open: a call that may have carried some could not be tried on another link.
	stream, _, err := c.gateway.cfg.Router.Open(ctx, c.open(), nil)
	if err != nil {
		if ctx.Err() == nil {
			c.ended(err)
		}
		return
	}
	defer stream.Close()
	up, down, err := link.Splice(ctx, caller, stream)
	c.carried(up, down, err)
}
