package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/certs"
	"github.com/fairlead/fairlead/certs/pemsource"
	"github.com/fairlead/fairlead/certs/secretfile"
	"github.com/fairlead/fairlead/relay/internal/connect"
)

// ConnectConfig says whom Connect calls, and as whom. Every field is required unless it says otherwise.
type ConnectConfig struct {
	Relay             string // host:port
	TunnelHost        string // host of a tcp tunnel, or of a udp one
	UDP               bool   // it is a udp one: Listen takes datagrams
	Listen            string // a loopback ip:port, or unix:PATH
	CertFile, KeyFile string // the caller's SVID
	TrustFile         string // bundle of the caller's trust domain, which the relay's SVID must chain to
	RelayID           string // pattern that the relay's SPIFFE ID must match; default spiffe://<trust domain>/relay/*
	WebCAFile         string // optional: the relay shows a web certificate of this CA, checked by DNS name, and no SVID
	TokenFile         string // optional
	Log               *slog.Logger
	Listening         func(addr string) // optional: called once connections are accepted
}

// Connect listens beside a caller and carries each connection to a tcp tunnel, until ctx ends. It follows changes of
// the identity's and the token's files.
func Connect(ctx context.Context, cfg ConnectConfig) error {
	id, err := ownID(cfg.CertFile)
	if err != nil {
		return err
	}
	source, err := pemsource.New(pemsource.Config{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
		Bundles: map[certs.TrustDomain]string{id.TrustDomain(): cfg.TrustFile}, Log: cfg.Log})
	if err != nil {
		return err
	}
	tlsConfig, err := connectTLS(cfg, id, source)
	if err != nil {
		return err
	}
	c := connect.Config{Relay: cfg.Relay, TunnelHost: cfg.TunnelHost, TLS: tlsConfig, Log: cfg.Log}
	if cfg.TokenFile != "" {
		c.Token = func() (string, error) { return readToken(cfg.TokenFile) }
		if _, err := c.Token(); err != nil {
			return err
		}
	}
	serve, addr, err := listenFor(ctx, cfg, c)
	if err != nil {
		return err
	}
	if cfg.Listening != nil {
		cfg.Listening(addr)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return source.Run(ctx) })
	group.Go(func() error { return serve(ctx) })
	return group.Wait()
}

// listenFor listens, and returns what then serves.
func listenFor(ctx context.Context, cfg ConnectConfig, c connect.Config) (serve func(context.Context) error, addr string, err error) {
	if !cfg.UDP {
		ln, err := listenLocal(ctx, cfg.Listen)
		if err != nil {
			return nil, "", err
		}
		return func(ctx context.Context) error { return connect.Serve(ctx, ln, c) }, ln.Addr().String(), nil
	}
	ap, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, "", fmt.Errorf("listen: expected a loopback ip:port, got %q", cfg.Listen)
	}
	pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(ap))
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error { return connect.ServeUDP(ctx, pc, c) }, pc.LocalAddr().String(), nil
}

// ownID reads the SPIFFE ID that says which trust domain the bundle is of; pemsource judges the rest.
func ownID(file string) (certs.ID, error) {
	chain, err := os.ReadFile(file)
	if err != nil {
		return certs.ID{}, fmt.Errorf("reading the SVID: %w", err)
	}
	block, _ := pem.Decode(chain)
	if block == nil || block.Type != "CERTIFICATE" {
		return certs.ID{}, fmt.Errorf("%s: expected a PEM certificate first", file)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return certs.ID{}, fmt.Errorf("%s: %w", file, err)
	}
	id, err := certs.LeafID(leaf)
	if err != nil {
		return certs.ID{}, fmt.Errorf("%s: %w", file, err)
	}
	return id, nil
}

func connectTLS(cfg ConnectConfig, id certs.ID, source certs.Source) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(cfg.Relay)
	if err != nil {
		return nil, fmt.Errorf("relay: expected host:port, got %q", cfg.Relay)
	}
	if cfg.WebCAFile != "" {
		ca, err := os.ReadFile(cfg.WebCAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the relay's CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%s: expected PEM certificates", cfg.WebCAFile)
		}
		return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: roots, SessionTicketsDisabled: true,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return source.Certificate() }}, nil
	}
	if cfg.RelayID == "" {
		cfg.RelayID = "spiffe://" + id.TrustDomain().Name() + "/relay/*"
	}
	pattern, err := certs.ParsePattern(cfg.RelayID)
	if err != nil {
		return nil, fmt.Errorf("relay id: %w", err)
	}
	return certs.ClientConfig(source, host, nil, func(got certs.ID) error {
		if !pattern.Match(got) {
			return fmt.Errorf("expected a relay matching %s, got %s", pattern, got)
		}
		return nil
	}), nil
}

// readToken reads a token and cuts the white space around it.
func readToken(path string) (string, error) {
	b, err := secretfile.Read(path, 8<<10)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s: expected one token", path)
	}
	return token, nil
}

// listenLocal keeps the listener where only this host reaches it: whoever does acts as the caller.
func listenLocal(ctx context.Context, addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return new(net.ListenConfig).Listen(ctx, "unix", path)
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen: expected a loopback ip:port or unix:PATH, got %q", addr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}
