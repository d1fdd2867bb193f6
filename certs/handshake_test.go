package certs_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"
)

// outcome is what one side of a handshake saw, its first read included: in TLS 1.3 a client learns of its refusal there.
type outcome struct {
	state tls.ConnectionState
	err   error
}

// handshake runs one connection over real loopback TCP: the server writes a byte and ends, the client reads it.
func handshake(t *testing.T, client, server *tls.Config) (c, s outcome) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan outcome, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- outcome{err: err}
			return
		}
		done <- serve(tls.Server(conn, server))
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c = dial(tls.Client(raw, client))
	return c, <-done
}

func serve(conn *tls.Conn) (o outcome) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if o.err = conn.Handshake(); o.err == nil {
		_, o.err = conn.Write([]byte("x"))
	}
	o.state = conn.ConnectionState()
	return o
}

func dial(conn *tls.Conn) (o outcome) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if o.err = conn.Handshake(); o.err == nil {
		_, o.err = io.ReadAll(conn)
	}
	o.state = conn.ConnectionState()
	return o
}
