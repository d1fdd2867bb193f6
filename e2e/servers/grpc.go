//go:build linux

package servers

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GRPC is a server of the service fairlead.Echo over h2c, whose messages are google.protobuf.StringValue and
// Int32Value: no generated code. Its methods' full names are the constants below.
type GRPC struct {
	Addr netip.AddrPort
}

// The methods of fairlead.Echo.
const (
	GRPCSay     = "/fairlead.Echo/Say"     // unary: StringValue → the same; "fail" is answered FailedPrecondition
	GRPCCount   = "/fairlead.Echo/Count"   // Int32Value n → a stream of 1…n, and the trailer counted: n
	GRPCCollect = "/fairlead.Echo/Collect" // a stream of StringValue → Int32Value, their number
	GRPCChat    = "/fairlead.Echo/Chat"    // a stream of StringValue ↔ the same, one by one
)

// StartGRPC starts the server, within the test, on the host, on a free port.
func StartGRPC(t testing.TB, on Host) *GRPC {
	t.Helper()
	l, err := on.Listen(t.Context(), "tcp", netip.AddrPortFrom(on.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(echoService(), nil)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(l); err != nil {
			t.Errorf("the gRPC server ended: %v", err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return &GRPC{Addr: netip.MustParseAddrPort(l.Addr().String())}
}

func echoService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "fairlead.Echo",
		Methods:     []grpc.MethodDesc{{MethodName: "Say", Handler: say}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Count", Handler: count, ServerStreams: true},
			{StreamName: "Collect", Handler: collect, ClientStreams: true},
			{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true},
		},
	}
}

func say(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var said wrapperspb.StringValue
	if err := decode(&said); err != nil {
		return nil, err
	}
	if said.GetValue() == "fail" {
		return nil, status.Error(codes.FailedPrecondition, "failed as asked")
	}
	return &said, nil
}

func count(_ any, stream grpc.ServerStream) error {
	var to wrapperspb.Int32Value
	if err := stream.RecvMsg(&to); err != nil {
		return err
	}
	for i := range to.GetValue() {
		if err := stream.SendMsg(wrapperspb.Int32(i + 1)); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("counted", wrapperspb.Int32(to.GetValue()).String()))
	return nil
}

func collect(_ any, stream grpc.ServerStream) error {
	var n int32
	for {
		err := stream.RecvMsg(new(wrapperspb.StringValue))
		if errors.Is(err, io.EOF) {
			return stream.SendMsg(wrapperspb.Int32(n))
		}
		if err != nil {
			return err
		}
		n++
	}
}

func chat(_ any, stream grpc.ServerStream) error {
	for {
		var said wrapperspb.StringValue
		err := stream.RecvMsg(&said)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&said); err != nil {
			return err
		}
	}
}
