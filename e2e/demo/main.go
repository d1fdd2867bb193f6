// Command demo shows Fairlead at work on one machine: it makes certificates and tokens, starts the real relay and agent
// and a small orders API, and walks through calls that work and calls that are refused. Without -once it stays up, so
// that the printed curl lines can be tried.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the binaries")
	dir := flag.String("dir", ".demo", "folder for certificates, configuration and logs; made anew")
	once := flag.Bool("once", false, "end after the steps; status 0 only if every step came out as told")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *bin, *dir, *once); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, dir string, once bool) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	s, err := newStage(bin, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.play(ctx); err != nil {
		return err
	}
	if once {
		return nil
	}
	s.invite()
	<-ctx.Done()
	fmt.Println()
	return nil
}
