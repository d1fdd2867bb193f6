package route

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/fairlead/fairlead/protocol"
	"github.com/fairlead/fairlead/protocol/link"
	"github.com/fairlead/fairlead/relay/internal/registry"
)

// conn is one call's stream, which knows whether anything was written to it and what it broke of.
type conn struct {
	link.Stream
	link *registry.Link

	wrote  atomic.Bool
	failed atomic.Pointer[error] // the first error of either direction that this side did not cause
	ended  atomic.Bool           // by this side
}

// begin counts the call in; Close, Reset and leave count it out.
func (c *conn) begin(l *registry.Link, stream link.Stream) {
	l.Begin()
	c.link, c.Stream = l, stream
}

func (c *conn) Write(p []byte) (int, error) {
	c.wrote.Store(true)
	n, err := c.Stream.Write(p)
	return n, c.note(err)
}

// WriteChunk implements link.ChunkWriter: by the stream's own, or by Write where it has none.
func (c *conn) WriteChunk(b []byte) (int, error) {
	w, ok := c.Stream.(link.ChunkWriter)
	if !ok {
		return c.Write(b[link.ChunkHeaderSize:])
	}
	c.wrote.Store(true)
	n, err := w.WriteChunk(b)
	return n, c.note(err)
}

// MaxChunk implements link.ChunkWriter.
func (c *conn) MaxChunk() int {
	if w, ok := c.Stream.(link.ChunkWriter); ok {
		return w.MaxChunk()
	}
	return link.MaxChunkData
}

// OnBreak implements link.Breaker, where the stream does. What f then ends is not what broke.
func (c *conn) OnBreak(f func(error)) {
	b, ok := c.Stream.(link.Breaker)
	switch {
	case !ok:
	case f == nil:
		b.OnBreak(nil)
	default:
		b.OnBreak(func(err error) { f(c.note(err)) })
	}
}

// peerEnded reports, without waiting, whether the agent's end has arrived.
func (c *conn) peerEnded() bool {
	f, ok := c.Stream.(link.Finisher)
	return ok && f.Ended()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, c.note(err)
}

// readOpened reads the agent's answer from a reader of the stream; a refusal is a *protocol.Error. An end instead of an answer is a broken one.
func (c *conn) readOpened(from io.Reader) error {
	m, err := protocol.ReadOpened(from)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && m.Code != protocol.OK {
		err = &protocol.Error{Code: m.Code, Sentence: m.Sentence, Sent: m.Sent}
	}
	return c.note(err)
}

// note keeps the first error, and a refusal before any other: a Write may fail first because the agent has refused.
func (c *conn) note(err error) error {
	if err == nil || c.ended.Load() {
		return err
	}
	first := err // of its own, so that the usual call, without an error, allocates nothing
	if c.failed.CompareAndSwap(nil, &first) {
		return err
	}
	if _, ok := refused(err); ok {
		c.failed.Store(&first)
	}
	return err
}

// refused finds the agent's refusal of a call; the reason for which a link ended is none.
func refused(err error) (*protocol.Error, bool) {
	if errors.Is(err, link.ErrLost) {
		return nil, false
	}
	return errors.AsType[*protocol.Error](err)
}

// failure is the first error of the stream, nil where there was none.
func (c *conn) failure() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fault says what err, or the stream's own first error, means to the caller.
func (c *conn) fault(err error) *protocol.Error {
	if own := c.failure(); own != nil {
		err = own
	}
	if refusal, ok := refused(err); ok {
		return refusal
	}
	if errors.Is(err, protocol.ErrMalformed) {
		return &protocol.Error{Code: protocol.Internal, Sentence: "internal error", Sent: true, Cause: err}
	}
	return streamFault(err, c.wrote.Load())
}

func (c *conn) Close() error {
	c.leave()
	return c.Stream.Close()
}

func (c *conn) Reset(code uint16) {
	c.leave()
	c.Stream.Reset(code)
}

// leave counts the call out. What the stream says afterwards is this side's doing.
func (c *conn) leave() {
	if !c.ended.Swap(true) {
		c.link.End()
	}
}
