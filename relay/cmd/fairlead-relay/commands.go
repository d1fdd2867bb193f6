package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/fairlead/fairlead/relay"
)

const description = "The relay of Fairlead: it takes calls in the cloud, decides on each, and hands it to an agent in a data centre."

type commands struct {
	Run     runCommand     `cmd:"" help:"Run the relay until SIGTERM; SIGHUP reloads its configuration."`
	Check   checkCommand   `cmd:"" help:"Read the configuration as run does, and print every fault in it."`
	Reload  reloadCommand  `cmd:"" help:"Make the running relay read its configuration again."`
	Status  statusCommand  `cmd:"" help:"Show the running relay's agents, links and tunnels."`
	Connect connectCommand `cmd:"" help:"Listen on loopback and carry plain TCP clients to a tcp tunnel, or datagrams to a udp one."`
	Explain explainCommand `cmd:"" help:"Say how a call is decided, by which rule: now, in the past, or by another configuration."`
	TOTP    totpCommand    `cmd:"" name:"totp" help:"Make a user's secret for a second factor, and the URI for an authenticator app."`
	Version versionCommand `cmd:"" help:"Print the version."`

	App       appCommands       `cmd:"" help:"Clients that prove themselves by a secret."`
	Audit     auditCommands     `cmd:"" help:"Read the records of decisions."`
	Authority authorityCommands `cmd:"" help:"The built-in authority, for those without SPIRE."`
}

// file is the flag of commands that read the configuration.
type file struct {
	Config string `short:"c" default:"/etc/fairlead/relay.yaml" help:"Configuration file." placeholder:"FILE"`
}

// logging are the flags of commands that run for long.
type logging struct {
	LogFormat string `default:"json" enum:"json,text" help:"json or text."`
	LogLevel  string `default:"info" help:"debug, info, warn or error."`
}

// running are the flags that find a running relay.
type running struct {
	file
	Control string `help:"Its control socket; default: the one in the configuration." placeholder:"SOCKET"`
}

type runCommand struct {
	file
	logging
}

const (
	identityTimeout = time.Minute      // for SPIRE's agent to start beside this process
	checkTimeout    = 10 * time.Second // whoever checks waits
)

func (c *runCommand) Run(ctx context.Context, s streams) error {
	log, err := newLogger(s.err, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	// What still speaks to the older standard logger is net/http's client, and it quotes what servers send.
	stdlog.SetOutput(io.Discard)
	opening, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	r, err := relay.New(opening, relay.Config{File: c.Config, Version: version, Log: log})
	if err != nil {
		return err
	}
	if len(hangups) > 0 {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, hangups...)
		defer signal.Stop(hup)
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-hup:
					_ = r.Reload() // logged there
				}
			}
		}()
	}
	return r.Run(ctx)
}

type checkCommand struct{ file }

func (c *checkCommand) Run(ctx context.Context, s streams) error {
	opening, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := relay.Check(opening, c.Config); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: ok\n", c.Config)
	return nil
}

type reloadCommand struct{ running }

func (c *reloadCommand) Run(ctx context.Context, s streams) error {
	if err := relay.RequestReload(ctx, c.Config, c.Control); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "reloaded")
	return nil
}

type statusCommand struct {
	running
	JSON bool `help:"Print JSON."`
}

func (c *statusCommand) Run(ctx context.Context, s streams) error {
	status, err := relay.RequestStatus(ctx, c.Config, c.Control)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s, status)
	}
	return printStatus(s.out, status)
}

type connectCommand struct {
	logging
	Relay      string `required:"" help:"The relay, host:port."`
	TunnelHost string `required:"" help:"Host of the tcp tunnel, as the relay's file names it."`
	Listen     string `default:"127.0.0.1:0" help:"Loopback address, or unix:PATH."`
	UDP        bool   `name:"udp" help:"Carry datagrams to a udp tunnel."`
	Cert       string `required:"" type:"path" help:"The caller's SVID, PEM."`
	Key        string `required:"" type:"path" help:"Its key, PEM."`
	Trust      string `required:"" type:"path" help:"Bundle of the relay's trust domain, PEM."`
	RelayID    string `placeholder:"PATTERN" help:"Who the relay must be; default: spiffe://<the caller's trust domain>/relay/*."`
	WebCA      string `type:"path" help:"The relay shows a server_certificate of this CA instead of its SVID: check its DNS name."`
	TokenFile  string `type:"path" help:"File with the token, read anew for each connection."`
}

func (c *connectCommand) Run(ctx context.Context, s streams) error {
	log, err := newLogger(s.err, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	return relay.Connect(ctx, relay.ConnectConfig{
		Relay: c.Relay, TunnelHost: c.TunnelHost, UDP: c.UDP, Listen: c.Listen, CertFile: c.Cert, KeyFile: c.Key, TrustFile: c.Trust,
		RelayID: c.RelayID, WebCAFile: c.WebCA, TokenFile: c.TokenFile, Log: log,
		Listening: func(addr string) { fmt.Fprintln(s.out, "listening on", addr) },
	})
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

func (c *versionCommand) Run(s streams) error {
	if c.JSON {
		return printJSON(s, map[string]string{"version": version, "commit": commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	fmt.Fprintf(s.out, "fairlead-relay %s (%s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

func printJSON(s streams, v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
