//go:build linux

package servers

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestGRPCStreamsBothWays(t *testing.T) {
	here := new(Loopback)
	g := StartGRPC(t, here)
	conn, err := grpc.NewClient("passthrough:///"+g.Addr.String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return here.DialContext(ctx, "tcp", a) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var answer wrapperspb.StringValue
	if err := conn.Invoke(t.Context(), GRPCSay, wrapperspb.String("ahoy"), &answer); err != nil || answer.GetValue() != "ahoy" {
		t.Errorf("Say: got %q, %v", answer.GetValue(), err)
	}
	if err := conn.Invoke(t.Context(), GRPCSay, wrapperspb.String("fail"), &answer); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("Say: got %v, want %v", err, codes.FailedPrecondition)
	}
	chat, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, GRPCChat)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two", "three"} {
		if err := chat.SendMsg(wrapperspb.String(word)); err != nil {
			t.Fatal(err)
		}
		if err := chat.RecvMsg(&answer); err != nil || answer.GetValue() != word {
			t.Fatalf("Chat: got %q, %v", answer.GetValue(), err)
		}
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := chat.RecvMsg(&answer); !errors.Is(err, io.EOF) {
		t.Errorf("Chat ended with %v", err)
	}
}
