//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What a client asks the backend for, with the first byte of a connection.
const (
	source = 's' // bytes without end, until the client ends its side
	sink   = 'd' // the number of bytes that came so far, in 8 bytes, big-endian, again and again until the client's end
	echo   = 'e' // every further byte back
	once   = 'o' // this byte back, and an end once the client has ended
)

// chunk is how much the bulk ends read and write at a time: enough that system calls are not what is measured.
const chunk = 256 << 10

// noise is what bulk ends send: bytes that do not compress. Nobody changes it.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, chunk)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
})

// Serve answers raw TCP as the clients of this package ask, until ctx ends; then every connection is cut. It closes ln.
func Serve(ctx context.Context, ln net.Listener) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		running.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			answer(conn.(*net.TCPConn))
		})
	}
}

// answer serves one connection. An error is the client's to see: it is the one that measures.
func answer(conn *net.TCPConn) {
	var what [1]byte
	if _, err := io.ReadFull(conn, what[:]); err != nil {
		return
	}
	switch what[0] {
	case source:
		give(conn)
	case sink:
		take(conn)
	case echo:
		// The bare interfaces keep the kernel's splice out: it is no faster for small messages, and slower to start.
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, 4<<10))
	case once:
		if _, err := conn.Write(what[:]); err == nil {
			_, _ = conn.Read(what[:]) // the client's end
		}
	}
	_ = conn.CloseWrite()
}

// give writes until the client ends its side.
func give(conn *net.TCPConn) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.Read(make([]byte, 1))
	}()
	for {
		select {
		case <-ended:
			return
		default:
		}
		if _, err := conn.Write(noise()); err != nil {
			_ = conn.Close()
			<-ended
			return
		}
	}
}

// progress is how often a sink says how much came.
const progress = 20 * time.Millisecond

// take reads to the client's end, and says all the while how much came, so that the client counts what arrived and not
// what lies in buffers on the way.
func take(conn *net.TCPConn) {
	var total atomic.Int64
	say := func() error {
		var count [8]byte
		binary.BigEndian.PutUint64(count[:], uint64(total.Load()))
		_, err := conn.Write(count[:])
		return err
	}
	done, said := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(said)
		tick := time.NewTicker(progress)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if say() != nil {
					return
				}
			}
		}
	}()
	err := drain(conn, &total)
	close(done)
	<-said
	if err == nil {
		_ = say() // the client sees when it is missing
	}
}

// drain reads to the end, and counts.
func drain(conn net.Conn, total *atomic.Int64) error {
	buf := make([]byte, chunk)
	for {
		n, err := conn.Read(buf)
		total.Add(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
