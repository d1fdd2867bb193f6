package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is one program of the demo, its output in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error // how it ended, once done is closed
}

// start runs bin/name with args; its output is appended to logs/as.log.
func (s *stage) start(as, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(s.dir, as+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{name: as, cmd: exec.Command(filepath.Join(s.bin, name), args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), log.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	s.running = append(s.running, p)
	return p, nil
}

// stop asks p to end and kills it when it does not within ten seconds.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		return errors.Join(fmt.Errorf("%s did not end when asked", p.name), p.kill())
	}
	return p.log.Close()
}

// kill ends p without a word to it, as a crash would.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return p.log.Close()
}

// await asks until ask returns nil; it gives up after 20 s, or when p has ended.
func (p *process) await(ctx context.Context, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was %s; see %s", p.name, what, p.log.Name())
		case <-ctx.Done():
			return fmt.Errorf("%s is not %s: %w; see %s", p.name, what, err, p.log.Name())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
