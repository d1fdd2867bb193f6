// Command fairlead-relay is the relay of Fairlead; --help lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/fairlead/fairlead/relay"
)

// Stamped by the linker.
var (
	version = "0.0.0"
	commit  = "unknown"
)

// Exit codes: 0 all is well, 1 a failure, 2 a faulty configuration or command line.
const (
	exitFailure = 1
	exitFault   = 2
)

// heapFloor is never touched, so it takes no memory; but the collector counts it, and waits for 32 MiB of garbage instead
// of 4: a tenth of a small call's time.
var heapFloor = make([]byte, 32<<20)

func main() {
	code := run(os.Args[1:], os.Stdout, os.Stderr)
	runtime.KeepAlive(heapFloor)
	os.Exit(code)
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("fairlead-relay"), kong.Description(description),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(streams{stdout, stderr}))
	if err != nil {
		fmt.Fprintln(stderr, "fairlead-relay:", err)
		return exitFailure
	}
	command, err := parser.Parse(args)
	switch {
	case exited >= 0: // --help
		return exited
	case err != nil:
		fmt.Fprintln(stderr, "fairlead-relay:", err)
		return exitFault
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(stderr, err)
		if _, fault := errors.AsType[relay.Faults](err); fault {
			return exitFault
		}
		return exitFailure
	}
	return 0
}

// streams are where a command prints.
type streams struct{ out, err io.Writer }
