//go:build linux

package process

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"sync"
)

// maxLog bounds what a process may write before Log stops keeping it: 32 MiB, far above what any server here says.
const maxLog = 32 << 20

// Log keeps what a process wrote, in order, standard output and standard error together. It is safe for concurrent
// use.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer  // guarded by mu
	dropped int           // guarded by mu; bytes beyond maxLog
	grown   chan struct{} // guarded by mu; closed and replaced at each write
}

func newLog() *Log { return &Log{grown: make(chan struct{})} }

// Write implements io.Writer and never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len()+len(p) > maxLog {
		l.dropped += len(p)
	} else {
		l.text.Write(p)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return len(p), nil
}

// String returns everything written so far, and a last line that says how much was too much to keep.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped > 0 {
		return fmt.Sprintf("%s\n[%d bytes more were dropped]\n", l.text.String(), l.dropped)
	}
	return l.text.String()
}

// Tail returns at most the last n bytes.
func (l *Log) Tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}

// Find waits until the log matches re and returns the submatches. It fails when ctx or the process ends first.
func (p *Process) Find(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	for {
		p.log.mu.Lock()
		found := re.FindStringSubmatch(p.log.text.String())
		grown := p.log.grown
		p.log.mu.Unlock()
		if found != nil {
			return found, nil
		}
		select {
		case <-grown:
		case <-p.done:
			// What was written last may have come between the look and the end.
			if found := re.FindStringSubmatch(p.log.String()); found != nil {
				return found, nil
			}
			return nil, fmt.Errorf("%s ended (%v) before it wrote %s", p.name, p.state(), re)
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s to write %s: %w", p.name, re, ctx.Err())
		}
	}
}
