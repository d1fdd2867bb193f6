//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/load"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
)

const (
	idleStreams = 4000 // fewer than the 4,096 that one yamux link takes
	idleDoors   = 4    // a door takes 1,024 connections
	idleCase    = "4000 streams"
	settling    = 5 * time.Second
)

// idle measures the memory of streams that are open and were used once. Each variant is measured once only: what a
// process holds after that says nothing of a second time.
func (b *bench) idle(on *stage) {
	s := b.newSite(on, lab.Options{Path: lab.Fast})
	variants := append([]*variant{s.pair()}, s.fairleads(idleDoors)...)
	variants = append(variants, s.peers()...)
	time.Sleep(settling)
	s.interleave(1, "idle", idleCase, variants, s.hold)
}

func (s *site) hold(v *variant) (values, error) {
	before, err := memory(v)
	if err != nil {
		return nil, err
	}
	p := s.play(s.cloud, "load", load.Spec{Kind: load.Idle, Address: v.raw, Streams: idleStreams})
	defer p.Kill()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	if _, err := p.Find(ctx, result); err != nil {
		return nil, fmt.Errorf("%w: %s", err, p.Log().Tail(1<<10))
	}
	select {
	case <-time.After(settling):
	case <-p.Done():
		return nil, fmt.Errorf("the streams did not stay open: %s", p.Log().Tail(1<<10))
	}
	after, err := memory(v)
	if err != nil {
		return nil, err
	}
	perStream := func(i int) float64 { return float64(after[i]-before[i]) / (1 << 10) / idleStreams }
	return values{idleNear: perStream(0), idleFar: perStream(1)}, nil
}

// memory returns what both halves of a variant hold, in bytes.
func memory(v *variant) (held [2]int64, err error) {
	for i, p := range []*process.Process{v.near, v.far} {
		if held[i], err = load.RSS(p.Pid()); err != nil {
			return held, err
		}
	}
	return held, nil
}
