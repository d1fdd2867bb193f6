// Command devcerts writes what a trial on one machine needs: two trust domains, their bundles, certificates for a relay,
// an agent and two callers, and an identity provider's keys with two tokens. What is there and still good stays.
//
// It is no authority for anything real: the CA keys lie beside the certificates.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("devcerts", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("out", "", "write to this `folder`, and make it if need be")
	tokens := flags.Bool("token", false, "only mint new tokens, with the keys that are there")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if *dir == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "devcerts: -out FOLDER is expected, and nothing after it")
		return 2
	}
	written, err := write(*dir, *tokens)
	if err != nil {
		fmt.Fprintln(stderr, "devcerts:", err)
		return 1
	}
	fmt.Fprintln(stdout, summary(*dir, written))
	return 0
}
