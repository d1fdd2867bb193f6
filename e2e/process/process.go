//go:build linux

// Package process runs the programs of an end-to-end test: it starts them, keeps what they write, and ends them with
// the test, also when the test process dies first.
//
// It knows nothing of what the programs do, and does not restart one that ends.
package process

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// patience is how long a program may take between SIGTERM and its end before it is killed.
const patience = 15 * time.Second

// A Process is a running program. Its methods are safe for concurrent use.
type Process struct {
	name string
	cmd  *exec.Cmd
	log  *Log
	done chan struct{} // closed after the program ended and its output was read
	err  error         // what Wait returned; read it after done
}

// Start starts cmd, whose Stdout, Stderr and SysProcAttr it sets, and ends the program when the test ends. The log is
// printed if the test failed.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{name: name, cmd: cmd, log: newLog(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that forked ends, not the process: this goroutine holds the thread for
		// as long as the program lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.log.Tail(16<<10))
		}
	})
	return p
}

// Stop asks the program to end (SIGTERM), kills it and its group after some seconds, and waits. It returns nil when
// the program ended by itself with status 0. Later calls return the same.
func (p *Process) Stop() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM and was killed", p.name, patience)
	}
	return p.err
}

// Kill ends the program and its process group without a word to it, and waits.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	// The group has the program's own id (Setpgid), which stays taken until Wait has reaped it.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // ESRCH: it ended meanwhile
	<-p.done
}

// Interrupt sends what Ctrl-C sends.
func (p *Process) Interrupt() { p.signal(syscall.SIGINT) }

func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(s) // os.ErrProcessDone: it ended meanwhile
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the program's end and returns what exec.Cmd.Wait returned.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Log returns the program's output, which goes on growing while it runs.
func (p *Process) Log() *Log { return p.log }

// Pid returns the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) state() error {
	select {
	case <-p.done:
		if p.err == nil {
			return fmt.Errorf("status 0")
		}
		return p.err
	default:
		return fmt.Errorf("still running")
	}
}
