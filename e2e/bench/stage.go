//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// A stage is the testing.TB that a section's lab and programs hang on: what it started ends with it.
type stage struct {
	testing.TB // nil: whatever the lab and the programs have no use for is not there
	ctx        context.Context

	mu       sync.Mutex
	cleanups []func() // guarded by mu
	errs     []error  // guarded by mu
}

// act runs f on a stage and takes the stage down. It returns what went wrong in either.
func act(ctx context.Context, f func(*stage)) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &stage{ctx: ctx}
	done := make(chan struct{})
	go func() { // of its own, because Fatal ends it
		defer close(done)
		f(s)
	}()
	<-done
	cancel()
	for {
		s.mu.Lock()
		last := len(s.cleanups) - 1
		if last < 0 {
			s.mu.Unlock()
			return errors.Join(s.errs...)
		}
		cleanup := s.cleanups[last]
		s.cleanups = slices.Delete(s.cleanups, last, last+1)
		s.mu.Unlock()
		cleanup()
	}
}

func (s *stage) Context() context.Context { return s.ctx }

func (s *stage) Helper() {}

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.errs) > 0
}

func (s *stage) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

// Fatalf is Errorf, and ends the goroutine that calls it, which is the section's.
func (s *stage) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

func (s *stage) Fatal(args ...any) { s.Fatalf("%s", fmt.Sprint(args...)) }

// Skip is Fatal: a benchmark that leaves something out in silence misleads.
func (s *stage) Skip(args ...any) { s.Fatal(args...) }

func (s *stage) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
