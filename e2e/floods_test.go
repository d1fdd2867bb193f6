//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flooder is one HTTP/2 connection whose other end is not spoken to nicely.
type flooder struct {
	t      *testing.T
	conn   *tls.Conn
	framer *http2.Framer
	header bytes.Buffer
	enc    *hpack.Encoder
	ended  chan struct{} // closed when the relay has ended it
}

func (s *site) flooder(t *testing.T) *flooder {
	t.Helper()
	cfg := s.tlsConfig(t, billingID)
	cfg.NextProtos, cfg.ServerName = []string{"h2"}, "orders.dc1.example"
	conn, err := tls.Dial("tcp", s.address.String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	f := &flooder{t: t, conn: conn, ended: make(chan struct{})}
	f.enc = hpack.NewEncoder(&f.header)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f.framer = http2.NewFramer(conn, conn)
	if err := f.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go func() { // nobody may say that it was not read
		defer close(f.ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return f
}

func (f *flooder) block(more ...string) []byte {
	f.header.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "orders.dc1.example"}, {":path", "/v1/orders"}} {
		_ = f.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // into memory
	}
	for i := 0; i+1 < len(more); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return f.header.Bytes()
}

// flood sends until the relay has had enough, or n times.
func (f *flooder) flood(n int, send func(i int) error) (sent int) {
	for i := range n {
		select {
		case <-f.ended:
			return i
		default:
		}
		if err := send(i); err != nil {
			return i
		}
	}
	return n
}

var residentSize = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident is how much memory a process has, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.ParseInt(string(residentSize.FindSubmatch(b)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// W08
func TestFloodsOnOneConnectionLeaveTheOthersAlone(t *testing.T) {
	s, _ := startOrders(t, options{fast: true})
	c := s.caller(t, nil, billingID, h2)
	c.must(t, 200, call{tunnel: "orders", path: "/v1/orders"})
	before := resident(t, s.relay.Pid())
	for name, flood := range map[string]struct {
		n    int
		ends bool // the relay ends the connection before all was sent, or for it
		send func(f *flooder) func(i int) error
	}{
		"rapid resets": {20_000, false, func(f *flooder) func(int) error {
			return func(i int) error {
				id := uint32(2*i + 1)
				return errors.Join(f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(), EndHeaders: true, EndStream: true}),
					f.framer.WriteRSTStream(id, http2.ErrCodeCancel))
			}
		}},
		"continuations": {100_000, true, func(f *flooder) func(int) error {
			return func(i int) error {
				if i == 0 {
					return f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(), EndStream: true})
				}
				return f.framer.WriteContinuation(1, false, f.block("x-filler", strings.Repeat("x", 200))[:100])
			}
		}},
		"pings": {200_000, false, func(f *flooder) func(int) error {
			return func(i int) error { return f.framer.WritePing(false, [8]byte{byte(i)}) }
		}},
		"settings": {200_000, false, func(f *flooder) func(int) error {
			return func(int) error {
				return f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
			}
		}},
		"a header of 7 MB": {1, false, func(f *flooder) func(int) error {
			return func(int) error {
				block := bytes.Clone(f.block("x-filler", strings.Repeat("x", 7<<20)))
				const frame = 16 << 10
				err := f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:frame], EndStream: true})
				for block = block[frame:]; len(block) > 0 && err == nil; block = block[min(frame, len(block)):] {
					err = f.framer.WriteContinuation(1, len(block) <= frame, block[:min(frame, len(block))])
				}
				return err
			}
		}},
		"cookies": {50, false, func(f *flooder) func(int) error {
			return func(i int) error {
				var cookies []string
				for range 300 {
					cookies = append(cookies, "cookie", "a=b")
				}
				return f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.block(cookies...), EndHeaders: true, EndStream: true})
			}
		}},
		"windows of nothing": {5_000, false, func(f *flooder) func(int) error {
			return func(i int) error {
				if i == 0 {
					if err := f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
						return err
					}
				}
				return f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.block("authorization", "Bearer x"), EndHeaders: true, EndStream: true})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := s.flooder(t)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			context.AfterFunc(ctx, func() { _ = f.conn.Close() })
			var served atomic.Int64
			others := make(chan struct{})
			go func() {
				defer close(others)
				for ctx.Err() == nil && served.Load() < 1_000_000 {
					a, err := c.do(t, call{tunnel: "orders", path: "/v1/orders"})
					if err != nil || a.StatusCode != 200 {
						t.Errorf("another caller got %v, %v", a.Response, err)
						return
					}
					served.Add(1)
				}
			}()
			sent := f.flood(flood.n, flood.send(f))
			for served.Load() < 20 && ctx.Err() == nil { // while it is flooded, or at its end
				time.Sleep(10 * time.Millisecond)
			}
			if flood.ends && sent == flood.n {
				select {
				case <-f.ended:
				case <-ctx.Done():
					t.Error("the relay has taken all of it")
				}
			}
			cancel()
			<-others
			t.Logf("%d of %d sent, %d calls of the other caller", sent, flood.n, served.Load())
		})
	}
	c.must(t, 200, call{tunnel: "orders", path: "/v1/orders"})
	if after := resident(t, s.relay.Pid()); after > before+128<<20 {
		t.Errorf("the relay has %d MiB, and had %d before", after>>20, before>>20)
	}
}
