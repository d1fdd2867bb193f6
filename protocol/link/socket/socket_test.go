package socket_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/protocol/link/socket"
)

// pair returns both ends of a TCP connection over loopback.
func pair(t *testing.T) (near *socket.Conn, far *net.TCPConn) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return socket.Wrap(c), s.(*net.TCPConn)
}

// record is what a TLS record looks like from outside.
func record(n int) []byte {
	return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{'x'}, n)...)
}

func write(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn, most int) int {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(make([]byte, most))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReadNeverCrossesARecordAndKnowsWhetherThereIsAnother(t *testing.T) {
	near, far := pair(t)
	write(t, far, append(append(record(100), record(200)...), record(300)[:50]...))
	time.Sleep(20 * time.Millisecond) // so that one system call brings it all
	if n := read(t, near, 1000); n != 105 {
		t.Errorf("the first Read brought %d bytes, expected the record's 105", n)
	}
	if !near.HasRecord() {
		t.Error("the second record is there and was not seen")
	}
	if n := read(t, near, 5); n != 5 {
		t.Errorf("read %d of a header's 5 bytes", n)
	}
	if !near.HasRecord() {
		t.Error("the rest of the second record is there and was not seen")
	}
	if n := read(t, near, 1000); n != 200 {
		t.Errorf("read %d bytes, expected the record's other 200", n)
	}
	if near.HasRecord() {
		t.Error("half a record was taken for a whole one")
	}
	write(t, far, record(300)[50:])
	time.Sleep(20 * time.Millisecond)
	got := read(t, near, 1000)
	for got < 305 {
		got += read(t, near, 1000)
	}
	if got != 305 {
		t.Errorf("the third record came to %d bytes, expected 305", got)
	}
}

func TestRecordHeaderMayComeInPieces(t *testing.T) {
	near, far := pair(t)
	b := record(10)
	go func() {
		for _, c := range b {
			_, _ = far.Write([]byte{c})
			time.Sleep(time.Millisecond)
		}
	}()
	_ = near.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(b))
	if _, err := io.ReadFull(near, got); err != nil || !bytes.Equal(got, b) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestCorkedWritesGoOutTogetherAndOnlyWhenFlushed(t *testing.T) {
	near, far := pair(t)
	near.Cork()
	write(t, near, []byte("one "))
	write(t, near, []byte("two"))
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes left before Flush, %v", n, err)
	}
	if near.Pending() != 7 {
		t.Errorf("%d bytes wait, expected 7", near.Pending())
	}
	if err := near.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 7)
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "one two" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestFlushThatADeadlineEndedGoesOnWhereItStopped(t *testing.T) {
	near, far := pair(t)
	near.Cork()
	data := make([]byte, 32<<20) // more than the kernel takes
	for i := range data {
		data[i] = byte(i >> 10)
	}
	write(t, near, data)
	_ = near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if err := near.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, expected os.ErrDeadlineExceeded", err)
	}
	_ = near.SetWriteDeadline(time.Time{})
	if done, err := near.TryFlush(); done || err != nil {
		t.Errorf("TryFlush on a full socket: %t, %v; expected false and no error", done, err)
	}
	flushed := make(chan error, 1)
	go func() { flushed <- near.Flush() }()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("bytes were lost or repeated: %v", err)
	}
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}

func TestDeadlineEndsAReadThatWaitsAndALaterOneRevivesIt(t *testing.T) {
	near, far := pair(t)
	_ = near.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	write(t, far, record(1))
	if n := read(t, near, 10); n != 6 {
		t.Errorf("read %d bytes, expected 6", n)
	}
}

func TestPeersEndIsEOF(t *testing.T) {
	near, far := pair(t)
	_ = far.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, expected io.EOF", err)
	}
}

// TLS answers a key update from its reading side while a Write may be under way.
func TestWritesBesideAFlushAreSentBehindIt(t *testing.T) {
	near, far := pair(t)
	near.Cork()
	const each = 2000
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for range each {
			_, _ = near.Write([]byte("a"))
		}
	}()
	for range each {
		write(t, near, []byte("b"))
		if _, err := near.TryFlush(); err != nil {
			t.Fatal(err)
		}
	}
	<-wrote
	if err := near.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2*each)
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(far, got); err != nil || bytes.Count(got, []byte("a")) != each {
		t.Errorf("%d of %d, %v", bytes.Count(got, []byte("a")), each, err)
	}
}

func TestDeadlineWithinARecordsHeaderLosesNoRecord(t *testing.T) {
	near, far := pair(t)
	b := append(record(100), record(200)...)
	write(t, far, b[:3])
	_ = near.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := near.Read(make([]byte, 1000)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; expected os.ErrDeadlineExceeded", n, err)
	}
	write(t, far, b[3:])
	time.Sleep(20 * time.Millisecond)
	for _, want := range []int{105, 205} {
		if n := read(t, near, 1000); n != want {
			t.Errorf("read %d bytes, expected the record's %d", n, want)
		}
	}
}

func TestHeldReadDoesNotWait(t *testing.T) {
	near, far := pair(t)
	near.Hold(true)
	stop := time.AfterFunc(10*time.Second, func() { _ = far.Close() })
	defer stop.Stop()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, expected os.ErrDeadlineExceeded", err)
	}
	near.Hold(false)
	write(t, far, record(1))
	if n := read(t, near, 10); n != 6 {
		t.Errorf("read %d bytes, expected 6", n)
	}
}

// TLS answers a peer's key updates on its own, and nobody may flush for long.
func TestGatheredBytesAreBounded(t *testing.T) {
	near, _ := pair(t)
	near.Cork()
	for n := 0; ; n += 1000 {
		if _, err := near.Write(make([]byte, 1000)); err != nil {
			return
		}
		if n > 4<<20 {
			t.Fatalf("%d bytes were gathered", n)
		}
	}
}
