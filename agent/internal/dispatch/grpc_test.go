package dispatch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/protocol"
)

// echoService is a gRPC service written by hand, so that no generated code is needed: Echo answers each message as it
// comes, Fail answers with a status and a trailer.
var echoService = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			for {
				var m wrapperspb.StringValue
				if err := s.RecvMsg(&m); err != nil {
					if errors.Is(err, io.EOF) {
						s.SetTrailer(metadata.Pairs("x-done", "yes"))
						return nil
					}
					return err
				}
				if err := s.SendMsg(wrapperspb.String(strings.ToUpper(m.GetValue()))); err != nil {
					return err
				}
			}
		}},
		{StreamName: "Fail", ServerStreams: true, ClientStreams: true, Handler: func(any, grpc.ServerStream) error {
			return status.Error(codes.FailedPrecondition, "not today")
		}},
	},
}

// grpcThrough serves the service over h2c behind an agent, and returns a client whose calls cross the link as one
// HTTP/1.1 exchange each: the front here stands for the relay's.
func grpcThrough(t *testing.T) (*grpc.ClientConn, *relay) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&echoService, struct{}{})
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	r := newRelay(t, tunnelTo(t, "h2c://"+l.Addr().String()))

	front := &http.Server{Handler: r.front(), Protocols: new(http.Protocols)}
	front.Protocols.SetUnencryptedHTTP2(true)
	fl, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	frontDone := make(chan struct{})
	go func() { defer close(frontDone); front.Serve(fl) }()
	t.Cleanup(func() { front.Close(); <-frontDone })
	client, err := grpc.NewClient(fl.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, r
}

// front forwards each request on a stream of its own.
func (r *relay) front() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		transport := &http.Transport{DisableKeepAlives: true, DialContext: r.dialStream(openFor(req))}
		// It flushes at once what has no Content-Length, and only that: a response that says 0 must be one HEADERS frame.
		(&httputil.ReverseProxy{
			Transport: transport,
			Rewrite:   func(pr *httputil.ProxyRequest) { pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "orders" },
		}).ServeHTTP(w, req)
	})
}

func TestGRPCStreamsBothWays(t *testing.T) {
	client, r := grpcThrough(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := client.NewStream(ctx, &echoService.Streams[0], "/test.Echo/Echo")
	if err != nil {
		t.Fatal(err)
	}
	// Each answer is awaited before the next message: neither direction may be held back until the other ends.
	for _, word := range []string{"a", "b", strings.Repeat("c", 100<<10)} {
		if err := s.SendMsg(wrapperspb.String(word)); err != nil {
			t.Fatal(err)
		}
		var m wrapperspb.StringValue
		if err := s.RecvMsg(&m); err != nil || m.GetValue() != strings.ToUpper(word) {
			t.Fatalf("got %d bytes, %v", len(m.GetValue()), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
	if got := s.Trailer().Get("x-done"); len(got) != 1 || got[0] != "yes" {
		t.Errorf("got trailer %v", s.Trailer())
	}
	if rep := r.report(); rep.Code != protocol.OK {
		t.Errorf("got report %+v", rep)
	}
}

func TestGRPCErrorsCross(t *testing.T) {
	client, _ := grpcThrough(t)
	s, err := client.NewStream(t.Context(), &echoService.Streams[1], "/test.Echo/Fail")
	if err != nil {
		t.Fatal(err)
	}
	err = s.RecvMsg(new(wrapperspb.StringValue))
	if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != "not today" {
		t.Errorf("got %v", err)
	}
}

func TestACanceledGRPCCallIsCanceledAtTheBackend(t *testing.T) {
	client, r := grpcThrough(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := client.NewStream(ctx, &echoService.Streams[0], "/test.Echo/Echo")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(wrapperspb.String("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if rep := r.report(); rep.Code != protocol.Canceled {
		t.Errorf("got report %+v, want canceled", rep)
	}
}
