//go:build linux

package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/e2e/servers"
)

// grpcClient returns a client of the site's tunnel "echo", about which the relay's file says more, and a context with
// a good token.
func grpcClient(t *testing.T, more string) (*grpc.ClientConn, context.Context) {
	t.Helper()
	g := servers.StartGRPC(t, new(servers.Loopback))
	echo := tunnel{name: "echo", backend: "h2c://" + g.Addr.String(), relay: more}
	s := startSite(t, options{}, echo)
	var dialer net.Dialer
	conn, err := grpc.NewClient("passthrough:///"+echo.host(),
		grpc.WithTransportCredentials(credentials.NewTLS(s.tlsConfig(t, billingID))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", s.address.String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn, metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.token(t, echo.scope()))
}

func TestGRPCCallsAndTheirErrorsCross(t *testing.T) {
	conn, ctx := grpcClient(t, "")
	var said wrapperspb.StringValue
	if err := conn.Invoke(ctx, servers.GRPCSay, wrapperspb.String("ahoy"), &said); err != nil || said.GetValue() != "ahoy" {
		t.Errorf("got %q, %v", said.GetValue(), err)
	}
	err := conn.Invoke(ctx, servers.GRPCSay, wrapperspb.String("fail"), &said)
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "failed as asked" {
		t.Errorf("got %v, want the server's own error", err)
	}
}

func TestGRPCStreamsCross(t *testing.T) {
	conn, ctx := grpcClient(t, "")
	const many = 5000

	down, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, servers.GRPCCount)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(down.SendMsg(wrapperspb.Int32(many)), down.CloseSend()); err != nil {
		t.Fatal(err)
	}
	for want := range int32(many) {
		var n wrapperspb.Int32Value
		if err := down.RecvMsg(&n); err != nil || n.GetValue() != want+1 {
			t.Fatalf("from the server: got %d, %v; want %d", n.GetValue(), err, want+1)
		}
	}
	if err := down.RecvMsg(new(wrapperspb.Int32Value)); !errors.Is(err, io.EOF) {
		t.Errorf("the server's stream ended with %v", err)
	}
	if down.Trailer()["counted"] == nil {
		t.Errorf("the trailers are %v, want one that the server set", down.Trailer())
	}

	up, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, servers.GRPCCollect)
	if err != nil {
		t.Fatal(err)
	}
	for range many {
		if err := up.SendMsg(wrapperspb.String("ahoy")); err != nil {
			t.Fatal(err)
		}
	}
	var n wrapperspb.Int32Value
	if err := errors.Join(up.CloseSend(), up.RecvMsg(&n)); err != nil || n.GetValue() != many {
		t.Errorf("to the server: it got %d messages (%v), want %d", n.GetValue(), err, many)
	}
}

func TestGRPCPeersTalkBothWaysAtOnce(t *testing.T) {
	conn, ctx := grpcClient(t, "")
	chat, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, servers.GRPCChat)
	if err != nil {
		t.Fatal(err)
	}
	// Each word waits for the one before: nothing may be held back in either direction.
	for _, word := range []string{"one", "two", "three", "four"} {
		if err := chat.SendMsg(wrapperspb.String(word)); err != nil {
			t.Fatal(err)
		}
		var said wrapperspb.StringValue
		if err := chat.RecvMsg(&said); err != nil || said.GetValue() != word {
			t.Fatalf("got %q, %v; want %q", said.GetValue(), err, word)
		}
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := chat.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the chat ended with %v", err)
	}
}

// TestGRPCPeersMayBeSilentFirst: a server of gRPC sends its header with its first message, so a stream on which there
// is nothing to say yet is not a late answer.
func TestGRPCPeersMayBeSilentFirst(t *testing.T) {
	conn, ctx := grpcClient(t, "limits: {timeout: 1s}")
	chat, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, servers.GRPCChat)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // the silence is the subject of this test
	var said wrapperspb.StringValue
	if err := errors.Join(chat.SendMsg(wrapperspb.String("ahoy")), chat.RecvMsg(&said), chat.CloseSend()); err != nil || said.GetValue() != "ahoy" {
		t.Fatalf("got %q, %v", said.GetValue(), err)
	}
	if err := chat.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the chat ended with %v", err)
	}
}
