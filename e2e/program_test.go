//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/process"
	"github.com/fairlead/fairlead/e2e/servers"
)

// A program is a relay or an agent that runs from a file.
type program struct {
	*process.Process
	name   string // the same, or a name of its own where there are several
	half   string // relay or agent
	fast   bool   // without the race detector
	on     servers.Host
	ops    netip.AddrPort
	config string // path of its file
	ids    *identities
	client *http.Client // on its host, for ops
}

// newProgram writes the program's file, to which it adds ops and control, and does not start it yet.
func newProgram(t *testing.T, ids *identities, on servers.Host, name, config string) *program {
	t.Helper()
	return newProgramOf(t, name, ids, on, name, config)
}

// newProgramOf is newProgram for one of several relays or agents, under a name of its own.
func newProgramOf(t *testing.T, half string, ids *identities, on servers.Host, name, config string) *program {
	t.Helper()
	transport := &http.Transport{DialContext: on.DialContext, DisableKeepAlives: true}
	p := &program{
		name:   name,
		half:   half,
		on:     on,
		ops:    servers.FreeLoopbackPort(t, on),
		config: ids.file(name + ".yaml"),
		ids:    ids,
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
	}
	config += fmt.Sprintf("ops: %s\ncontrol: %s.sock\nstate_dir: .\n", p.ops, name)
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// binary builds the program, once per test process, and returns its path.
func (p *program) binary(t *testing.T) string {
	t.Helper()
	folder := p.half + "/cmd/fairlead-" + p.half
	if p.fast {
		return process.BuildFast(t, folder)
	}
	return process.Build(t, folder)
}

// add appends lines to the program's file, before its start.
func (p *program) add(t *testing.T, lines string) {
	t.Helper()
	text, err := os.ReadFile(p.config)
	if err == nil {
		err = os.WriteFile(p.config, append(text, lines...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start runs the program, and returns once the process exists.
func (p *program) start(t *testing.T) {
	t.Helper()
	p.Process = process.Start(t, p.name, p.on.Command(context.WithoutCancel(t.Context()), p.binary(t), "run", "-c", p.config))
	p.ids.watch(fmt.Sprintf("%s (process %d)", p.name, p.Pid()), p.Process)
}

// ready waits until the program says that it is.
func (p *program) ready(t *testing.T) {
	t.Helper()
	p.Ready(t, "be ready", func(ctx context.Context) error {
		_, err := p.get(ctx, "/readyz")
		return err
	})
}

// stop ends the program as a service manager does, and expects it to end well.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Errorf("%s ended with %v; expected a good end after SIGTERM", p.name, err)
	}
}

// get returns what ops answers, and an error for anything but 200.
func (p *program) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.ops.String()+path, nil)
	if err != nil {
		return "", err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", path, response.StatusCode, text)
	}
	return string(text), err
}

// command runs one of the program's other commands to its end and returns its output.
func (p *program) command(t *testing.T, args ...string) string {
	t.Helper()
	return process.Run(t, p.on.Command(t.Context(), p.binary(t), args...))
}
