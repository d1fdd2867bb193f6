package backend

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/fairlead/fairlead/protocol"
)

// probeBody is how much of an answer is read, so that its connection can be kept.
const probeBody = 64 << 10

func (b *Backend) probeHTTP(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.probeHost()+path, nil)
	if err != nil {
		return protocol.Errorf(protocol.Internal, "the health path is unusable").WithCause(err)
	}
	req.Header.Set("User-Agent", "fairlead-agent")
	resp, err := b.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, probeBody); err != nil && !errors.Is(err, io.EOF) {
		return classify(ctx, err, true)
	}
	if resp.StatusCode >= 400 {
		return &protocol.Error{Code: protocol.BackendProtocol, Sent: true, Sentence: "the backend reports that it is not well"}
	}
	return nil
}

// probeHost is the Host header of a probe.
func (b *Backend) probeHost() string {
	if b.addr.scheme == "unix" {
		return "localhost"
	}
	return b.addr.hostport()
}
