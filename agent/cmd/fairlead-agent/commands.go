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

	"github.com/fairlead/fairlead/agent"
)

const description = "The agent of Fairlead: it dials relays from inside a data centre and reaches the backends of its own file for them."

type commands struct {
	Run     runCommand     `cmd:"" help:"Run the agent until SIGTERM; SIGHUP reloads its configuration."`
	Check   checkCommand   `cmd:"" help:"Read the configuration as run does, and print every fault in it."`
	Reload  reloadCommand  `cmd:"" help:"Make the running agent read its configuration again."`
	Status  statusCommand  `cmd:"" help:"Show the running agent's links and tunnels."`
	Enroll  enrollCommand  `cmd:"" help:"Use a token up for this agent's identity, which the running agent then renews."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// file is the flag of commands that read the configuration.
type file struct {
	Config string `short:"c" default:"/etc/fairlead/agent.yaml" help:"Configuration file." placeholder:"FILE"`
}

// running are the flags that find a running agent.
type running struct {
	file
	Control string `help:"Its control socket; default: the one in the configuration." placeholder:"SOCKET"`
}

type runCommand struct {
	file
	LogFormat string `default:"json" enum:"json,text" help:"json or text."`
	LogLevel  string `default:"info" help:"debug, info, warn or error."`
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
	a, err := agent.New(opening, agent.Config{File: c.Config, Version: version, Log: log})
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
					_ = a.Reload() // logged there
				}
			}
		}()
	}
	return a.Run(ctx)
}

type checkCommand struct{ file }

func (c *checkCommand) Run(ctx context.Context, s streams) error {
	opening, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := agent.Check(opening, c.Config); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: ok\n", c.Config)
	return nil
}

type reloadCommand struct{ running }

func (c *reloadCommand) Run(ctx context.Context, s streams) error {
	if err := agent.RequestReload(ctx, c.Config, c.Control); err != nil {
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
	status, err := agent.RequestStatus(ctx, c.Config, c.Control)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s, status)
	}
	return printStatus(s.out, status)
}

type enrollCommand struct {
	Config    string `short:"c" help:"Configuration file, whose relays, proxy and identity.enrolled count where a flag is left out." placeholder:"FILE"`
	Relay     string `help:"The relay, host:port." placeholder:"HOST:PORT"`
	Dir       string `type:"path" help:"Folder for the identity." placeholder:"DIR"`
	TokenFile string `required:"" help:"File with the token; - is standard input." placeholder:"FILE"`
}

func (c *enrollCommand) Run(ctx context.Context, s streams) error {
	token, err := agent.ReadToken(c.TokenFile)
	if err != nil {
		return err
	}
	defer token.Close()
	e, err := agent.Enroll(ctx, agent.EnrollConfig{File: c.Config, Relay: c.Relay, Dir: c.Dir, Token: token})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "enrolled as %s, until %s, in %s; the agent renews it while it runs\n", e.ID, e.NotAfter.UTC().Format(time.RFC3339), e.Dir)
	return nil
}

type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

func (c *versionCommand) Run(s streams) error {
	if c.JSON {
		return printJSON(s, map[string]string{"version": version, "commit": commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	fmt.Fprintf(s.out, "fairlead-agent %s (%s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

func printJSON(s streams, v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
