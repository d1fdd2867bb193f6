//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// defaultCongestion is what most machines on the internet run.
const defaultCongestion = "cubic"

// allowed lists what namespaces may choose. The list is the machine's, and only real root may write it.
const allowed = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"

// setCongestion chooses TCP's congestion control for the host's sockets that choose none themselves. Where the machine
// keeps the algorithm from namespaces, root adds it to the list of those that are open to all, where it stays until
// the next boot. Without root the machine's own remains where nothing was asked for.
func (l *Lab) setCongestion(h *Host, asked string) error {
	const key = "net/ipv4/tcp_congestion_control"
	want := asked
	if want == "" {
		want = defaultCongestion
	}
	err := h.set(key, want)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	if err = open(want); err == nil {
		err = h.set(key, want)
	}
	if errors.Is(err, os.ErrPermission) && asked == "" {
		l.t.Logf("the lab's hosts use the machine's own TCP congestion control: %v", err)
		return nil
	}
	return err
}

func open(algorithm string) error {
	list, err := os.ReadFile(allowed)
	if err != nil {
		return err
	}
	algorithms := strings.Fields(string(list))
	if slices.Contains(algorithms, algorithm) {
		return nil
	}
	if err := os.WriteFile(allowed, []byte(strings.Join(append(algorithms, algorithm), " ")), 0); err != nil {
		return fmt.Errorf("allowing namespaces to use %s: %w", algorithm, err)
	}
	return nil
}
