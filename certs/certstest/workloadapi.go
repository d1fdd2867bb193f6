package certstest

import (
	"context"
	"crypto/x509"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/certs"
)

// WorkloadAPI serves the X.509 part of the SPIFFE Workload API, and the bundles of its JWT part, on a unix socket, as SPIRE's agent does: the standard's own
// gRPC service, to whoever asks. A test changes what it serves.
type WorkloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	Address string // unix:///…

	tb   testing.TB
	path string

	mu      sync.Mutex // guards:
	server  *grpc.Server
	answer  *workload.X509SVIDResponse // nil: no identity for this process
	jwt     *workload.JWTBundlesResponse
	changed chan struct{} // closed and replaced by each change
}

// NewWorkloadAPI starts one that has no identity to give yet; it stops with the test.
func NewWorkloadAPI(tb testing.TB) *WorkloadAPI {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "api.sock")
	w := &WorkloadAPI{Address: "unix://" + path, path: path, tb: tb, jwt: &workload.JWTBundlesResponse{}, changed: make(chan struct{})}
	w.Start()
	tb.Cleanup(w.Stop)
	return w
}

// Start begins to serve again after Stop.
func (w *WorkloadAPI) Start() {
	w.tb.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "unix", w.path)
	if err != nil {
		w.tb.Fatal(err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, w)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = server
	go func() { _ = server.Serve(ln) }() // ends with Stop, which closes ln
}

// Stop hangs up on everybody.
func (w *WorkloadAPI) Stop() {
	w.mu.Lock()
	server := w.server
	w.mu.Unlock()
	server.Stop()
}

// Serve gives an SVID of own with that ID, the bundle of own, and those of the others.
func (w *WorkloadAPI) Serve(own *CA, id string, federated []*CA, options ...Option) {
	w.tb.Helper()
	cert := own.Issue(w.tb, id, options...)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		w.tb.Fatal(err)
	}
	svid := &workload.X509SVID{SpiffeId: id, X509SvidKey: key, Bundle: own.Root().Raw}
	for _, der := range cert.Certificate {
		svid.X509Svid = append(svid.X509Svid, der...)
	}
	answer := &workload.X509SVIDResponse{Svids: []*workload.X509SVID{svid}, FederatedBundles: map[string][]byte{}}
	for _, ca := range federated {
		answer.FederatedBundles[idOf(ca.td)] = append(answer.FederatedBundles[idOf(ca.td)], ca.Root().Raw...)
	}
	w.set(answer)
}

// ServeJWT makes the issuer's keys the JWT bundle of own's trust domain.
func (w *WorkloadAPI) ServeJWT(own *CA, issuer *Issuer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jwt = &workload.JWTBundlesResponse{Bundles: map[string][]byte{idOf(own.td): issuer.JWKS()}}
	close(w.changed)
	w.changed = make(chan struct{})
}

// Refuse gives no identity from now on, as for a process that is not registered any more.
func (w *WorkloadAPI) Refuse() { w.set(nil) }

func idOf(td certs.TrustDomain) string { return td.IDString() }

func (w *WorkloadAPI) set(answer *workload.X509SVIDResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
	close(w.changed)
	w.changed = make(chan struct{})
}

// FetchX509SVID implements the service.
func (w *WorkloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return follow(w, stream, func() *workload.X509SVIDResponse { return w.answer })
}

// FetchJWTBundles implements the service.
func (w *WorkloadAPI) FetchJWTBundles(_ *workload.JWTBundlesRequest, stream grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return follow(w, stream, func() *workload.JWTBundlesResponse {
		if w.answer == nil {
			return nil
		}
		return w.jwt
	})
}

// follow sends what is current, now and after each change; current is called with mu held.
func follow[T any](w *WorkloadAPI, stream grpc.ServerStreamingServer[T], current func() *T) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md["workload.spiffe.io"]) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	for {
		w.mu.Lock()
		answer, changed := current(), w.changed
		w.mu.Unlock()
		if answer == nil {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
