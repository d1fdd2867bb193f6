package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func say(format string, args ...any) { fmt.Printf("• "+format+"\n", args...) }

// play walks through the steps and returns what did not come out as told.
func (s *stage) play(ctx context.Context) error {
	fmt.Println()
	steps := []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"A shop's API calls the orders tunnel with its identity and a token", s.get("api", "orders.token", "/v1/orders", http.StatusOK, "")},
		{"The same call without a token", s.get("api", "", "/v1/orders", http.StatusUnauthorized, "token_missing")},
		{"The same call by a workload that the tunnel does not name", s.get("other", "orders.token", "/v1/orders", http.StatusForbidden, "caller_denied")},
		{"The same call by nobody in particular", s.get("", "orders.token", "/v1/orders", http.StatusForbidden, "caller_unknown")},
		{"A path that the relay would allow and the agent's own file does not", s.get("api", "orders.token", "/admin/secret", http.StatusForbidden, "agent_denied")},
		{"A plain TCP client, through `fairlead-relay connect` and a CONNECT to the ledger tunnel", s.tcp},
		{"The relay is killed and started again; the agent comes back by itself", s.restart},
	}
	var errs []error
	for i, step := range steps {
		result, err := step.do(ctx)
		mark := "✓"
		if err != nil {
			mark, result = "✗", err.Error()
			errs = append(errs, fmt.Errorf("step %d: %w", i+1, err))
		}
		fmt.Printf("%d. %s.\n   %s %s\n", i+1, step.what, mark, result)
	}
	fmt.Println()
	return errors.Join(errs...)
}

// get makes a step of one call that must end with this status and, if it is a refusal, this code.
func (s *stage) get(identity, token, path string, status int, code string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		client, err := s.client(identity)
		if err != nil {
			return "", err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://orders.dc1.example"+path, nil)
		if err != nil {
			return "", err
		}
		if token != "" {
			raw, err := os.ReadFile(s.path(token))
			if err != nil {
				return "", err
			}
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(raw)))
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return "", err
		}
		if resp.StatusCode != status {
			return "", fmt.Errorf("expected status %d, got %s: %s", status, resp.Status, body)
		}
		if code == "" {
			return fmt.Sprintf("%s over %s: %s", resp.Status, resp.Proto, firstLine(body)), nil
		}
		var problem struct{ Code, Detail string }
		if err := json.Unmarshal(body, &problem); err != nil || problem.Code != code {
			return "", fmt.Errorf("expected code %s, got %s", code, body)
		}
		return fmt.Sprintf("%s, %s: %s", resp.Status, problem.Code, problem.Detail), nil
	}
}

// tcp sends two lines through a local listener and half-closes: the answers must all arrive.
func (s *stage) tcp(ctx context.Context) (string, error) {
	p, err := s.start("connect", "fairlead-relay", "connect", "--relay", s.relayAddr, "--tunnel-host", "ledger.dc1.example",
		"--listen", s.connectAddr, "--cert", s.path("api.crt"), "--key", s.path("api.key"), "--trust", s.path("cloud.pem"),
		"--token-file", s.path("orders.token"))
	if err != nil {
		return "", err
	}
	if err := p.await(ctx, "listening", dialable(s.connectAddr)); err != nil {
		return "", err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.connectAddr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "100 to ada\n70 to grace\n"); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if want := "entry 1: 100 to ada\nentry 2: 70 to grace\n"; err != nil || string(answer) != want {
		return "", fmt.Errorf("expected %q, got %q, %w", want, answer, errors.Join(err))
	}
	return fmt.Sprintf("%q came back, and the end after it", answer), nil
}

// restart kills the relay, starts it, and waits for the first call that works.
func (s *stage) restart(ctx context.Context) (string, error) {
	if err := s.relay.kill(); err != nil {
		return "", err
	}
	killed := time.Now()
	if err := s.startRelay(ctx); err != nil {
		return "", err
	}
	call := s.get("api", "orders.token", "/v1/orders", http.StatusOK, "")
	err := s.relay.await(ctx, "serving calls", func(ctx context.Context) error {
		_, err := call(ctx)
		return err
	})
	return fmt.Sprintf("first good call %d ms after the kill", time.Since(killed).Milliseconds()), err
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if len(line) > 100 {
		return line[:100] + "…"
	}
	return line
}

// invite prints what can be tried by hand.
func (s *stage) invite() {
	_, port, _ := net.SplitHostPort(s.relayAddr) // it was made by freeAddress
	curl := fmt.Sprintf("curl --cacert %s --resolve '*:%s:127.0.0.1'", s.path("cloud.pem"), port)
	url := "https://orders.dc1.example:" + port
	identity := fmt.Sprintf("--cert %s --key %s", s.path("api.crt"), s.path("api.key"))
	token := fmt.Sprintf(`-H "Authorization: Bearer $(cat %s)"`, s.path("orders.token"))
	fmt.Printf(`It stays up until Ctrl-C. Try, in another terminal:

  %s %s %s %s/v1/orders        # works
  %s %s %s/v1/orders           # 401 token_missing
  %s %s %s %s/admin/secret     # 403 agent_denied
  %s status -c %s
  %s status -c %s

Configuration and logs: %s
`, curl, identity, token, url, curl, identity, url, curl, identity, token, url,
		s.bin+"/fairlead-relay", s.path("relay.yaml"), s.bin+"/fairlead-agent", s.path("agent.yaml"), s.dir)
}
