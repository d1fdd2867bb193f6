package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client speaks to a running relay.
type Client struct{ http *http.Client }

// Dial returns a client of the socket at path; it connects with the first command.
func Dial(path string) *Client {
	return &Client{&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}}}
}

// Status fills v with the running relay's status.
func (c *Client) Status(ctx context.Context, v any) error {
	body, err := c.do(ctx, http.MethodGet, "/v1/status")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// Reload makes the relay read its configuration again; a fault in it is the error, and the old one serves on.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/reload")
	return err
}

// Explain asks a question, and fills v with the answer.
func (c *Client) Explain(ctx context.Context, question, v any) error {
	b, err := json.Marshal(question)
	if err != nil {
		return err
	}
	body, err := c.send(ctx, http.MethodPost, "/v1/explain", bytes.NewReader(b))
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	return c.send(ctx, method, path, nil)
}

func (c *Client) send(ctx context.Context, method, path string, content io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, content)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no relay answers on its control socket: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	return body, nil
}
