//go:build !linux

package linktest

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
