//go:build linux

package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticks are those of /proc a second; the kernel's interface has them fixed.
const ticks = 100

// CPU returns the seconds of user and system time that a process has used, to 10 ms.
func CPU(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, which may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3 // fields from 1, of which the first two are cut off
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/%d/stat: expected more fields than %d", pid, len(fields))
	}
	user, err := strconv.ParseUint(fields[utime], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseUint(fields[stime], 10, 64)
	return float64(user+system) / ticks, err
}

// RSS returns the bytes of memory that a process holds.
func RSS(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: expected a line VmRSS", pid)
}

// all returns the CPU time of several processes.
func all(pids []int) ([]float64, error) {
	seconds := make([]float64, len(pids))
	for i, pid := range pids {
		var err error
		if seconds[i], err = CPU(pid); err != nil {
			return nil, err
		}
	}
	return seconds, nil
}
