//go:build linux

// Command bench measures Fairlead beside baselines, in the same run and on the same hosts: the lab's, which are network
// namespaces joined by cables, or by a long link that loses packets. It runs the released binaries as processes of their
// own, with plain TCP in beside the relay and plain TCP out at the agent.
//
// The baselines are the direct connection and a plain TLS pair written for the purpose (package pair). Peers join where
// the environment names their binaries: FRPS and FRPC, CHISEL.
//
// It needs root, and what the lab needs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once, and with it what it started
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		exit(roles[os.Args[1]](ctx, json.NewDecoder(os.Stdin)))
	}
	exit(run(ctx, os.Args[1:]))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A bench is one run of the program.
type bench struct {
	bin     string // folder of the binaries
	quick   bool
	reps    int
	results *results
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{results: newResults()}
	flags.StringVar(&b.bin, "bin", "bin", "`folder` of fairlead-relay and fairlead-agent")
	flags.BoolVar(&b.quick, "quick", false, "a part of the sections, in short windows")
	flags.IntVar(&b.reps, "n", 3, "`repetitions`, interleaved over what is compared")
	only := flags.String("only", "", "run only the sections that match the `regexp`")
	out := flags.String("out", "bench.json", "write the figures to this `file`, and a chart beside it (.svg)")
	list := flags.Bool("list", false, "say which sections there are, and end")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *list {
		for _, s := range sections {
			fmt.Printf("%-10s %s\n", s.name, s.what)
		}
		return nil
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if flags.NArg() > 0 || b.reps < 1 {
		return errors.New("expected -n 1 or more, and no other arguments")
	}
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	err = b.sections(ctx, wanted)
	b.results.print(os.Stdout)
	if n := len(b.results.Failures); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d measurements failed", n))
	}
	return errors.Join(err, b.results.write(*out))
}

// sections runs those that are wanted, and goes on after one that failed.
func (b *bench) sections(ctx context.Context, wanted *regexp.Regexp) error {
	var errs []error
	ran := 0
	for _, s := range sections {
		if ctx.Err() != nil {
			errs = append(errs, errors.New("interrupted"))
			break
		}
		if !wanted.MatchString(s.name) || b.quick && !s.quick && wanted.String() == "" {
			continue
		}
		ran++
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.name, s.what)
		err := act(ctx, func(on *stage) { s.run(b, on) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", s.name, time.Since(began).Seconds())
	}
	if ran == 0 {
		errs = append(errs, fmt.Errorf("no section matches %q", wanted))
	}
	return errors.Join(errs...)
}

// A section is one kind of measurement.
type section struct {
	name, what string
	quick      bool // also in a quick run
	run        func(*bench, *stage)
}

// sections in the order in which they run.
var sections = []section{
	{"bulk", "bytes a second on 1, 8 and 64 streams, each way", true, (*bench).bulk},
	{"rr", "1 KiB and its answer on open connections", true, (*bench).rr},
	{"conn", "connections a second: connect, a byte each way, close; 8 at a time", true, (*bench).conn},
	{"http", "HTTP keep-alive on 32 connections, with the whole gate and without it", true, (*bench).http},
	{"callers", "what the callers' own TLS costs", false, (*bench).callers},
	{"behind", "small calls beside a bulk stream on the same agent", false, (*bench).behind},
	{"idle", "memory of 4,000 open streams on which nothing moves", false, (*bench).idle},
	{"longlink", "bulk over 1 Gbit/s and 50 ms that lose packets", false, (*bench).longlink},
	{"aborted", "8 streams over 1 Gbit/s and 50 ms, right after a bulk stream was cut off", false, (*bench).aborted},
	{"restart", "the first good call after the relay was killed and started again", false, (*bench).restart},
	{"silence", "the first good call after 20 s in which the path carried nothing", false, (*bench).silence},
	{"thousand", "1,000 agents on one relay", false, (*bench).thousand},
}
