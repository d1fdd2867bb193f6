//go:build linux

package e2e

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/process"
)

func TestMain(m *testing.M) {
	lab.Enter()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := process.RemoveBuilt(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}
