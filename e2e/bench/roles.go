//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/bench/pair"
	"github.com/fairlead/fairlead/e2e/process"
)

// roles are what this program is when its first argument names one: a process of its own on one of the lab's hosts.
// What it is to do comes as JSON on standard input.
var roles = map[string]func(context.Context, *json.Decoder) error{
	"backend":    playBackend,
	"load":       playLoad,
	"pair-entry": playPair(pair.Entry),
	"pair-exit":  playPair(pair.Exit),
	"agents":     playAgents,
}

// A backend says where to serve.
type backend struct {
	Raw string // load.Serve's address
	Web string // of a small HTTP server; empty: none
}

func playBackend(ctx context.Context, in *json.Decoder) error {
	var b backend
	if err := in.Decode(&b); err != nil {
		return err
	}
	lc := new(net.ListenConfig)
	lc.SetMultipathTCP(false)
	raw, err := lc.Listen(ctx, "tcp", b.Raw)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return load.Serve(ctx, raw) })
	if b.Web != "" {
		group.Go(func() error { return serveWeb(ctx, lc, b.Web) })
	}
	return group.Wait()
}

// serveWeb answers 1 KiB to everything.
func serveWeb(ctx context.Context, lc *net.ListenConfig, address string) error {
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	body := make([]byte, 1<<10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(body) // the client sees what is missing
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

func playLoad(ctx context.Context, in *json.Decoder) error {
	var s load.Spec
	if err := in.Decode(&s); err != nil {
		return err
	}
	return load.Run(ctx, s, func(r load.Result) {
		text, err := json.Marshal(r)
		if err != nil {
			panic(err) // numbers only
		}
		fmt.Printf("result %s\n", text)
	})
}

func playPair(half func(context.Context, pair.Config) error) func(context.Context, *json.Decoder) error {
	return func(ctx context.Context, in *json.Decoder) error {
		var c pair.Config
		if err := in.Decode(&c); err != nil {
			return err
		}
		return half(ctx, c)
	}
}

// play starts this program in a role on a host.
func (s *site) play(on host, role string, what any) *process.Process {
	self, err := os.Executable()
	if err != nil {
		s.Fatal(err)
	}
	return s.start(role, on, what, self, role)
}

// start starts a program on a host; what is not nil is its standard input, in JSON.
func (s *site) start(name string, on host, what any, program string, args ...string) *process.Process {
	// The process outlives the stage's context, which ends before its clean-ups begin.
	cmd := on.Command(context.WithoutCancel(s.ctx), program, args...)
	if what != nil {
		text, err := json.Marshal(what)
		if err != nil {
			s.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(text)
	}
	return process.Start(s.stage, name, cmd)
}
