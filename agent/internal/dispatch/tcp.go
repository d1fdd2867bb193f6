package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
)

// serveTCP connects to the backend and carries bytes until both directions have ended.
func (c *call) serveTCP(ctx context.Context) {
	dialCtx, cancel := ctx, context.CancelFunc(func() {})
	if c.open.Timeout > 0 {
		dialCtx, cancel = context.WithTimeout(ctx, c.open.Timeout)
	}
	var preamble []byte
	if c.tunnel.cfg.Identify.ProxyProtocol {
		preamble = c.proxyHeader()
	}
	conn, err := c.tunnel.backend.Dial(dialCtx, preamble)
	cancel()
	if !c.connected(err) {
		return
	}
	defer conn.Close()
	if !c.opened() {
		return
	}
	c.report.In, c.report.Out, err = link.Splice(ctx, c.stream, conn)
	if err != nil {
		c.failed(spliceError(err))
	}
}

// connected refuses the call where the backend could not be reached, and reports whether it could.
func (c *call) connected(err error) bool {
	c.report.Wait = time.Since(c.started)
	if err != nil {
		c.refuse(protocol.AsError(err))
	}
	return err == nil
}

// opened tells the relay that the call has begun, and reports whether it still could be told.
func (c *call) opened() bool {
	err := c.answer(&protocol.Opened{}, link.Stream.Write)
	if err != nil {
		c.stream.Reset(uint16(protocol.LinkLost))
		c.failed(peerError(err))
		return false
	}
	c.report.Sent = true
	return true
}

// spliceError tells who broke a TCP call off: the peer, the link, or else the backend.
func spliceError(err error) *protocol.Error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*link.ResetError](err); ok || errors.Is(err, link.ErrLost) || errors.Is(err, context.Canceled) {
		return peerError(err)
	}
	return &protocol.Error{
		Code: protocol.BackendProtocol, Sent: true, Sentence: "the connection to the backend broke off", Cause: err,
	}
}

// peerError is the end of a stream from the other side.
func peerError(err error) *protocol.Error {
	e := &protocol.Error{Code: protocol.LinkLost, Sent: true, Sentence: "the link broke off", Cause: err}
	if reset, ok := errors.AsType[*link.ResetError](err); ok {
		e.Code, e.Sentence = protocol.Code(reset.Code), "the call was given up"
	}
	return e
}
