package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stage is everything the demo runs on.
type stage struct {
	bin, dir string
	running  []*process
	ledger   net.Listener // the TCP server "in the data centre"

	relayAddr, relayOps, agentOps, ordersAddr, connectAddr string
	relay, agent                                           *process
}

func newStage(bin, dir string) (*stage, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &stage{bin: bin, dir: dir}
	for _, a := range []struct {
		addr   *string
		prefer string
	}{{&s.relayAddr, "127.0.0.1:8443"}, {&s.relayOps, "127.0.0.1:9090"}, {&s.agentOps, "127.0.0.1:9091"},
		{&s.ordersAddr, "127.0.0.1:8081"}, {&s.connectAddr, "127.0.0.1:5433"}} {
		var err error
		if *a.addr, err = freeAddress(a.prefer); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// freeAddress returns prefer, or another loopback address if somebody has it.
func freeAddress(prefer string) (string, error) {
	ln, err := net.Listen("tcp", prefer)
	if err != nil {
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	return ln.Addr().String(), ln.Close()
}

func (s *stage) open(ctx context.Context) error {
	say("Making certificates for two trust domains, cloud.example and dc1.example, and two tokens.")
	out, err := exec.CommandContext(ctx, filepath.Join(s.bin, "devcerts"), "-out", s.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("devcerts: %w: %s", err, out)
	}
	if err := s.write("relay.yaml", relayYAML); err != nil {
		return err
	}
	say("Starting the data centre: an orders API at %s, a line-by-line ledger server, and the agent.", s.ordersAddr)
	if s.ledger, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	go serveLedger(s.ledger)
	if err := s.write("agent.yaml", strings.ReplaceAll(agentYAML, "{ledger}", s.ledger.Addr().String())); err != nil {
		return err
	}
	orders, err := s.start("orders", "orders", "-listen", s.ordersAddr)
	if err != nil {
		return err
	}
	if err := orders.await(ctx, "up", dialable(s.ordersAddr)); err != nil {
		return err
	}
	if s.agent, err = s.start("agent", "fairlead-agent", "run", "-c", s.path("agent.yaml")); err != nil {
		return err
	}
	say("Starting the cloud: the relay at %s. The agent dials out to it; nothing dials in.", s.relayAddr)
	if err := s.startRelay(ctx); err != nil {
		return err
	}
	return s.agent.await(ctx, "linked to the relay", httpOK("http://"+s.agentOps+"/readyz"))
}

func (s *stage) startRelay(ctx context.Context) (err error) {
	if s.relay, err = s.start("relay", "fairlead-relay", "run", "-c", s.path("relay.yaml")); err != nil {
		return err
	}
	return s.relay.await(ctx, "ready", httpOK("http://"+s.relayOps+"/readyz"))
}

func (s *stage) close() error {
	var errs []error
	for _, p := range slices.Backward(s.running) {
		select {
		case <-p.done:
		default:
			errs = append(errs, p.stop())
		}
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	return errors.Join(errs...)
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) write(name, text string) error {
	text = strings.NewReplacer("{relay}", s.relayAddr, "{relay_ops}", s.relayOps, "{agent_ops}", s.agentOps,
		"{orders}", s.ordersAddr, "{dir}", s.dir).Replace(text)
	return os.WriteFile(s.path(name), []byte(text), 0o600)
}

// client calls the relay as the identity of cert and key (both empty: as nobody).
func (s *stage) client(identity string) (*http.Client, error) {
	bundle, err := os.ReadFile(s.path("cloud.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, errors.New("cloud.pem holds no certificate")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "orders.dc1.example"}
	if identity != "" {
		cert, err := tls.LoadX509KeyPair(s.path(identity+".crt"), s.path(identity+".key"))
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.relayAddr)
		}}}, nil
}

func dialable(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

func httpOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // only to say more
			return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// serveLedger answers each line with its number and itself, until ln closes.
func serveLedger(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for n := 1; lines.Scan(); n++ {
				fmt.Fprintf(conn, "entry %d: %s\n", n, lines.Text())
			}
		}()
	}
}
