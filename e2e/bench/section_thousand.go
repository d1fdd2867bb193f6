//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/agent"
	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
)

const (
	manyAgents = 1000
	restWindow = 10 * time.Second
)

// thousand connects many agents to one relay, which is the released binary. The agents are values of agent.Agent in one
// process, each with a name and an epoch of its own, all with one certificate: what they cost is not measured.
func (b *bench) thousand(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	for _, f := range []fairlead{
		{name: overLanes, transport: "tcp", doors: 1},
		{name: overYamux, transport: "tcp", noLanes: true, doors: 1},
		{name: overQUIC, transport: "quic", doors: 1},
	} {
		v := s.relay(f)
		s.interleave(1, "thousand", plural(manyAgents, "agent"), []*variant{v}, func(v *variant) (values, error) { return s.crowd(f, v) })
		v.near.Kill()
	}
}

// crowd connects the agents, measures, and ends them.
func (s *site) crowd(f fairlead, v *variant) (values, error) {
	var files []string
	for i := range manyAgents {
		f.name = fmt.Sprintf("%s %d", v.name, i)
		files = append(files, s.write(fmt.Sprintf("%s.yaml", slug(f.name)), s.crowdYAML(f, v)))
	}
	before, err := load.RSS(v.near.Pid())
	if err != nil {
		return nil, err
	}
	p := s.play(s.dc, "agents", files)
	defer p.Kill()
	ctx, cancel := context.WithTimeout(s.ctx, 3*time.Minute)
	defer cancel()
	if _, err := p.Find(ctx, regexp.MustCompile("agents go")); err != nil {
		return nil, err
	}
	began := time.Now()
	for serving := 0; serving < manyAgents; {
		if serving, err = s.serving(ctx, v); err != nil {
			return nil, err
		}
		if err := s.rest(50 * time.Millisecond); err != nil {
			return nil, err
		}
	}
	found := values{connected: time.Since(began).Seconds()}
	if err := s.rest(settling); err != nil {
		return nil, err
	}
	held, err := load.RSS(v.near.Pid())
	if err != nil {
		return nil, err
	}
	found[resident], found[perAgent] = float64(held)/(1<<20), float64(held-before)/(1<<10)/manyAgents
	found[atRest], err = s.share(v.near.Pid())
	return found, err
}

// share returns how much of a core a process uses, in percent.
func (s *site) share(pid int) (float64, error) {
	before, err := load.CPU(pid)
	if err != nil {
		return 0, err
	}
	if err := s.rest(restWindow); err != nil {
		return 0, err
	}
	after, err := load.CPU(pid)
	return (after - before) / restWindow.Seconds() * 100, err
}

// crowdYAML is an agent's file without what a thousand of them in one process would quarrel about.
func (s *site) crowdYAML(f fairlead, v *variant) string {
	var kept []string
	for line := range strings.Lines(s.agentYAML(f, v)) {
		if !strings.HasPrefix(line, "control:") && !strings.HasPrefix(line, "state_dir:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// serving asks the relay how many links serve the first tunnel: one or more an agent, once it is connected.
func (s *site) serving(ctx context.Context, v *variant) (n int, err error) {
	const series = `fairlead_relay_tunnel_agents{tunnel="raw0"} `
	err = s.get(ctx, v.ops, "/metrics", func(r *http.Response) error {
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), series); ok {
				n, err = strconv.Atoi(value)
				return err
			}
		}
		return fmt.Errorf("the relay's metrics hold no %s", series)
	})
	return n, err
}

// playAgents runs an agent for each file, all in this process, until ctx ends.
func playAgents(ctx context.Context, in *json.Decoder) error {
	var files []string
	if err := in.Decode(&files); err != nil {
		return err
	}
	var agents []*agent.Agent
	for _, file := range files {
		a, err := agent.New(ctx, agent.Config{File: file, Version: "bench", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		agents = append(agents, a)
	}
	fmt.Println("agents go")
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range agents {
		group.Go(func() error { return a.Run(ctx) })
	}
	return group.Wait()
}
